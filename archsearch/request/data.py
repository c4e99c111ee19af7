"""Where data come from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from archsearch.domains.text.spec import TextData
from archsearch.plain import Spec
from archsearch.request.base import Id

Fit = Literal["crop", "pad", "stretch"]
OnBroken = Literal["refuse", "skip"]
OnDuplicates = Literal["refuse", "warn", "drop"]
# Pixels of a side: beyond it a single image is no longer seen by a network, but by many.
_LARGEST = 4096


class Few(Spec):
    """What every kind of images says of how many labels are used."""

    shots: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="Labelled training examples of each class, drawn by `shots_seed`; null is all there are. The other "
        "splits stay what they are.",
    )
    shots_seed: int = Field(0, ge=0, lt=2**31, description="Which they are.")
    rest: Literal["unlabelled", "drop"] = Field(
        "unlabelled",
        description="What becomes of the other training examples, where `shots` is given: what the teacher answers is "
        "learned of them without their labels, or they are left out (`drop`).",
    )

    @model_validator(mode="after")
    def _check_drawn(self) -> Self:
        if self.shots is None:
            for name, usual in (("shots_seed", 0), ("rest", "unlabelled")):
                if getattr(self, name) != usual:
                    raise ValueError(f"{name}: is of labels that are drawn; say how many of each class (shots)")
        return self


class DigitsData(Few):
    """The 1,797 handwritten 8×8 digits that come with scikit-learn."""

    kind: Literal["digits"] = "digits"


class DatasetData(Few):
    """A data set uploaded to this service."""

    kind: Literal["dataset"] = "dataset"
    id: Id = Field(description="Data set id from POST /v1/datasets.")


Duplicates = Annotated[
    OnDuplicates,
    Field(
        description="What images do that are there twice, pixel for pixel: `refuse` the data where over a tenth of a "
        "split is also in train or over a twentieth of all have two labels, and warn of fewer; only `warn`; or `drop`: "
        "each is left once, in test before train, and nowhere where its labels differ."
    ),
]


class NpzData(Few):
    """An .npz with x_train, y_train and, if you have them, x_test, y_test, x_selection, y_selection, x_unlabelled.

    One that holds nothing but images (x_train, x_unlabelled) has no labels: the teacher's classes are the task.
    """

    kind: Literal["npz"] = "npz"
    path: Path = Field(description="The file.")
    duplicates: Duplicates = "refuse"


def check_image_size(value: Any) -> Any:
    """A side in pixels for both, or [height, width]; the same twice is one. Raises ValueError for anything else."""
    if value is None:
        return None
    sides = list(value) if isinstance(value, list | tuple) else [value, value]
    if len(sides) != 2 or not all(type(side) is int and 4 <= side <= _LARGEST for side in sides):
        raise ValueError(f"give one side in pixels or [height, width], each of 4 to {_LARGEST}")
    return sides[0] if sides[0] == sides[1] else tuple(sides)


Side = Annotated[int, Field(ge=4, le=_LARGEST)]
ImageSize = Annotated[
    Side | tuple[Side, Side] | None,
    BeforeValidator(check_image_size),
    Field(description="Pixels all images become: a side, or [height, width]; null where they are of one size already."),
]
# Cropping keeps proportions and invents nothing, and is what `image_size` has always meant.
Fitting = Annotated[
    Fit,
    Field(
        description="How an image of another shape becomes image_size: `crop` takes the most of its centre, `pad` all "
        "of it with white beside it, `stretch` all of it out of proportion. New photos are treated so too."
    ),
]
Broken = Annotated[
    OnBroken, Field(description="What images that cannot be read do: `refuse` the data, or are left out (`skip`).")
]


class ImageFolderData(Few):
    """A folder or zip with a folder of images a class, or train/ and test/ that hold such; or with a labels.csv.

    Images in unlabelled/, beside the classes or the splits, have no labels. Where no folder is a class (unlabelled/ has
    all of them, or they lie right in the folder or in train/ and test/) none has: the teacher's classes are the task.
    """

    kind: Literal["image_folder"] = "image_folder"
    path: Path = Field(description="The folder or zip.")
    image_size: ImageSize = None
    fit: Fitting = "crop"
    on_broken: Broken = "refuse"
    duplicates: Duplicates = "refuse"


# What lies in a file or folder: here by `path`, or uploaded, where the kind is called the format.
FileData = NpzData | ImageFolderData | TextData
DataSpec = Annotated[DigitsData | DatasetData | FileData, Field(discriminator="kind")]
