"""The picture of a front: what networks reach against what they cost, as an SVG for eyes and for screen readers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from archsearch.unit import written

Point = Mapping[str, Any]

_WIDTH, _HEIGHT = 820, 500
_LEFT, _RIGHT, _TOP, _BOTTOM = 78, 28, 74, 112
_INK, _PALE, _STUDENT, _TEACHER, _STOCK = "#1e1e1e", "#dedede", "#1f5aa0", "#be3728", "#6b6b6b"
# What a letter takes, of its size: near enough for names that are not to lie upon each other.
_LETTER = 0.56
_CALLED = {
    "params": ("parameters", ""),
    "macs": ("multiply-accumulates", ""),
    "size_bytes": ("bytes of weights", "B"),
    "peak_activation_bytes": ("bytes of activations", "B"),
    "latency_ms": ("milliseconds", "ms"),
}


@dataclass(frozen=True)
class _Axes:
    """From costs (in logarithm) and metrics to pixels."""

    costs: tuple[float, float]
    worths: tuple[float, float]

    def x(self, cost: float) -> float:
        low, high = map(math.log, self.costs)
        return _LEFT + (math.log(cost) - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, worth: float) -> float:
        low, high = self.worths
        return _HEIGHT - _BOTTOM - (worth - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)


@dataclass
class _Names:
    """Names beside points, none upon another or upon a point."""

    taken: list[tuple[float, float, float, float]] = field(default_factory=list)

    def hold(self, x: float, y: float, radius: float) -> None:
        self.taken.append((x - radius, y - radius, x + radius, y + radius))

    def hold_line(self, points: Sequence[tuple[float, float]]) -> None:
        """Keep names off a line, as far as steps of some pixels tell."""
        for (x, y), (there_x, there_y) in itertools.pairwise(points):
            steps = max(1, math.ceil(math.hypot(there_x - x, there_y - y) / 8))
            for i in range(steps + 1):
                self.hold(x + (there_x - x) * i / steps, y + (there_y - y) * i / steps, 2)

    def place(self, text: str, x: float, y: float, size: int) -> tuple[float, float, str] | None:
        """Where a name begins, or ends, and which: to the right of a point, to the left, above or below; None where
        there is no room."""
        wide = _LETTER * size * len(text)
        for dx, dy, anchor in _PLACES:
            left = x + dx - (0 if anchor == "start" else wide if anchor == "end" else wide / 2)
            box = (left, y + dy - size, left + wide, y + dy + 0.3 * size)
            inside = (
                box[0] >= _LEFT + 2 and box[2] <= _WIDTH - 4 and box[1] >= _TOP - 14 and box[3] <= _HEIGHT - _BOTTOM
            )
            if inside and not any(_meet(box, other) for other in self.taken):
                self.taken.append(box)
                return x + dx, y + dy, anchor
        return None


_PLACES = (
    (10, 4, "start"), (-10, 4, "end"), (0, -11, "middle"), (0, 21, "middle"),
    (9, -9, "start"), (-9, -9, "end"), (9, 17, "start"), (-9, 17, "end"),
    (0, -26, "middle"), (0, 36, "middle"),
)  # fmt: skip


def _meet(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def draw(front: Mapping[str, Any]) -> str:
    """The SVG of a comparison: students joined by a line, each with its limit; the teacher; networks with weights.

    Args:
        front: What `front.json` holds. A network without a cost or a figure in its units is left out, and named.
    """
    against, judge = front["against"], front["judged_by"]
    key = f"test_{judge['key']}"
    students = [row for row in front["students"] if not row.get("failed")]
    drawn = [row for row in students if row.get("same_as") is None and _cost(row, against) and row.get(key) is not None]
    stock = [row for row in front["stock"] if _cost(row, against) and row.get(key) is not None]
    teacher = front["teacher"]
    reached = [row[key] for row in (*drawn, *stock, teacher) if row.get(key) is not None]
    spans = [end for row in (*drawn, teacher) for end in row.get("interval", ())]
    costs = [_cost(row, against) for row in (*drawn, *stock, teacher)]
    limits = [row["limits"][against] for row in students if against in row.get("limits", {})]
    if not reached or not any(costs):
        return _page(front, [_text(_WIDTH / 2, _HEIGHT / 2, "nothing could be measured", 15, "middle")])
    axes = _Axes(_log_range([c for c in (*costs, *limits) if c]), _range([*reached, *spans], judge["unit"]))
    names, parts = _Names(), [*_grid(axes, against, judge, front["images"])]
    for row in students:
        if against in row.get("limits", {}):
            parts += _limit(axes, row, row["limits"][against], against)
    points = [
        *((row, _cost(row, against), _STUDENT) for row in drawn),
        *((row, _cost(row, against), _STOCK) for row in stock),
        *(
            ((teacher, _cost(teacher, against), _TEACHER),)
            if _cost(teacher, against) and teacher.get(key) is not None
            else ()
        ),
    ]
    for row, cost, _ in points:
        names.hold(axes.x(cost), axes.y(row[key]), 7)
    if teacher.get(key) is not None:
        parts += _teacher_line(axes, teacher[key])
        names.hold_line([(_LEFT, axes.y(teacher[key])), (_WIDTH - _RIGHT, axes.y(teacher[key]))])
    line = sorted((axes.x(_cost(row, against)), axes.y(row[key])) for row in drawn)
    parts.append(f'<polyline fill="none" stroke="{_STUDENT}" stroke-width="2" points="{_path(line)}"/>')
    names.hold_line(line)
    for row, cost, colour in sorted(points, key=lambda point: point[2] == _STOCK):
        parts += _point(axes, names, row, cost, row[key], colour, judge["unit"])
    return _page(front, [*parts, *_legend(front, len(stock))])


def _cost(row: Point, against: str) -> float:
    """A network's cost: a latency as timed, where it was."""
    measured = row.get("measured") or {}
    return measured.get(against) or row.get(against) or 0


