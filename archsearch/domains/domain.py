"""What a domain is: what is asked, of what kind of example, and what all rooms between need not know of it.

A task names its domain and `domains.of(task)` finds it, so that neither has to be passed beside the other, and the two
cannot disagree. A domain is one folder, whose `spec.py` is all that a request needs of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from archsearch.data import Dataset, Limits, Task
from archsearch.data.measured import Measured, Part
from archsearch.data.metrics import Metric
from archsearch.data.notes import Note
from archsearch.data.prediction import Form, Listener, Prediction
from archsearch.data.shape import Shape
from archsearch.request import DistillSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

Floats = npt.NDArray[np.float64]


class Views(Protocol):
    """The finitely many ways an example is shown in training; `repr` tells them from others.

    Attributes:
        every: Whether they are all there are, and not some that were drawn.
    """

    @property
    def count(self) -> int: ...
    @property
    def every(self) -> bool: ...


class Teacher(Protocol):
    """A trained network in eval mode, of any domain; a frozen dataclass of its zoo's.

    Attributes:
        sha256: Of the weights as they came, by name, shape and value.
        namings: What its outputs are called, as the weights came: a list of names for each way of naming them.
        order: Which of its outputs each of the data's classes is, where they had to be moved; the model has them moved.
        classes_given: Whether the request itself said which output is which class.
        notes: What whoever asked for it should hear.
        identity: What its answers depend on.
    """

    @property
    def name(self) -> str: ...
    @property
    def model(self) -> nn.Module: ...
    @property
    def num_classes(self) -> int: ...
    @property
    def sha256(self) -> str: ...
    @property
    def namings(self) -> tuple[tuple[str, ...], ...]: ...
    @property
    def order(self) -> tuple[int, ...] | None: ...
    @property
    def classes_given(self) -> bool: ...
    @property
    def notes(self) -> tuple[Note, ...]: ...
    @property
    def identity(self) -> str: ...

    def require(self, task: Any) -> None:
        """Raise TeacherError where it takes other examples than the task has, but for the number of classes."""

    def shape(self, task: Any) -> Shape:
        """Of one example as the network itself takes it."""

    def told(self, task: Any) -> str:
        """Of what size the examples are as the network takes them, in words."""

    def prepare(self, x: Tensor) -> Tensor:
        """Examples as a split gives them, as this teacher wants them."""

    def logits(self, x: Tensor) -> Tensor:
        """Its answers B×K to examples as a split gives them."""


@dataclass(frozen=True)
class Beginning:
    """What a teacher's training begins with.

    Attributes:
        trained: The network as it takes the data's examples.
        named: The network whose weights name the teacher.
        dataset: The data as the network reads them.
        optimizer: What it learns best with.
        told: What it is, in a sentence.
        facts: More of it, as plain JSON.
        save: Writes the trained network to a folder, as a teacher is loaded from.
    """

    trained: nn.Module
    named: nn.Module
    dataset: Dataset
    optimizer: Literal["sgd", "adamw"]
    told: str
    facts: Mapping[str, Any]
    save: Callable[[Path], None]


@dataclass(frozen=True)
class CardFacts:
    """What a card says of a student because of its domain.

    Attributes:
        architecture: What its library calls the network.
        sized: What it is asked about, in words: `images of 32×32 pixels and 3 channels`.
        pipeline: What the hub calls the task, and `library` the library that loads the weights.
        use: The card's section on how it is asked.
        multilabel: Whether the configuration says that an example may have any number of labels.
    """

    architecture: str
    classes: int
    sized: str
    pipeline: str
    library: str
    use: str
    multilabel: bool


@dataclass(frozen=True)
class Pace:
    """How much training is enough for a domain's networks, where nobody says; the defaults are of images.

    Attributes:
        examples: What people call the examples, in the plural.
        batch: Examples of a step from scratch, where these are many.
        epochs: Passes over the examples from scratch, where these are many.
        steps: Steps it should have, so many more passes where examples are few, up to `most_epochs`, after which more
            of the same teaches little.
        tuning_lr: Peak rate (AdamW) of a fine-tuning, in batches of `tuning_batch` where that is not None.
        tuning_steps: Steps of a fine-tuning, in `tuning_epochs` passes at least and at most.
    """

    examples: str = "images"
    batch: int = 128
    epochs: int = 60
    steps: int = 4000
    most_epochs: int = 300
    tuning_lr: float = 3e-4
    tuning_batch: int | None = None
    tuning_steps: int = 1000
    tuning_epochs: tuple[int, int] = (5, 30)


class Data(Protocol):
    """How its data are read, kept, and made what networks read."""

    def load(
        self, spec: Any, limits: Limits | None, listener: Callable[[int, int], None] | None, cache: Path | None = None
    ) -> Any:
        """The data a request's `data` names: a `Dataset`, or what `encode` makes one of.

        Raises DataError and its kin, naming what is at fault.

        Args:
            cache: Folder where what reading found may be kept, to spare it the next time; None keeps nothing.
        """

    def encode(
        self, dataset: Any, teacher: Any, cache: Path | None, listener: Callable[[int, int], None] | None = None
    ) -> Dataset:
        """The data as a teacher's network, and so its students, read them: texts as ids of its tokens.

        Args:
            cache: Folder where that is kept; None keeps it in memory.
            listener: Called with examples done, and those there are.
        """

    def save_dataset(self, dataset: Any, folder: Path, *, own: bool = False) -> None:
        """Write a data set whole or not at all.

        Args:
            own: Whether it has to outlive the files it was read from, where it stays in them.
        """

    def open_dataset(self, folder: Path) -> Any:
        """What `save_dataset` stored, its columns memory-mapped; raises DataError where it is not whole."""

    def read_task(self, body: Mapping[str, Any]) -> Task:
        """A task from its plain JSON."""

    def check(self, spec: DistillSpec, task: Any) -> None:
        """Raise InvalidRequest for what a training of this task cannot be; needs no torch."""


class Examples(Protocol):
    """What networks are shown, how large that is, and what their answers are measured by."""

    def shape(self, task: Any) -> Shape:
        """Of one example."""

    def told(self, task: Any) -> str:
        """Of what size the examples are, in words: `images of 32×32 pixels`."""

    def prepare(self, x: Tensor, task: Any) -> Tensor:
        """Examples as a split gives them, as the task's students take them."""

    def coarse(self, split: Any, features: int) -> Floats:
        """N×D, D at most `features`: what a linear model may know of the examples."""

    def metrics(self, task: Any) -> Sequence[Metric]:
        """What answers are measured by: first what the task is judged by, then what is reported beside that."""

    def size(self, task: Any) -> dict[str, int]:
        """What a teacher's costs were counted on, as plain JSON; what is not known before the teacher is left out."""

    def flags(self, task: Any) -> dict[str, int]:
        """A task's size as `sizes` has it, as near as that comes."""


