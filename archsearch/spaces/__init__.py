"""Student families, one file each. Adding a family is adding a file that registers a `Space`."""

from archsearch.spaces.count import Cost, Count
from archsearch.spaces.space import Parameter, Space, TimmModel, spaces

__all__ = ["Cost", "Count", "Parameter", "Space", "TimmModel", "spaces"]