def _log_range(costs: Sequence[float]) -> tuple[float, float]:
    """A little more than the costs there are."""
    low, high = min(costs), max(costs)
    room = max((high / low) ** 0.1, 1.15)
    return low / room, high * room


def _range(worths: Sequence[float], unit: str) -> tuple[float, float]:
    """A little more than the figures there are; of shares, nothing beyond all."""
    low, high = min(worths), max(worths)
    room = max(0.12 * (high - low), 1.0 if unit == "%" else 0.02 * max(abs(low), abs(high)), 1e-6)
    return (max(0.0, low - room) if low >= 0 else low - room), (min(100.0, high + room) if unit == "%" else high + room)


def _steps(low: float, high: float, most: int = 7) -> list[float]:
    """Round numbers between two."""
    rough = (high - low) / most
    base = 10.0 ** math.floor(math.log10(rough))
    step = next(base * times for times in (1, 2, 5, 10) if base * times >= rough)
    return [round(step * i, 10) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _log_steps(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten between two; more where these are few, fewer where they are many."""
    for digits in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8), tuple(i / 10 for i in range(10, 100))):
        powers = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
        found = [digit * 10.0**power for power in powers for digit in digits if low <= digit * 10.0**power <= high]
        if len(found) >= 4:
            return found[:: math.ceil(len(found) / 9)]
    return found


def _grid(axes: _Axes, against: str, judge: Mapping[str, Any], images: int) -> Iterator[str]:
    floor, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    for worth in _steps(*axes.worths):
        y = axes.y(worth)
        yield f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="{_PALE}"/>'
        yield _text(_LEFT - 8, y + 4, f"{worth:g}", 12, "end")
    for cost in _log_steps(*axes.costs):
        x = axes.x(cost)
        yield f'<line x1="{x:.1f}" y1="{floor}" x2="{x:.1f}" y2="{floor + 5}" stroke="{_INK}"/>'
        yield _text(x, floor + 19, short(cost), 12, "middle")
    yield f'<line x1="{_LEFT}" y1="{floor}" x2="{right}" y2="{floor}" stroke="{_INK}"/>'
    yield _text((_LEFT + right) / 2, floor + 39, f"{_CALLED[against][0]} (logarithmic)", 13, "middle")
    unit = f", {judge['unit']}" if judge["unit"] else ""
    better = "" if judge["better"] == "higher" else " (lower is better)"
    name = f"{judge['name']} on {images:,} test examples{unit}{better}"
    x, y = 20, (_TOP + floor) / 2
    turned = f'transform="rotate(-90 {x} {y:.0f})"'
    yield f'<text x="{x}" y="{y:.0f}" font-size="13" text-anchor="middle" fill="{_INK}" {turned}>{escape(name)}</text>'


def _limit(axes: _Axes, row: Point, limit: float, against: str) -> Iterator[str]:
    """A line at the most a student may cost, with its number at the top."""
    x = axes.x(limit)
    style = f'stroke="{_STUDENT}" stroke-dasharray="2 4" stroke-opacity="0.7"'
    yield f'<line x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{_HEIGHT - _BOTTOM}" {style}/>'
    told = f"{row['student']}: ≤ {short(limit)}{_CALLED[against][1] and ' ' + _CALLED[against][1]}"
    yield _text(x, _TOP - 6 - 12 * ((row["student"] + 1) % 2), told, 11, "middle", _STUDENT)


def _teacher_line(axes: _Axes, worth: float) -> Iterator[str]:
    y = axes.y(worth)
    style = f'stroke="{_TEACHER}" stroke-dasharray="6 4" stroke-opacity="0.6"'
    yield f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}" {style}/>'


def _point(axes: _Axes, names: _Names, row: Point, cost: float, worth: float, colour: str, unit: str) -> Iterator[str]:
    """A mark with its name beside it: a circle with its interval, a diamond, or a square for what was not trained."""
    x, y = axes.x(cost), axes.y(worth)
    told = f"{worth:.1f} %" if unit == "%" else f"{worth:.3g}"
    if colour == _STOCK:
        name, size = str(row["network"]), 11
        place = f'x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8"'
        yield f'<rect {place} fill="white" stroke="{colour}" stroke-width="1.5"/>'
    elif colour == _TEACHER:
        name, size = f"teacher {told}", 13
        corners = _path([(x, y - 8), (x + 8, y), (x, y + 8), (x - 8, y)])
        yield from _whisker(axes, x, row, colour)
        yield f'<polygon points="{corners}" fill="{colour}"/>'
    else:
        name, size = f"{row['student']}: {told}", 13
        yield from _whisker(axes, x, row, colour)
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6" fill="{colour}"/>'
    beside = names.place(name, x, y, size)
    if beside is not None:
        yield _text(beside[0], beside[1], name, size, beside[2], colour, bold=colour == _STUDENT)


def _whisker(axes: _Axes, x: float, row: Point, colour: str) -> Iterator[str]:
    if "interval" in row:
        low, high = map(axes.y, row["interval"])
        yield f'<line x1="{x:.1f}" y1="{low:.1f}" x2="{x:.1f}" y2="{high:.1f}" stroke="{colour}" stroke-opacity="0.5"/>'


def _legend(front: Mapping[str, Any], stock: int) -> Iterator[str]:
    """What the marks are, and who is not there."""
    x, y, lines = float(_LEFT), _HEIGHT - 46, []
    bars = " (bar: 95 % interval)" if any("interval" in row for row in front["students"]) else ""
    told = f"student, with its limit{bars}"
    yield f'<circle cx="{x + 6}" cy="{y - 4}" r="6" fill="{_STUDENT}"/>'
    yield _text(x + 18, y, told, 12)
    x += 40 + 0.5 * 12 * len(told)
    yield f'<polygon points="{_path([(x + dx, y - 4 + dy) for dx, dy in _DIAMOND])}" fill="{_TEACHER}"/>'
    yield _text(x + 12, y, "teacher", 12)
    x += 84
    if stock:
        yield f'<rect x="{x}" y="{y - 8}" width="8" height="8" fill="white" stroke="{_STOCK}" stroke-width="1.5"/>'
        yield _text(x + 14, y, "network with weights, by a linear probe (not trained)", 12)
    for row in front["students"]:
        if row.get("failed"):
            lines.append(f"student {row['student']} did not come about")
        elif row.get("same_as") is not None:
            lines.append(f"student {row['student']} is student {row['same_as']}")
    if lines:
        yield _text(_LEFT, y + 22, "; ".join(lines), 12)


_DIAMOND = ((0, -7), (7, 0), (0, 7), (-7, 0))


def _page(front: Mapping[str, Any], parts: Sequence[str]) -> str:
    against, judge = front["against"], front["judged_by"]
    title = f"{judge['name'][:1].upper()}{judge['name'][1:]} against {_CALLED[against][0]}"
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
        f'height="{_HEIGHT}" role="img" aria-labelledby="title desc" '
        'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif">\n'
        f'<title id="title">{escape(title)}</title>\n<desc id="desc">{escape(told(front))}</desc>\n'
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>\n'
        f"{_text(_LEFT, 30, title, 17, bold=True)}\n{body}\n</svg>\n"
    )


def told(front: Mapping[str, Any]) -> str:
    """The picture in words."""
    against, judge = front["against"], front["judged_by"]
    key, (noun, unit) = f"test_{judge['key']}", _CALLED[front["against"]]
    noun = "" if unit else f" {noun}"

    def one(name: str, row: Point) -> str:
        cost, worth = _cost(row, against), row.get(key)
        costs = f"{short(cost)}{unit and ' ' + unit}{noun}" if cost else "a cost that is not known"
        return f"{name}: {'not measured' if worth is None else written(worth, judge['unit'])} at {costs}."

    lines = [one(f"Teacher {front['teacher']['name']}", front["teacher"])]
    for row in front["students"]:
        if row.get("failed"):
            lines.append(f"Student {row['student']} did not come about.")
        elif row.get("same_as") is not None:
            lines.append(f"Student {row['student']} is student {row['same_as']}.")
        else:
            lines.append(one(f"Student {row['student']}", row))
    lines += [one(f"{row['network']}, by a linear probe", row) for row in front["stock"]]
    return " ".join(lines)


def short(value: float) -> str:
    """1200000 as 1.2M, and 0.25 as it is."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"


def _text(
    x: float, y: float, text: str, size: int, anchor: str = "start", colour: str = _INK, *, bold: bool = False
) -> str:
    weight = ' font-weight="600"' if bold else ""
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"'
    # A white edge, so that what is written over a line can be read.
    edge = 'paint-order="stroke" stroke="white" stroke-width="3" stroke-linejoin="round"'
    return f'<text {place} fill="{colour}"{weight} {edge}>{escape(text)}</text>'


def _path(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
