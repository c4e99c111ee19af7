"""How a student is searched, and verified."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from archsearch.plain import Spec
from archsearch.precision import Precision
from archsearch.request.budget import TradedCost

Sampler = Literal["tpe", "nsga2", "gp", "cmaes", "random", "qmc", "evolution"]


def _count_or_word(value: Any) -> str:
    return "auto" if isinstance(value, str) else "count"


Workers = Annotated[
    Annotated[int, Field(ge=1, le=256), Tag("count")] | Annotated[Literal["auto"], Tag("auto")],
    Discriminator(_count_or_word),
]


class SearchSpec(Spec):
    """How candidates are proposed and scored. None is ever trained."""

    space: str = Field(
        "auto",
        description="Space of student architectures (see GET /v1/spaces); `teacher` shrinks the teacher's own network; "
        "`auto` searches the teacher's family and every family that takes the images and fits the budget, together.",
    )
    candidates: int = Field(64, ge=1, le=100_000, description="Candidates to score (count).")
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
