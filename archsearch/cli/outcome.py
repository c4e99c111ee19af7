"""What a run came to, in four sentences and the next command: where `search`, `distill`, `watch` and `show` end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from archsearch.cli.display import cost_text, show_front, show_students, show_verified
from archsearch.progress import count, duration
from archsearch.spaces.choose import PRETRAINED
from archsearch.unit import written

Result = Mapping[str, Any]

# What is reached on a split, where its metric's name alone would not say it best.
_SAID = {
    "acc": "{}",
    "map": "mAP {}",
    "balanced_acc": "balanced accuracy {} (its classes are uneven)",
}
# What decides where no example has a label.
AGREEMENT = "agreement"
# What a request left open, as people call it.
_CHOSEN = {"distill": "recipe", "init": "beginnings", "verify": "verification", "students": "students"}


def tell(result: Result, source: str) -> None:
    """The tables of a result, what they come to, and what to do next.

    Args:
        source: The folder the result lies in, or the id of the job it is of.
    """
    found = result.get("search")
    if found is not None and (found["traded"] != "params" or len(found["front"]) > 1):
        show_front(found["front"], found["traded"], found["winner"]["number"], found.get("costs_of"))
    if "verify" in result:
        show_verified(result["verify"])
    for part, why in result.get("chosen", {}).items():
        click.echo(f"{_CHOSEN.get(part, part)}: {why}")
    if "students" in result:
        show_students(result)
    if already := instead(result):
        click.echo(already)
    for sentence in sentences(result, source):
        click.echo(sentence)
    if result.get("degraded"):
        click.secho("degraded: this student is not a success; see the warning above", err=True, fg="red", bold=True)
    click.echo(f"\nnext: {after(result, source)}")


def sentences(result: Result, source: str) -> list[str]:
    """Four of them."""
    found = _of_student(result, source) if "student" in result else _of_search(result, source)
    return [*found, *_of_others(result, source)]


def _of_others(result: Result, source: str) -> list[str]:
    """Where the other students lie, if there are any, and the picture of all."""
    if "student" not in result or "students" not in result:
        return []
    start = "" if source.startswith("job_") else f"{source}/"
    beside = [
        row["folder"] for row in result["students"] if row["same_as"] is None and row["folder"] not in (None, ".")
    ]
    lie = "lies" if len(beside) == 1 else "lie"
    others = [f"Beside it {lie} {' and '.join(start + folder for folder in beside)}."] if beside else []
    return [*others, f"A picture of them all is {start}front.svg."]


def instead(result: Result) -> str:
    """The network with weights that meets the budget before any training, if one does; nothing where it is the student,
    or no network was at hand to tell."""
    best = (result.get("pretrained") or {}).get("best")
    if best is None or all(best[part] == chosen(result)[part] for part in ("space", "architecture")):
        return ""
    latency = f", {cost_text(best, 'latency_ms')}" if best["latency_ms"] is not None or "measured" in best else ""
    size = f"{count(best['params'])} parameters, {count(best['macs'])} MACs{latency}"
    return f"A network with weights meets the budget already: {best['network']} ({size}), at {best['score']:.2f} nats."


def after(result: Result, source: str) -> str:
    """The command most people want next."""
    of_job = source.startswith("job_")
    if "student" in result:
        if of_job:
            return f"archsearch download {source} --out student"
        from archsearch.export.student import domain_of

        return f"archsearch predict {source} {domain_of(source).an_example}"
    number = chosen(result)["number"]
    command = "submit" if of_job else "distill"
    return f"archsearch {command} --from {source} --candidate {number}" + ("" if of_job else " --out student")


def chosen(result: Result) -> Mapping[str, Any]:
    """The winner: of the verification, where there was one, else of the search."""
    found: Mapping[str, Any] = result["verify"]["winner"] if "verify" in result else result["search"]["winner"]
    return found


def judged(scores: Mapping[str, Any], by: Mapping[str, str] | None = None) -> tuple[str, str]:
    """What a network reached on the test split, and how that is said.

    Args:
        by: What the task is judged by; results of before did not tell.
    """
    key = by["key"] if by else next(key for key in ("map", "balanced_acc", "acc") if f"test_{key}" in scores)
    name = _SAID.get(key, f"{by['name'] if by else key} {{}}")
    return written(scores[f"test_{key}"], by["unit"] if by else "%"), name.format("on the test split")


def network(space: str, architecture: Mapping[str, int], result: Result | None = None) -> str:
    """`resnet_cifar depth1=3 width1=16`; of a network with weights its name, where the result tells of it."""
    names = ((result or {}).get("pretrained") or {}).get("networks", [])
    if space == PRETRAINED and architecture["network"] < len(names):
        return str(names[architecture["network"]])
    return " ".join((space, *(f"{name}={value}" for name, value in architecture.items())))


def _of_search(result: Result, source: str) -> list[str]:
    found, best, teacher = result["search"], chosen(result), result["teacher"]
    failed = f" and {found['candidates_failed']} could not be" if found["candidates_failed"] else ""
    votes = result["search"]["winner"]["votes"]
    loudest = ", ".join(f"{name} {votes[name]:+.2f}" for name in sorted(votes, key=lambda name: -abs(votes[name]))[:3])
    kept = f"archsearch pareto {source}" if source.startswith("job_") else f"{source}/candidates.jsonl"
    return [
        f"{found['candidates_scored']} candidates of {', '.join(found['spaces'])} were scored{failed}, "
        f"in {duration(found['seconds'])}.",
        f"The winner is number {best['number']}: {network(best['space'], best['architecture'], result)}.",
        f"It has {_size(best, teacher)}, and scores {best['score']:.2f} nats ({loudest}).",
        f"Others can be had by number: {kept} lists them.",
    ]


def _of_student(result: Result, source: str) -> list[str]:
    student, teacher = result["student"], result["teacher"]
    by = result.get("judged_by")
    reached, where = judged(student, by)
    alone = f", and {judged(student['baseline'], by)[0]} without it" if student.get("baseline") else ""
    seeds = f"the best of {len(student['seeds'])} seeds, " if len(student["seeds"]) > 1 else ""
    why = f" ({student['why']})" if student.get("why") else ""
    formats = [name for name, row in student.get("formats", {}).items() if "missing" not in row]
    called = student.get("begins_as") or network(student["space"], student["architecture"], result)
    lies = f"It waits on the server as {source}" if source.startswith("job_") else f"It lies in {source}"
    return [
        _agreed(reached)
        if by and by["key"] == AGREEMENT
        else f"The student reaches {reached} {where}, its teacher {judged(teacher, by)[0]}{alone}.",
        f"It is {called}, with {_size(student, teacher)}{_begun(student)}.",
        f"It learned by {student['method']}{why}, {seeds}in {student['epochs']} epochs and "
        f"{duration(student.get('seconds', 0.0))}{_computed(student)}.",
        f"{lies}{', as ' + ', '.join(formats) if formats else ''}.",
    ]


def _agreed(reached: str) -> str:
    """What it reached where there was no label to be right by."""
    return f"The student agrees with its teacher on {reached} of the test split; no label was seen, of either."


def _begun(student: Mapping[str, Any]) -> str:
    """What it began with, where that is not noise."""
    weights = {"teacher": "its teacher's weights", "pretrained": "the weights it comes with"}
    return f", and began with {weights[start]}" if (start := student.get("start")) in weights else ""


def _computed(student: Mapping[str, Any]) -> str:
    """What its training was computed in, where that was measured."""
    why = student.get("recipe", {}).get("precision_why", "")
    return f", computed in {why}" if why.endswith("measured") else ""


def _size(network: Mapping[str, Any], teacher: Mapping[str, Any]) -> str:
    share = 100 * network["params"] / teacher["params"]
    return f"{count(network['params'])} parameters ({share:.2f} % of the teacher's) and {count(network['macs'])} MACs"