class Teachers(Protocol):
    """How a teacher is fetched, told of, loaded, and what the training of one begins with."""

    def load_teacher(
        self,
        source: Any,
        weights: Path | None,
        dataset: Any,
        *,
        classes: Any = None,
        input_size: Any = None,
        head: Any = None,
        device: str = "cpu",
    ) -> Teacher:
        """A frozen teacher, loaded strictly, its outputs in the order of the data's classes.

        Args:
            source: What the request names.
            weights: The file of an uploaded teacher, or the folder that was unpacked of it.
            dataset: The data it will be asked about, as `load` gives them; None where there are none yet.
            classes, input_size, head: As the request has them where the source does not say itself.
            device: Where it is asked, as `device.resolve` tells it.
        """

    def at_hand(self, name: str) -> bool:
        """Whether loading the network of that name waits for no hub: it was fetched before, or is none of a hub's."""

    def fetch(self, name: str) -> None:
        """Fetch what loading the network of that name reads, into the cache that is read from."""

    def begin_teacher(self, asked: Any, dataset: Any, scratch: Path) -> Beginning:
        """The network a teacher's training begins with; `asked` is a `teaching.TeacherTraining`."""

    def facts(self, teacher: Any) -> dict[str, Any]:
        """What is known of a teacher without data, as plain JSON."""

    def describe(self, config: Mapping[str, Any], names: Collection[str], field: str) -> dict[str, Any]:
        """The same as far as a folder's config.json tells it, and how many classes, without torch.

        Raises TeacherError where there is no network here for such a config.json, or it lacks one of the files.

        Args:
            names: Of the files in the folder.
        """

    def check_facts(self, facts: Any, task: Any, field: str) -> None:
        """Raise TeacherError where such facts say that the teacher takes other examples than the task has.

        Args:
            facts: With the fields of the request that names the teacher.
        """

    def save_teacher(self, teacher: Any, task: Any, folder: Path) -> None:
        """Write a teacher as `load_teacher` reads it from a folder."""

    def inherits(self, task: Any, teacher: Any) -> Task:
        """The task as students read it that begin with a teacher's weights: their examples are prepared as its are."""

    def take_over(self, teacher: Any, model: nn.Module) -> None:
        """Load a teacher's weights into a network of its kind and size, built for a task."""

    def read_by(self, task: Any, facts: Mapping[str, Any]) -> Task:
        """The task as a teacher of such facts reads it, as far as they tell: texts in its vocabulary."""


class Trainings(Protocol):
    """What a training is fed with."""

    def views(self, task: Any, spec: DistillSpec) -> Views | None:
        """The views of a training; None where they have no numbers."""

    def loader(self, dataset: Any, spec: DistillSpec, device: str, group: Any) -> Any:
        """Where a training's batches come from: a `distill.loader.Loader`."""


