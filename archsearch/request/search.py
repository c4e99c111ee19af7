"""How a student is searched, and verified."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator

from archsearch.plain import Spec
from archsearch.precision import Precision
from archsearch.request.base import Id
from archsearch.request.budget import TradedCost

Sampler = Literal["tpe", "nsga2", "gp", "cmaes", "random", "qmc", "evolution"]


def _count_or_word(value: Any) -> str:
    return "auto" if isinstance(value, str) else "count"


Workers = Annotated[
    Annotated[int, Field(ge=1, le=256), Tag("count")] | Annotated[Literal["auto"], Tag("auto")],
    Discriminator(_count_or_word),
]


class StockNetwork(Spec):
    """A network of timm's with its weights, by name: from the hub's cache on the machine that works, or the hub."""

    kind: Literal["timm"] = "timm"
    name: str = Field(min_length=1, max_length=200, description="timm model name with tag, or hf-hub:owner/name.")

    @property
    def label(self) -> str:
        """As lists and results have it, and as one word in a request."""
        return self.name


class FolderNetwork(Spec):
    """A network that lies in `ARCHSEARCH_PRETRAINED_DIR` on the machine that works, as timm saves one."""

    kind: Literal["folder"] = "folder"
    name: str = Field(
        min_length=1, max_length=200, pattern=r"^[^./\\][^/\\]*$", description="Name of its own folder in there."
    )

    @property
    def label(self) -> str:
        """See StockNetwork."""
        return f"folder:{self.name}"


class TeacherNetwork(Spec):
    """A network of timm's that was registered with this service as a teacher."""

    kind: Literal["teacher"] = "teacher"
    id: Id = Field(description="Teacher id from POST /v1/teachers.")

    @property
    def label(self) -> str:
        """See StockNetwork."""
        return self.id


def _spelled_out(value: Any) -> Any:
    """A network by one word: `resnet18.a1_in1k`, `folder:mine`, `tch_…`."""
    if not isinstance(value, str):
        if not isinstance(value, dict | StockNetwork | FolderNetwork | TeacherNetwork):
            raise ValueError("give a network's name, or an object with kind and name")
        return value
    if value.startswith("folder:"):
        return {"kind": "folder", "name": value.removeprefix("folder:")}
    if value.startswith("tch_"):
        return {"kind": "teacher", "id": value}
    return {"kind": "timm", "name": value}


PretrainedNetwork = Annotated[
    Annotated[StockNetwork | FolderNetwork | TeacherNetwork, Field(discriminator="kind")], BeforeValidator(_spelled_out)
]


class SearchSpec(Spec):
    """How candidates are proposed and scored. None is ever trained."""

    space: str = Field(
        "auto",
        description="Space of student architectures (see GET /v1/spaces); `teacher` shrinks the teacher's own network; "
        "`pretrained` takes a network that comes with weights; `auto` searches the teacher's family, every family that "
        "takes the images and fits the budget, and the networks with weights at hand, together.",
    )
    candidates: int = Field(64, ge=1, le=100_000, description="Candidates to score (count).")
    pretrained: tuple[PretrainedNetwork, ...] | None = Field(
        None,
        max_length=256,
        description="Networks with weights that are ranked, and may be the student: a name of timm's or a hub's, "
        "`folder:NAME` for one in the folder that was set up for them, the id of a registered teacher; or the same as "
        "objects. Null is every one at hand: those of timm's in the hub's cache, and the folder's. See GET "
        "/v1/pretrained.",
    )
    sampler: Sampler = Field("tpe", description="What proposes candidates; all but `evolution` are Optuna's.")
    trade: TradedCost | None = Field(
        None, description="A cost to trade the score against: the search looks for the Pareto front of both."
    )
    choose: Literal["best", "knee"] = Field(
        "best",
        description="The winner: the best score within the budget, or the knee of the front of score against `trade` "
        "(where the next nat begins to cost more).",
    )
    batch_size: int | None = Field(
        None,
        ge=8,
        le=1024,
        description="Training images in the one batch all candidates are scored on; null is 64, or as many as there "
        "are.",
    )
    score: dict[str, Annotated[float, Field(ge=-1e6, le=1e6)]] | None = Field(
        None,
        description="Voters and their weights, in nats; null is the default score. See GET /v1/proxies.",
        min_length=1,
    )
    seeds: int = Field(1, ge=1, le=64, description="Initialisations each candidate's score is averaged over (count).")
    halving: int | None = Field(
        None,
        ge=2,
        le=16,
        description="Look at most candidates only briefly: of each rung one in so many is looked at again on twice the "
        "images and initialisations, up to batch_size and seeds; null scores every candidate in full.",
    )
    precision: Precision = Field("auto", description="auto takes bf16 where the machine computes in it.")
    time_limit_s: float | None = Field(None, gt=0, description="Stop proposing after this many seconds.")
    patience: int | None = Field(
        None, ge=1, le=100_000, description="Stop after this many candidates in a row without a better score (count)."
    )
    workers: Workers = Field(
        1,
        description="Processes that score candidates side by side; the trials are those of one process, in the same "
        "order. No more are started than there are cores. auto is one a GPU or a core, and one in all where a search "
        "is too short to gain by more.",
    )
    seed: int = Field(0, ge=0, lt=2**31, description="Seed of sampler, batch and initial weights.")

    @field_validator("pretrained")
    @classmethod
    def _check_twice(cls, value: tuple[PretrainedNetwork, ...] | None) -> tuple[PretrainedNetwork, ...] | None:
        seen: set[str] = set()
        for one in value or ():
            if one.label in seen:
                raise ValueError(f"names {one.label} twice")
            seen.add(one.label)
        return value


class VerifySpec(Spec):
    """Real, brief distillation of the best candidates before the winner is chosen. This trains them, and costs so."""

    candidates: int = Field(8, ge=2, le=256, description="Candidates that are distilled, the best by score (count).")
    epochs: int = Field(
        4, ge=1, le=500, description="Epochs of the first round; each later one keeps half and doubles them."
    )
    rounds: int | None = Field(None, ge=1, le=8, description="Most rounds (count); null goes on until one is left.")
    share: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Most multiply-accumulates as a share of what training the best by score takes; candidates that "
        "would cost more are left out, the last by score first, two at least remain. Null is no limit.",
    )


def _verify_kind(value: Any) -> str:
    return "auto" if isinstance(value, str) else "spec"


Verification = Annotated[
    Annotated[VerifySpec, Tag("spec")] | Annotated[Literal["auto"], Tag("auto")], Discriminator(_verify_kind)
]
