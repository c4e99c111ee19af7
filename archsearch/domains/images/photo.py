"""From a photo's file to pixels, and through an exported student to the name of what it shows.

Training reads its photos with these functions, and every student takes them along: this file lies in its folder, word
for word, as `predict.py`. It needs Pillow and NumPy to read, and ONNX Runtime to name; never torch, timm or archsearch.

    python predict.py photo.jpg …
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

# N images, H W space, C channels, K classes

GREY = ("1", "L", "LA", "La", "I;16", "I;16L", "I;16B", "I;16N")


def read(file: Path | str | IO[bytes], settings: Mapping[str, Any]) -> npt.NDArray[np.uint8]:
    """The pixels H×W×C of an image file, uint8, as the student wants them.

    Args:
        settings: What `preprocessing.json` holds; height, width, channels and fit are looked at.
    """
    if settings["channels"] not in (1, 3):
        raise ValueError(f"images of {settings['channels']} channels are no photos; give their pixels as arrays")
    with Image.open(file) as opened:
        image = flat(opened)
    image = fitted(image, settings["height"], settings["width"], settings["fit"])
    pixels = np.asarray(image.convert("L" if settings["channels"] == 1 else "RGB"))
    return pixels.reshape(settings["height"], settings["width"], settings["channels"])


def flat(image: Image.Image) -> Image.Image:
    """The first frame as a viewer shows it: upright, in grey or RGB of 8 bits, what is transparent laid over white.

    Raises ValueError for pixels of 32 bits.
    """
    if image.mode in ("I", "F"):  # nothing says which of their values is white
        raise ValueError("holds pixels of 32 bits; save it with 8 or 16 bits a channel")
    image = ImageOps.exif_transpose(image)
    grey = image.mode in GREY
    if image.mode.startswith("I;16"):  # Pillow itself would clip instead of scaling
        image = Image.fromarray(np.rint(np.asarray(image).astype(np.float32) / 257).astype(np.uint8))
    if image.has_transparency_data:
        over = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", over.size, "white"), over)
    return image.convert("L" if grey else "RGB")


def fitted(image: Image.Image, height: int, width: int, fit: str) -> Image.Image:
    """The image in another size, bicubic and antialiased; one of that size already stays as it is.

    `crop` takes the largest part of that shape from the centre, `pad` all of it with white beside it, and `stretch` all
    of it whatever becomes of its proportions.
    """
    if image.size == (width, height):
        return image
    if fit == "stretch":
        return image.resize((width, height), Image.Resampling.BICUBIC)
    if fit == "pad":
        scale = min(width / image.width, height / image.height)
        inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        whole = Image.new(image.mode, (width, height), "white")
        place = ((width - inner[0]) // 2, (height - inner[1]) // 2)
        whole.paste(image.resize(inner, Image.Resampling.BICUBIC), place)
        return whole
    # Cutting first gives the same picture and never makes a long strip longer.
    across = min(image.width, image.height * width / height)
    down = min(image.height, image.width * height / width)
    left, top = (image.width - across) // 2, (image.height - down) // 2
    return image.resize((width, height), Image.Resampling.BICUBIC, box=(left, top, left + across, top + down))


def probabilities(logits_NK: npt.NDArray[np.floating[Any]], kind: str) -> npt.NDArray[np.float64]:
    """Of every class, adding up to 1; of a multi-label task of every label alone."""
    wide_NK = logits_NK.astype(np.float64)
    if kind == "multilabel":
        return np.asarray(0.5 * (1 + np.tanh(wide_NK / 2)))  # the sigmoid, without overflow
    shares_NK = np.exp(wide_NK - wide_NK.max(axis=1, keepdims=True))
    return np.asarray(shares_NK / shares_NK.sum(axis=1, keepdims=True))


def best(
    chances_K: npt.NDArray[np.float64], settings: Mapping[str, Any], top: int = 1, threshold: float = 0.5
) -> list[tuple[str, float]]:
    """The likeliest classes of one image with their probabilities; of many labels, all at or above a probability."""
    order = np.argsort(-chances_K, kind="stable")
    named = [(name_of(int(k), settings), float(chances_K[k])) for k in order]
    if settings["kind"] == "multilabel":
        return [(name, chance) for name, chance in named if chance >= threshold]
    return named[:top]


def name_of(number: int, settings: Mapping[str, Any]) -> str:
    """A class by its name, or by its number where it has none."""
    return settings["labels"][number] if settings["labels"] else str(number)


def open_student(path: Path | str) -> tuple[Any, dict[str, Any]]:
    """An ONNX Runtime session of `student.onnx` or `student.int8.onnx`, and the settings the file holds."""
    import onnxruntime  # type: ignore[import-untyped]

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    settings = {key: json.loads(text) for key, text in session.get_modelmeta().custom_metadata_map.items()}
    return session, settings


def predict(session: Any, settings: Mapping[str, Any], files: Sequence[Path | str]) -> npt.NDArray[np.float64]:
    """Probabilities N×K of what image files show."""
    pixels_NHWC = np.stack([read(file, settings) for file in files])
    (logits_NK,) = session.run(None, {"images": pixels_NHWC})
    return probabilities(logits_NK, settings["kind"])


def main(files: Sequence[str]) -> None:
    """Print what each file shows, as `student.onnx` beside this program sees it."""
    session, settings = open_student(Path(__file__).with_name("student.onnx"))
    for file in files:
        (chances_K,) = predict(session, settings, [file])
        found = ", ".join(f"{name} {100 * chance:.1f} %" for name, chance in best(chances_K, settings))
        print(f"{file}: {found or 'none of its labels'}")


if __name__ == "__main__":
    main(sys.argv[1:])
