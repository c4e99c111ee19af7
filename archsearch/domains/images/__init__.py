"""Images: how they are read, checked, kept and shown, for every domain whose examples they are."""

from archsearch.domains.images.digits import DIGITS, DIGITS_TRAIN, load_digits
from archsearch.domains.images.image_folder import load_image_folder
from archsearch.domains.images.npz import load_npz
from archsearch.domains.images.task import ImageSplit, ImageTask

__all__ = ["DIGITS", "DIGITS_TRAIN", "ImageSplit", "ImageTask", "load_digits", "load_image_folder", "load_npz"]
