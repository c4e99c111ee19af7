"""What the costs of networks of images depend on, as people give it and as profiles keep it."""

from __future__ import annotations

from pydantic import Field

from archsearch.domains.images.task import ImageTask
from archsearch.plain import Spec


class ImageSizes(Spec):
    """Of images as flags and queries name them."""

    image_size: int = Field(32, ge=4, le=4096, description="Height and width of the images, in pixels.")
    in_chans: int = Field(3, ge=1, le=16, description="Channels of the images.")

    def task(self, classes: int) -> ImageTask:
        """Of as many classes, with some normalisation or other."""
        return sized(classes, self.in_chans, self.image_size, self.image_size)


class ImageShape(Spec):
    """Of the images a profile was measured on."""

    in_chans: int = Field(ge=1, le=16)
    height: int = Field(ge=1, le=4096)
    width: int = Field(ge=1, le=4096)

    def task(self, classes: int) -> ImageTask:
        return sized(classes, self.in_chans, self.height, self.width)


def sized(classes: int, in_chans: int, height: int, width: int) -> ImageTask:
    """A task whose normalisation nobody asks for."""
    return ImageTask(classes, in_chans, height, width, (0.5,) * in_chans, (0.25,) * in_chans)
