"""Units of what is measured, and which way is better: how figures are written, and which of two is the better one."""

from __future__ import annotations

from typing import Any, Literal

# Of a hundred, natural units of information, or none: a coefficient.
Unit = Literal["%", "nats", ""]
Direction = Literal["higher", "lower"]


def written(value: float, unit: str = "%") -> str:
    """A figure as people read it: `91.30 %`, `0.412 nats`, `0.873`."""
    return f"{value:.2f} %" if unit == "%" else f"{value:.3f} {unit}".rstrip()


def unit_of(told: Any) -> str:
    """The unit of a result's, a report's or a verification's figures; before any was told, all were percentages."""
    return str((told.get("judged_by") or {}).get("unit", "%"))
