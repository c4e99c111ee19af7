"""Names for new photos: a finished student is asked about image files, which are read as in its training."""

# N images, H W space, C channels, K classes

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from archsearch.data.files import open_files
from archsearch.data.limits import Limits
from archsearch.data.prediction import Form, Listener, Prediction
from archsearch.device import resolve
from archsearch.domains.images.layout import IMAGES
from archsearch.domains.images.preprocessing import Preprocessing, parse_preprocessing
from archsearch.errors import ArchsearchError, DataError, InvalidRequest

if TYPE_CHECKING:
    from archsearch.export.format import Answer

Pixels = npt.NDArray[np.uint8]

_AT_ONCE = 64


@dataclass(frozen=True)
class _Source:
    """An image that is read once it is its turn."""

    file: str
    read: Callable[[], bytes]


def predict(
    folder: Path,
    given: Sequence[Path | str],
    *,
    top: int,
    threshold: float,
    form: Form,
    columns: Sequence[str] = (),
    listener: Listener | None = None,
    device: str = "cpu",
) -> list[Prediction]:
    """See `archsearch.predict`: image files, folders of them, or zips."""
    if columns:
        raise InvalidRequest("photos have no columns; leave it out", field="columns")
    answer, settings = _open(folder, form, device)
    if settings.channels not in (1, 3):
        raise InvalidRequest(
            f"it takes images of {settings.channels} channels, which no photo has; ask its files with arrays, as "
            "README.md there shows",
            field="student",
        )
    found: list[Prediction] = []
    with ExitStack() as stack:
        sources = [source for one in given for source in _sources(Path(one), stack)]
        for start in range(0, len(sources), _AT_ONCE):
            found += _named(sources[start : start + _AT_ONCE], answer, settings, top, threshold)
            if listener:
                listener(len(found), len(sources))
    return found


def _named(
    sources: Sequence[_Source], answer: Answer, settings: Preprocessing, top: int, threshold: float
) -> Iterator[Prediction]:
    """Predictions of some images, which are asked about together; of those that cannot be read, why."""
    from concurrent.futures import ThreadPoolExecutor

    from archsearch.domains.images import photo

    with ThreadPoolExecutor() as pool:
        read = list(pool.map(partial(_pixels, settings=settings), sources))
    good = [pixels for pixels in read if isinstance(pixels, np.ndarray)]
    chances = iter(photo.probabilities(answer(np.stack(good)), settings.kind) if good else ())
    fields = settings.fields()
    for source, pixels in zip(sources, read, strict=True):
        if isinstance(pixels, ArchsearchError):
            yield Prediction(source.file, error=pixels.detail)
        else:
            yield Prediction(source.file, tuple(photo.best(next(chances), fields, top, threshold)))


def _pixels(source: _Source, settings: Preprocessing) -> Pixels | ArchsearchError:
    from archsearch.domains.images.images import decode

    size = (settings.height, settings.width)
    try:
        return decode(source.file, source.read(), size, Limits(), settings.fit, channels=settings.channels)
    except ArchsearchError as error:
        return error
    except OSError as error:
        return DataError(f"cannot be read ({error.strerror})", field=source.file)


def _sources(path: Path, stack: ExitStack) -> list[_Source]:
    """The images a path names: itself, or those in it."""
    if path.is_dir() or path.suffix.lower() == ".zip":
        odd: list[DataError] = []
        files = stack.enter_context(open_files(path, Limits(), odd.append))
        names = [name for name in sorted(files.names) if PurePosixPath(name).suffix.lower() in IMAGES]
        if not names and not odd:
            raise InvalidRequest(f"{path} holds no image: {', '.join(sorted(IMAGES))}", field="images")
        good = [_Source(str(path / name), partial(files.read, name)) for name in names]
        return good + [_Source(str(path / str(error.field)), partial(_raise, error)) for error in odd]
    if not path.is_file():
        raise InvalidRequest(f"there is no file or folder {path}", field="images")
    return [_Source(str(path), path.read_bytes)]


def _raise(error: DataError) -> bytes:
    raise error


def _open(folder: Path, form: Form, device: str) -> tuple[Answer, Preprocessing]:
    """Something that answers, and how photos are read for it."""
    from archsearch.export.files import ONNX
    from archsearch.export.folder import require_student

    if form == "auto":
        if importlib.util.find_spec("onnxruntime") is not None and (folder / ONNX).is_file():
            with suppress(InvalidRequest):  # of an earlier version: the weights are there too
                return _open_onnx(folder / ONNX)
        form = "torch"
    if form == "torch":
        require_student(folder)
        return _open_weights(folder, device)
    return _open_program(folder, form)


def _open_weights(folder: Path, device: str) -> tuple[Answer, Preprocessing]:
    from archsearch.export.folder import load_student, load_task
    from archsearch.export.format import reference

    task = load_task(folder)
    return reference(load_student(folder).to(resolve(device)), task), Preprocessing.of(task)


def _open_program(folder: Path, form: str) -> tuple[Answer, Preprocessing]:
    from archsearch.export.format import formats

    one = formats.get(form, field="form")
    path = folder / one.file
    if not path.is_file():
        raise InvalidRequest(f"{folder} has no {one.file}; `archsearch export {folder}` makes it", field="form")
    if form in ("onnx", "int8"):
        return _open_onnx(path)
    return one.open(path, 1), _parsed(path, one.settings(path))


def _open_onnx(path: Path) -> tuple[Answer, Preprocessing]:
    """By ONNX Runtime alone: neither torch nor onnx is imported."""
    from archsearch.domains.images import photo

    try:
        session, settings = photo.open_student(path)
    except ImportError:
        raise InvalidRequest("onnxruntime is not installed: pip install 'archsearch[onnx]'", field="form") from None
    except ValueError:  # what others keep in a file's metadata need not be JSON
        session, settings = None, {}
    except Exception as error:  # the runtime raises kinds of its own
        raise InvalidRequest(f"{path} cannot be opened ({type(error).__name__})", field="form") from error
    return lambda pixels_BHWC: session.run(None, {"images": pixels_BHWC})[0], _parsed(path, settings)


def _parsed(path: Path, settings: Any) -> Preprocessing:
    try:
        return parse_preprocessing(settings)
    except ValueError:
        raise InvalidRequest(
            f"{path} does not say how photos are read, as files of earlier versions; `archsearch export "
            f"{path.parent}` makes it anew, and --format torch (form='torch') asks the weights",
            field="form",
        ) from None
