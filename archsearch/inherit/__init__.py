"""Students that begin with their teacher's weights: which channels and blocks are kept, and what is mended after."""

from archsearch.inherit.layout import Unsliceable
from archsearch.inherit.start import Inheritance, make_ready

__all__ = ["Inheritance", "Unsliceable", "make_ready"]
