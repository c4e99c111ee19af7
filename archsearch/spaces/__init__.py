"""Student families, one file each. Adding a family is adding a file that registers a `Space`."""

from archsearch.spaces.space import Cost, Parameter, Space, TimmModel, spaces

__all__ = ["Cost", "Parameter", "Space", "TimmModel", "spaces"]