class Students(Protocol):
    """How a student is written, opened and told of."""

    def save(self, student: nn.Module, task: Any, folder: Path, teacher: Any = None) -> None:
        """Write weights and configuration, so that the library the network is from loads them without this package."""

    def open(self, folder: Path) -> nn.Module:
        """What `save` wrote, in eval mode."""

    def knows(self, config: Mapping[str, Any]) -> bool:
        """Whether a `config.json` is of a student of this domain's."""

    def stock(self, config: Mapping[str, Any]) -> bool:
        """Whether the plain library builds the network of a `config.json`, without this package."""

    def card(self, config: Mapping[str, Any], report: Mapping[str, Any], stock: bool) -> CardFacts:
        """What a card says of it: of `config.json`, `report.json` and whether the plain library builds the network."""

    def check_saved(self, student: nn.Module, task: Any, folder: Path) -> None:
        """Save a network to an empty folder and load it again, by its library's own means; raises what that raises."""


class Saved(Protocol):
    """What is done with a network that was saved before: measured, held against others, asked."""

    def open_task(self, folder: Path) -> Any:
        """The task a saved network was made for, as far as its folder tells; raises InvalidRequest."""

    def as_read(self, data: Mapping[str, Any], task: Any, learned: Mapping[str, Any]) -> dict[str, Any]:
        """A request's `data`, of this domain, to be read as a network of a task reads its own.

        Args:
            learned: The `data` it was trained on, as its own request had it; empty where nobody knows.
        """

    def load_measured(
        self,
        spec: Any,
        task: Any,
        part: Part,
        folder: Path | None,
        learned_from: str | None,
        listener: Callable[[int, int], None] | None,
    ) -> Measured:
        """Data to measure a saved network of a task on, in the order of its classes.

        Args:
            folder: Where the network lies.
            learned_from: The sha256 of what it learned from, where that is known.

        Raises DataError or InvalidRequest where the data is not the network's.
        """

    def check_beside(self, name: str, other: Any, folder: Path, task: Any, field: str) -> None:
        """Raise InvalidRequest unless another network answers the same examples as the one in a folder.

        Args:
            other: A folder, or a teacher.
            task: Of the examples.
        """

    def predict(
        self,
        folder: Path,
        given: Sequence[Path | str],
        *,
        top: int,
        threshold: float,
        form: Form,
        columns: Sequence[str],
        listener: Listener | None,
        device: str = "cpu",
    ) -> list[Prediction]:
        """See `archsearch.predict`."""


class Formats(Protocol):
    """The other forms of a student; their examples are arrays as files hold them."""

    def formats(self) -> Sequence[Any]:
        """The forms students come in beside their library's own: `export.format.Format`s."""

    def held_out(self, split: Any, task: Any) -> npt.NDArray[Any]:
        """Examples spread over a split, as many as are worth looking at; noise where there is no split."""

    def raw(self, x: Tensor) -> npt.NDArray[Any]:
        """Examples as a split gives them, as formats take them."""

    def called(self, example: npt.NDArray[Any]) -> str:
        """What one example of `held_out` is, in words: `image`, `text of 64 tokens`."""

    def reference(self, student: nn.Module, task: Any) -> Callable[[npt.NDArray[Any]], npt.NDArray[Any]]:
        """The student itself as something that answers, which every format is held against."""

    def write_reading(self, folder: Path, task: Any) -> None:
        """Write beside a student how what users have becomes its examples."""

    def measure_from_file(
        self, file: str, answer: Any, settings: Any, expected_NK: Any, subject: Any, tolerance: float | None
    ) -> Any:
        """From a user's own file to the answer: how far a format is off; None where a domain has nothing to tell."""


class Domain(Data, Examples, Teachers, Trainings, Students, Saved, Formats, Protocol):
    """One kind of question. All but the classes' imports is without torch until a network is at hand.

    Attributes:
        name: As tasks and requests name it.
        examples: What people call the examples, in the plural.
        library: What its students are loaded with.
        an_example: One as a shell hands it to `archsearch predict`.
        loads_in: What `load` tells its listener the progress in, in words.
        coarse_of: What `coarse` reads of them, in words.
        sizes: A `Spec` of what the costs of its networks depend on, as flags and queries name it, with defaults;
            `.task(classes)` is a task of that size.
        measured_on: The same as `size` tells it.
        grid: Whether the stages of its networks are maps with a height and a width.
        attention: Whether its networks name the projections of attention, layer by layer (`attention_modules`).
        pace: How much training is enough.
        teacher_files: Names of the files a teacher's folder consists of, those that need not be there included.
    """

    name: str
    examples: str
    library: str
    an_example: str
    loads_in: str
    teacher_files: tuple[str, ...]
    coarse_of: str
    sizes: type[Any]
    measured_on: type[Any]
    grid: bool
    attention: bool
    pace: Pace


__all__ = ["Beginning", "CardFacts", "Domain", "Floats", "Teacher", "Views"]
