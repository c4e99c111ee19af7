"""One of several students: what is known of it while the story goes on, and the row a result has of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from archsearch import choice, domains
from archsearch.ledger.ledger import Report
from archsearch.story.story import Story
from archsearch.students import Tier

# In what a phase has told, why there is no such student.
NONE = "no_student"
# What a row has of a trained student.
_TRAINED = ("method", "epochs", "seed", "begins_as", "seconds", "formats")


@dataclass(frozen=True)
class One:
    """One of several students, and what is known of it so far.

    Attributes:
        story: As if it had been asked for alone.
        found: What its search came to; of this and of what follows, why there is no student, where there is none.
        verified: What brief distillation told of the best.
        trained: What its distillation came to.
        same_as: Number of the student before it that is the same network.
    """

    tier: Tier
    story: Story
    found: Report
    verified: Report | None = None
    trained: Report | None = None
    same_as: int | None = None

    @property
    def failed(self) -> str | None:
        """Why there is no such student."""
        told = (self.found, self.verified or {}, self.trained or {})
        return next((one[NONE] for one in told if NONE in one), None)

    @property
    def chosen(self) -> Mapping[str, Any]:
        """Space and architecture, and what else is told of the candidate."""
        found: Mapping[str, Any] = (self.verified or self.found)["winner"]
        return found

    @property
    def phases(self) -> Report:
        """What its phases have told, as results have it."""
        aside = {"pretrained": self.found["pretrained"]} if "pretrained" in self.found else {}
        found: Report = {"search": {name: v for name, v in self.found.items() if name != "pretrained"}, **aside}
        if self.verified is not None:
            found["verify"] = self.verified
        if self.trained is not None:
            found["student"] = self.trained
        return found


def row(one: One, seen: Report) -> Report:
    """A student as a line of a result's table.

    Args:
        seen: What the phases of this student have told, or of that which it is the same as.
    """
    limited = {"student": one.tier.number, "limit": {one.tier.cost: one.tier.limit}}
    if one.failed is not None:
        return {**limited, "failed": one.failed, "same_as": one.same_as, "folder": None}
    trained = seen.get("student", {})
    best = (one.found.get("pretrained") or {}).get("best")
    return {
        **limited,
        "limits": one.found["limit"],
        **_costs(one),
        **{name: trained[name] for name in _TRAINED if name in trained},
        **{name: value for name, value in trained.items() if name.startswith(("selection_", "test_"))},
        **interval(trained.get("evaluation", {}).get("student"), domains.judge(one.story.dataset.task).key),
        "degraded": any(warning["code"] == "degraded" for warning in one.story.ledger.warnings()),
        "pretrained": None if best is None else best["network"],
        "failed": None,
        "same_as": one.same_as,
    }


def interval(evaluation: Report | None, metric: str) -> Report:
    """What a network truly reaches, with 95 % confidence, where it is judged by a share of answers, right or as the
    teacher's."""
    name = {"acc": "top1", "agreement": "agreement"}.get(metric)
    if name is None or evaluation is None or f"{name}_low" not in evaluation:
        return {}
    return {"interval": [evaluation[f"{name}_low"], evaluation[f"{name}_high"]]}


def _costs(one: One) -> Report:
    """The candidate and its costs: counted exactly, and latency as timed where it was."""
    number = one.chosen["number"]
    members = {member["number"]: member for member in (*one.found["front"], one.found["winner"])}
    trial = next(trial for trial in one.story.ledger.trials() if trial.number == number)
    exact = (one.verified or one.found)["budget_check"]["winner"]
    told = {**choice.describe(trial), **exact, "start": trial.start}
    return {**told, **({"measured": m} if (m := members.get(number, {}).get("measured")) else {})}
