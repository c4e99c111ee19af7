"""What the API answers, and the bodies that are not a `JobRequest`."""

from __future__ import annotations

from datetime import datetime
from inspect import cleandoc
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, TypeVar, Union, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model, model_validator
from pydantic.fields import FieldInfo

from archsearch.errors import InvalidRequest, public, public_data, public_problem
from archsearch.request import (
    DatasetData,
    DigitsData,
    Few,
    FileData,
    Id,
    Spec,
    Start,
    TeacherSource,
    TradedCost,
)

T = TypeVar("T")
# A line for people: PostgreSQL keeps no NUL, and nobody a name of two lines.
Label = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]*$")]
CheckStatus = Literal["checking", "ready", "refused"]
JobStatus = Literal["queued", "running", "cancelling", "cancelled", "succeeded", "failed"]


# As written by this version or an older one, by a worker or the API.
PublicProblem = Annotated[dict[str, Any] | None, AfterValidator(public_problem)]


class Answer(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class Page(Answer, Generic[T]):
    """One page of a list, newest first; ask again with `after=next_after` for more."""

    data: list[T]
    has_more: bool
    next_after: str | None


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str
    title: str
    status: int = 0
    code: str
    detail: str
    field: str | None = None
    retryable: bool = False
    request_id: str | None = None


class JobAnswer(Answer):
    id: str
    kind: str
    name: str | None
    status: JobStatus
    phase: Literal["validating", "searching", "verifying", "distilling", "exporting"] | None
    progress: float = Field(description="Of the whole job, 0 to 1.")
    eta_s: float | None = Field(description="Estimated seconds to the end of the phase.")
    attempt: int
    worker: str | None
    waiting: str | None = Field(description="What it waits for just now, a full disk for one; it goes on by itself.")
    heartbeat_at: datetime | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    candidates_scored: int = 0
    candidates_failed: int = Field(0, description="Candidates that could not be scored; each says why in `reason`.")
    result: dict[str, Any] | None = Field(None, description="Null in lists; GET the job to have it.")
    error: PublicProblem = None
    request: dict[str, Any]


class EventAnswer(Answer):
    seq: int
    at: datetime
    type: str
    data: Annotated[dict[str, Any], AfterValidator(public_data)]


class CandidateAnswer(Answer):
    number: int
    space: str
    architecture: dict[str, int]
    params: int
    macs: int
    size_bytes: int | None = Field(description="At budget.size_precision.")
    peak_activation_bytes: int | None = Field(description="At budget.batch, where it is limited or traded.")
    latency_ms: float | None = Field(description="Predicted, on budget.device at budget.batch.")
    state: Literal["scored", "failed"]
    score: float | None = Field(description="In nats; higher is better.")
    proxies: dict[str, float | None]
    votes: dict[str, float] = Field(description="Each voter's share of the score, in nats.")
    reason: Annotated[str | None, AfterValidator(lambda reason: reason and public(reason))]
    seconds: float
    rungs: list[float] = Field(description="The score at each rung reached; one rung unless search.halving is set.")
    start: Start = Field(description="What its student begins with; scores of `scratch` and of others do not compare.")
    attempt: int


class MeasuredAnswer(Answer):
    """A latency as timed: the median and both quartiles."""

    latency_ms: float
    low_ms: float
    high_ms: float
    repeats: int


class FrontMember(Answer):
    number: int = Field(description="Name it in a follow-up job: student: {job, candidate: number}.")
    space: str
    architecture: dict[str, int]
    score: float
    params: int
    macs: int
    size_bytes: int | None
    peak_activation_bytes: int | None
    latency_ms: float | None
    measured: MeasuredAnswer | None = None


class FrontAnswer(Answer):
    """Candidates no other one beats in both the score and a cost, cheapest first."""

    against: TradedCost
    front: list[FrontMember]
    winner: int | None = Field(description="Number of the winner, once the search has ended.")


class DeviceAnswer(Answer):
    name: str
    doc: str


class ProfileAnswer(Answer):
    id: str
    name: str | None
    status: CheckStatus
    error: PublicProblem = None
    device: str
    batch: int
    threads: int
    spaces: dict[str, int] = Field(description="Networks measured, by space.")
    body: dict[str, Any]
    created_at: datetime


class ArtifactAnswer(Answer):
    id: str
    job_id: str
    name: str
    media_type: str
    size_bytes: int
    sha256: str
    created_at: datetime


class UploadBody(Spec):
    filename: Label | None = Field(None, max_length=255, description="For people; no file is ever named by it.")
    size_bytes: int | None = Field(
        None, ge=1, description="Of the whole content. No part may go beyond it, and nothing less is complete."
    )
    sha256: str | None = Field(
        None,
        pattern=r"^[0-9a-fA-F]{64}$",
        description="Of the whole content, in hex. Where the server holds that content, it answers with the upload.",
    )


class CompleteBody(Spec):
    sha256: str | None = Field(None, pattern=r"^[0-9a-fA-F]{64}$", description="Of the whole content, in hex.")


class UploadAnswer(Answer):
    id: str
    filename: str | None
    size_bytes: int | None
    sha256: str | None
    status: Literal["open", "complete"]
    created_at: datetime
    max_part_bytes: int = 0


class NoteAnswer(BaseModel):
    """Something a check found that stops nothing: a stable code, and a sentence for people."""

    code: str
    detail: str


class _DatasetBody(Spec):
    upload: Id
    format: str
    name: Label | None = Field(None, max_length=200)

    @model_validator(mode="before")
    @classmethod
    def _refuse_of_others(cls, value: Any) -> Any:
        """What other formats say of theirs means nothing here, and may be said only as they have it anyway."""
        if not isinstance(value, dict):
            return value
        for name in sorted(value.keys() & (_OPTIONS.keys() - cls.model_fields.keys())):
            if value[name] != _OPTIONS[name]:
                raise InvalidRequest(f"is no option of {value.get('format')}; leave it out", field=name)
        return {name: given for name, given in value.items() if name in cls.model_fields or name not in _OPTIONS}

    def options(self) -> dict[str, Any]:
        """The fields of the format's kind of data, as plain JSON."""
        # The default is left out: what was read before there was a choice is the same content.
        later = {"duplicates"} if getattr(self, "duplicates", None) == "refuse" else set()
        return self.model_dump(mode="json", exclude={*_DatasetBody.model_fields, *later})


def _options(kind: type[BaseModel]) -> dict[str, FieldInfo]:
    # How many labels are used is a job's: its data are the same for all.
    others = {"kind", "path", *Few.model_fields}
    return {name: field for name, field in kind.model_fields.items() if name not in others}


def _body(kind: type[BaseModel]) -> type[_DatasetBody]:
    """The body that has an upload read as a request names a local file by `kind`."""
    fields: dict[str, Any] = {name: (field.annotation, field) for name, field in _options(kind).items()}
    about = Field(description=f"{cleandoc(kind.__doc__ or '')} Upload a zip of a folder.")
    fields["format"] = (Literal[kind.model_fields["kind"].default], about)
    name = f"{kind.__name__.removesuffix('Data')}Body"
    return create_model(name, __base__=_DatasetBody, __doc__=kind.__doc__, **fields)


# All options with their defaults, whatever the format.
_OPTIONS = {name: field.default for kind in get_args(FileData) for name, field in _options(kind).items()}
if TYPE_CHECKING:
    DatasetBody = _DatasetBody
else:
    DatasetBody = Annotated[Union[tuple(map(_body, get_args(FileData)))], Field(discriminator="format")]  # noqa: UP007


class DatasetAnswer(Answer):
    id: str
    name: str | None
    format: str
    status: CheckStatus
    progress: float = Field(description="Of its reading, 0 to 1.")
    upload: str | None
    options: dict[str, Any] | None
    sha256: str | None = Field(description="Null, as are task and splits, until it is ready.")
    task: dict[str, Any] | None = Field(
        description="By its `domain`, what there is to learn. Of texts `vocab_size` and `pad_id` are 0: they are the "
        "teacher's tokenizer's. Where no example has a label `truth` is `teacher` and `classes` 0: a job's teacher's "
        "classes will be the task, and everything is judged by agreement with it."
    )
    splits: dict[str, int] | None
    notes: list[NoteAnswer] | None = Field(None, description="What loading it found that its owner should hear.")
    error: PublicProblem = None
    created_at: datetime


class TeacherBody(Spec):
    source: TeacherSource
    name: Label | None = Field(None, max_length=200)
    data: DigitsData | DatasetData | None = Field(
        None, discriminator="kind", description="Measure the teacher on this data's selection split right away."
    )


class TeacherAnswer(Answer):
    id: str
    name: str | None
    status: CheckStatus
    source: dict[str, Any]
    data: dict[str, Any] | None
    sha256: str | None
    facts: dict[str, Any] | None = Field(
        description="What its check found out, and before that what its config.json told: `domain`, `num_classes`, "
        "`class_names` where they are known, `in_chans` of images, `max_length` and `vocab_size` of texts, and "
        "with data `params`, `macs` on examples as in `measured_on`, and `selection_acc` on the selection split: what "
        "`judged_by` names (accuracy, balanced where classes are uneven, mAP with many labels), in its unit; null "
        "where no example has a label."
    )
    notes: list[NoteAnswer] | None = Field(None, description="What its check found that its owner should hear.")
    error: PublicProblem = None
    created_at: datetime


class AmountAnswer(Answer):
    count: int
    bytes: int


class StorageAnswer(Answer):
    kept: dict[str, AmountAnswer] = Field(description="By kind; jobs hold checkpoints and artifacts.")
    prunable: dict[str, AmountAnswer] = Field(description="What of it nothing needs any more and a worker will remove.")
    free_bytes: int = Field(description="Free on the disk of the data folder.")


class ParameterAnswer(BaseModel):
    name: str
    doc: str
    low: int
    high: int
    step: int


class MemberAnswer(BaseModel):
    architecture: dict[str, int]
    params: int
    macs: int


class SpaceAnswer(BaseModel):
    name: str
    doc: str
    benchmark: bool = Field(description="Whether it is there to compare with published tables; `auto` leaves it out.")
    refuses: str | None = Field(description="Why it cannot take examples of this size; then all below is empty.")
    stock_timm: bool = Field(description="Whether the family's plain library builds the student, without this package.")
    parameters: list[ParameterAnswer] = []
    cardinality: int = 0
    smallest: MemberAnswer | None = None
    largest: MemberAnswer | None = None


class PretrainedAnswer(Answer):
    name: str = Field(description="As `search.pretrained` names it.")
    source: Literal["hub", "folder"] = Field(
        description="Where the weights lie: in the hub's cache on this machine, or in ARCHSEARCH_PRETRAINED_DIR."
    )
    weights_bytes: int = Field(description="Of the safetensors file.")
    refuses: str | None = Field(description="Why it cannot take images of this size; then all below is empty.")
    architecture: str | None = Field(description="timm's name for the network.")
    stock_timm: bool | None = Field(description="Whether plain timm builds it, without this package.")
    params: int | None = Field(description="With a head for so many classes.")
    macs: int | None = Field(description="Multiply-accumulates for one image of this size.")
    trained_on: list[int] | None = Field(description="Channels, height and width of the images it was trained on.")
    mean: list[float] | None = Field(description="Of pixels in 0-1, as the weights were trained.")
    std: list[float] | None
    licence: str | None = Field(description="Where timm's configuration tells one.")


class ProxyAnswer(BaseModel):
    name: str
    doc: str
    needs: list[str]
    unit: str
    source: str
    default_weight: float = Field(description="Of images; `default_weights` has those of every domain it votes in.")
    default_weights: dict[str, float]
    domains: list[str] = Field(description="Whose networks it is defined for.")


class LossAnswer(BaseModel):
    name: str
    doc: str
    needs_teacher: bool
    reads: list[str]
    tasks: list[str]
    domains: list[str] = Field(description="Whose networks show what it looks at.")
    weight: float
    labels: float
    by_labels: bool = Field(
        description="Whether it compares examples by their labels; where one has none, by what the teacher answers."
    )
    settings: dict[str, Any]
    source: str
