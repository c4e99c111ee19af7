"""What a run gives back, typed: the same for the library, a folder's manifest and a service's job.

What is measured is of the selection or the test split; its keys end in the metric, `acc` for one label an example and
`map` for many, `agreement` where no example has a label: nothing is said of the teacher's own worth then. `judged_by`
says which metric decides, its unit, and which way is better. Sections that a kind of run has no use for are absent: a
search has no `student`.
"""

from typing import Any, Literal, NotRequired, TypedDict

from archsearch.request import TradedCost
from archsearch.unit import Direction, Unit


class Warned(TypedDict):
    """Something to look at before the student is used; of several, which of them."""

    code: str
    detail: str
    student: NotRequired[int]


class JudgedBy(TypedDict):
    """The metric that decides: the end of its keys, its name, its unit, and which way is better."""

    key: str
    name: str
    unit: Unit
    better: Direction


class FoundTeacher(TypedDict):
    """What the teacher turned out to be."""

    name: str
    sha256: str
    device: NotRequired[str]
    params: int
    macs: int
    size_bytes: NotRequired[int | None]
    peak_activation_bytes: NotRequired[int | None]
    measured: NotRequired[dict[str, Any]]
    selection_acc: NotRequired[float]
    selection_map: NotRequired[float]
    selection_balanced_acc: NotRequired[float]
    test_balanced_acc: NotRequired[float]
    test_acc: NotRequired[float]
    test_map: NotRequired[float]
    selection_macro_f1: NotRequired[float]
    test_macro_f1: NotRequired[float]
    selection_mcc: NotRequired[float]
    test_mcc: NotRequired[float]


class FoundCandidate(TypedDict):
    """A candidate on the front of score against a cost."""

    number: int
    space: str
    architecture: dict[str, int]
    score: float
    params: int
    macs: int
    size_bytes: int | None
    peak_activation_bytes: int | None
    latency_ms: float | None
    measured: NotRequired[dict[str, Any]]


class FoundWinner(FoundCandidate):
    """The candidate that is to be the student, with each voter's share of its score."""

    votes: dict[str, float]
    proxies: dict[str, float | None]


class FoundNetwork(FoundCandidate):
    """A network with weights, as it was before any training here: what its features know of the teacher's answers."""

    network: str
    licence: str | None
    proxies: dict[str, float | None]


class PretrainedResult(TypedDict):
    """The network with weights somebody would take instead of a student: the best within the budget, or why none is.

    `networks` are those that were at hand, as the space `pretrained` counts them; `left_out` says why others are none.
    """

    best: FoundNetwork | None
    why: str
    networks: list[str]
    left_out: dict[str, str]


class SearchResult(TypedDict):
    """What was looked at, and what came out best."""

    candidates_scored: int
    candidates_failed: int
    infeasible_scored: int
    spaces: list[str]
    starts: NotRequired[dict[str, Any]]
    stopped: str
    exhausted: bool
    workers: NotRequired[dict[str, int]]
    limit: dict[str, float]
    costs_of: NotRequired[str]
    traded: TradedCost
    front: list[FoundCandidate]
    beyond: list[FoundCandidate]
    winner: FoundWinner
    budget_check: NotRequired[dict[str, Any]]
    unusable: NotRequired[dict[str, str]]
    device: NotRequired[str]
    seconds: float


class StudentResult(TypedDict):
    """The distilled student."""

    space: str
    start: NotRequired[str]
    architecture: dict[str, int]
    params: int
    macs: int
    begins_as: NotRequired[str | None]
    method: str
    why: str
    labels: float
    losses: dict[str, dict[str, Any]]
    class_weights: NotRequired[list[float]]
    epochs: int
    recipe: dict[str, float | str]
    judged: NotRequired[dict[str, Any]]
    seed: int
    seeds: dict[str, float]
    failed: dict[str, str]
    baseline: dict[str, float] | None
    device: str
    formats: dict[str, Any]
    evaluation: dict[str, Any]
    export: dict[str, float | str]
    seconds: float
    selection_acc: NotRequired[float]
    selection_map: NotRequired[float]
    selection_agreement: NotRequired[float]
    selection_balanced_acc: NotRequired[float]
    test_balanced_acc: NotRequired[float]
    test_acc: NotRequired[float]
    test_map: NotRequired[float]
    test_agreement: NotRequired[float]
    selection_macro_f1: NotRequired[float]
    test_macro_f1: NotRequired[float]
    selection_mcc: NotRequired[float]
    test_mcc: NotRequired[float]


class StudentRow(TypedDict):
    """One of several students of a request: within which limit, what it costs, what it is worth, where it lies.

    Where there is none, `failed` says why; `same_as` names the one before it that is the same network. All else is of a
    student that came about. `folder` is seen from the first student's, which lies in `.`; null where none was trained.
    """

    student: int
    limit: dict[str, float]
    failed: str | None
    same_as: int | None
    folder: str | None
    limits: NotRequired[dict[str, float]]
    number: NotRequired[int]
    space: NotRequired[str]
    architecture: NotRequired[dict[str, int]]
    start: NotRequired[str]
    score: NotRequired[float]
    params: NotRequired[int]
    macs: NotRequired[int]
    size_bytes: NotRequired[int | None]
    peak_activation_bytes: NotRequired[int | None]
    latency_ms: NotRequired[float | None]
    measured: NotRequired[dict[str, Any]]
    method: NotRequired[str]
    epochs: NotRequired[int]
    seed: NotRequired[int]
    begins_as: NotRequired[str | None]
    seconds: NotRequired[float]
    formats: NotRequired[dict[str, Any]]
    interval: NotRequired[list[float]]
    degraded: NotRequired[bool]
    pretrained: NotRequired[str | None]
    selection_acc: NotRequired[float]
    selection_map: NotRequired[float]
    selection_balanced_acc: NotRequired[float]
    test_acc: NotRequired[float]
    test_map: NotRequired[float]
    test_balanced_acc: NotRequired[float]
    selection_macro_f1: NotRequired[float]
    test_macro_f1: NotRequired[float]
    selection_mcc: NotRequired[float]
    test_mcc: NotRequired[float]


class DataResult(TypedDict):
    """The identity of what it was all measured on."""

    sha256: str
    classes: int
    images: dict[Literal["train", "selection", "test"], int]


class Result(TypedDict):
    """Everything a run has to say, as plain JSON."""

    teacher: FoundTeacher
    chosen: dict[str, str]
    search: NotRequired[SearchResult]
    pretrained: NotRequired[PretrainedResult]
    verify: NotRequired[dict[str, Any]]
    student: NotRequired[StudentResult]
    students: NotRequired[list[StudentRow]]
    against: NotRequired[TradedCost]
    stock: NotRequired[list[dict[str, Any]]]
    stock_measured_by: NotRequired[str]
    stock_left_out: NotRequired[dict[str, str]]
    judged_by: JudgedBy
    data: DataResult
    warnings: list[Warned]
    degraded: bool
