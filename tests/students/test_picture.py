"""The picture of a front: whole as XML, told in words, with nothing upon anything else and nobody left out unsaid."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import pytest

from archsearch.students import draw

SVG = "{http://www.w3.org/2000/svg}"
ACC = {"key": "acc", "name": "accuracy", "unit": "%", "better": "higher"}
NATS = {"key": "nll", "name": "loss", "unit": "nats", "better": "lower"}


def student(number: int, cost: float, acc: float | None, **more: Any) -> dict[str, Any]:
    limits = {"params": float(2 * cost)}
    return {
        "student": number,
        "params": cost,
        "limits": limits,
        "test_acc": acc,
        "failed": None,
        "same_as": None,
        **more,
    }


def front(*students: Any, **changes: Any) -> dict[str, Any]:
    teacher = {"name": "<big> & 'good'", "params": 50_000, "test_acc": 93.0}
    return {"against": "params", "judged_by": ACC, "images": 359, "teacher": teacher, "students": list(students),
            "stock": [], **changes}  # fmt: skip


def parsed(asked: dict[str, Any]) -> ElementTree.Element:
    return ElementTree.fromstring(draw(asked))


def texts(root: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{SVG}text")]


def test_it_says_in_words_what_it_shows() -> None:
    failed = {"student": 3, "limits": {"params": 900}, "failed": "diverged", "same_as": None}
    same = student(4, 4_000, 70.0, same_as=2)
    stock = [{"network": "resnet18.a1_in1k", "params": 11e6, "test_acc": 61.2}]
    root = parsed(front(student(1, 9_000, 80.0), student(2, 4_000, 70.0), failed, same, stock=stock))
    assert root.attrib["role"] == "img"
    title, desc = (root.find(f"{SVG}{name}") for name in ("title", "desc"))
    assert title is not None
    assert desc is not None
    assert root.attrib["aria-labelledby"].split() == [title.attrib["id"], desc.attrib["id"]]
    assert title.text == "Accuracy against parameters"
    assert desc.text == (
        "Teacher <big> & 'good': 93.00 % at 50k parameters. Student 1: 80.00 % at 9k parameters. Student 2: 70.00 % at "
        "4k parameters. Student 3 did not come about. Student 4 is student 2. resnet18.a1_in1k, by a linear probe: "
        "61.20 % at 11M parameters."
    )
    assert "student 3 did not come about; student 4 is student 2" in texts(root)


def test_a_student_stands_where_its_cost_and_its_figure_are() -> None:
    root = parsed(front(student(1, 10_000, 80.0, interval=[75.0, 84.0]), student(2, 1_000, 60.0)))
    dots = [(float(c.attrib["cx"]), float(c.attrib["cy"])) for c in root.iter(f"{SVG}circle")][:2]
    assert sorted(dots) == [dots[1], dots[0]], "the cheaper to the left"
    assert dots[0][1] < dots[1][1], "the better above"
    (line,) = (p.attrib["points"] for p in root.iter(f"{SVG}polyline"))
    assert line == " ".join(f"{x},{y}" for x, y in sorted(dots))
    limits = [line for line in root.iter(f"{SVG}line") if line.attrib.get("stroke-dasharray") == "2 4"]
    assert [float(line.attrib["x1"]) > x for line, (x, _) in zip(limits, dots, strict=True)] == [True, True]
    assert {"1: ≤ 20k", "2: ≤ 2k", "1: 80.0 %", "2: 60.0 %"} <= set(texts(root))


def test_names_do_not_lie_upon_each_other_however_close_the_points() -> None:
    stock = [
        {"network": f"a_network_of_some_name.{i}", "params": 5_000 + i, "test_acc": 70.0 + i / 10} for i in range(12)
    ]
    root = parsed(front(student(1, 9_000, 80.0), stock=stock))
    boxes = []
    for text in root.iter(f"{SVG}text"):
        if (text.text or "").startswith("a_network"):
            x, y, size = (float(text.attrib[name]) for name in ("x", "y", "font-size"))
            wide = 0.5 * size * len(text.text or "")
            left = x - {"start": 0.0, "end": wide, "middle": wide / 2}[text.attrib["text-anchor"]]
            boxes.append((left, y - size, left + wide, y))
    assert 2 <= len(boxes) <= 12, "those for which there is no room are left without"
    assert len(list(root.iter(f"{SVG}rect"))) == 1 + 12 + 1, "but they are all there"
    for i, one in enumerate(boxes):
        for other in boxes[:i]:
            assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


@pytest.mark.parametrize(
    "asked",
    [
        front(student(1, 9_000, 80.0), student(2, 9_000, 80.0)),
        front(student(1, 9_000, None)),
        front(student(1, 9_000, 0.0), teacher={"name": "t", "params": None, "test_acc": 100.0}),
        front(student(1, 9_000, None), teacher={"name": "t", "params": None, "test_acc": None}),
        front(
            {**student(1, 9_000, None), "test_nll": 0.4},
            judged_by=NATS,
            teacher={"name": "t", "params": 20_000, "test_nll": 0.25},
        ),
    ],
)
def test_whatever_is_missing_or_equal_there_is_a_picture(asked: dict[str, Any]) -> None:
    drawn = draw(asked)
    parsed(asked)
    assert not re.search(r"nan|inf|None", drawn.lower().replace("information", "").replace('none"', ""))


def test_nothing_in_it_runs_or_is_fetched() -> None:
    drawn = draw(front(student(1, 9_000, 80.0), teacher={"name": "<script>x</script>", "params": 1, "test_acc": 1.0}))
    assert "<script" not in drawn
    assert re.findall(r"https?://[^\"]+", drawn) == ["http://www.w3.org/2000/svg"]
