"""Several students of one request: their limits, and all of them beside what somebody would take instead."""

from archsearch.students.picture import draw
from archsearch.students.stock import HOW, images_of, probe
from archsearch.students.tiers import Tier, settled, tiers

__all__ = ["HOW", "Tier", "draw", "images_of", "probe", "settled", "tiers"]
