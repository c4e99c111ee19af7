"""What NAS-Bench-201's cells are made of (Dong and Yang 2020, section 2.1); network and space share it."""

from __future__ import annotations

# In order of cost.
OPERATIONS = ("none", "skip_connect", "avg_pool_3x3", "nor_conv_1x1", "nor_conv_3x3")
EDGES = 6
WIDTHS = (16, 32, 64)
CELLS = 5
