"""Names for new texts: a finished student is asked about sentences, or about the rows of a table."""

# N texts, T tokens, K classes

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from archsearch.data.labels import is_text
from archsearch.data.limits import Limits
from archsearch.data.prediction import Form, Listener, Prediction
from archsearch.device import resolve, where
from archsearch.domains.text.columns import Wanted, find_texts
from archsearch.domains.text.rows import read_rows
from archsearch.domains.text.sources import open_table, table_format
from archsearch.domains.text.task import PADDING, TextTask
from archsearch.domains.text_classification.onnx import FORMATS, open_onnx
from archsearch.domains.text_classification.reading import task_of
from archsearch.errors import DataError, InvalidRequest, UnknownName
from archsearch.evaluate.metrics import log_sigmoid, log_softmax
from archsearch.export.files import ONNX
from archsearch.export.folder import require_student
from archsearch.export.format import Answer

_AT_ONCE = 64
_LINES = (".txt",)
_LONGEST_PATH = 4096
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Asked:
    """One text, or a pair, and where it is from; or why it cannot be asked about."""

    file: str
    texts: tuple[str, ...]
    error: str | None = None


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
    """See `archsearch.predict`: texts themselves, or csv, tsv, jsonl and txt files of them, read as in training."""
    task, tokenizer = task_of(folder)
    answer = _open(folder, form, device)
    asked = list(_asked(given, task, tuple(columns)))
    encoder = tokenizer.encoder(task.max_length)
    found: list[Prediction] = []
    for start in range(0, len(asked), _AT_ONCE):
        found += _named(asked[start : start + _AT_ONCE], task, encoder, answer, top, threshold)
        if listener is not None:
            listener(len(found), len(asked))
    return found


def _named(
    asked: Sequence[_Asked], task: TextTask, encoder: Any, answer: Answer, top: int, threshold: float
) -> Iterator[Prediction]:
    good = [one.texts if task.pair else one.texts[0] for one in asked if one.error is None]
    read = encoder.encode_batch_fast(good) if good else []
    empty = [not one.ids for one in read]
    chances = iter(_chances(answer(_examples([one for one in read if one.ids], task)), task) if not all(empty) else ())
    cut = iter([None if gone else len(one.overflowing) for one, gone in zip(read, empty, strict=True)])
    for one in asked:
        answered = Prediction(one.file, example=one.texts, error=one.error)
        if one.error is not None:
            yield answered
        elif (parts := next(cut)) is None:
            yield replace(answered, error="the tokenizer makes no token of it")
        else:
            note = f"longer than {task.max_length} tokens: what comes after them was not read" if parts else None
            yield replace(answered, names=_best(next(chances), task, top, threshold), note=note)


def _examples(read: Sequence[Any], task: TextTask) -> Ints:
    """What `TextSplit.examples` makes of the same ids, N×2×T, without torch."""
    x_N2T = np.full((len(read), 2, max(len(one.ids) for one in read)), task.pad_id, np.int64)
    x_N2T[:, 1] = PADDING
    for row, one in enumerate(read):
        x_N2T[row, 0, : len(one.ids)] = one.ids
        x_N2T[row, 1, : len(one.ids)] = one.type_ids if task.pair else 0
    return x_N2T


def _chances(logits_NK: npt.NDArray[Any], task: TextTask) -> npt.NDArray[np.float64]:
    log = log_sigmoid if task.kind == "multilabel" else log_softmax
    return np.exp(log(logits_NK))


def _best(
    chances_K: npt.NDArray[np.float64], task: TextTask, top: int, threshold: float
) -> tuple[tuple[str, float], ...]:
    names = task.class_names or tuple(map(str, range(task.classes)))
    named = [(names[int(k)], float(chances_K[k])) for k in np.argsort(-chances_K, kind="stable")]
    if task.kind == "multilabel":
        return tuple((name, chance) for name, chance in named if chance >= threshold)
    return tuple(named[:top])


def _asked(given: Sequence[Path | str], task: TextTask, columns: tuple[str, ...]) -> Iterator[_Asked]:
    """Every text there is: of files one a row, of what is given itself one an argument, or two of a pair."""
    waiting: list[str] = []
    for one in given:
        path = _file(one)
        if path is not None:
            yield from _lines(path, task) if _suffix(path) in _LINES else _rows(path, task, columns)
        elif not task.pair:
            yield _checked("", (str(one),))
        else:
            waiting.append(str(one))
    if len(waiting) % 2:
        raise InvalidRequest("it reads pairs of texts: give two of each, or a file with two columns", field="examples")
    for first, second in zip(waiting[::2], waiting[1::2], strict=True):
        yield _checked("", (first, second))


def _file(one: Path | str) -> Path | None:
    """The file that is meant; None where it is a text itself."""
    path = Path(one)
    if isinstance(one, Path) or _is_there(path, one):
        if not path.is_file():
            raise InvalidRequest(f"there is no file {path}", field="examples")
        if table_format(path.name) is None and _suffix(path) not in _LINES:
            detail = f"{path} is a file, and no csv, tsv, jsonl or txt; give texts themselves, or one of these"
            raise InvalidRequest(detail, field="examples")
        return path
    named = table_format(one) is not None or _suffix(path) in _LINES
    if named and not any(letter.isspace() for letter in one):
        raise InvalidRequest(f"there is no file {one}", field="examples")
    return None


def _is_there(path: Path, text: str | Path) -> bool:
    try:
        return 0 < len(str(text)) < _LONGEST_PATH and path.exists()
    except (OSError, ValueError):  # too long a name, or what no name can hold
        return False


def _suffix(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _lines(path: Path, task: TextTask) -> Iterator[_Asked]:
    if task.pair:
        raise InvalidRequest(f"{path} has one text a line, and it reads pairs; give a table", field="examples")
    with open_table(path) as stream:
        try:
            for number, line in enumerate(stream, 1):
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                if text and not text.isspace():
                    yield _checked(f"{path}:{number}", (text,))
        except UnicodeDecodeError:
            raise DataError(f"{path} is not UTF-8; save it as such", field="examples") from None


def _rows(path: Path, task: TextTask, columns: tuple[str, ...]) -> Iterator[_Asked]:
    if columns and len(columns) != 1 + task.pair:
        raise InvalidRequest(f"it reads {1 + task.pair} text(s) an example; name as many columns", field="columns")
    first, second = (*columns, None, None)[:2]
    with open_table(path) as stream:
        table = read_rows(path.name, stream, Limits())
        try:
            text, pair = find_texts(table.columns, Wanted(text=first, pair=second))
        except DataError as error:
            raise InvalidRequest(f"{path}: {error.detail}", field="columns") from None
        if (pair is not None) is not task.pair:
            what = "pairs of texts, and only one column" if task.pair else "single texts, and two columns"
            raise InvalidRequest(f"{path}: it reads {what} can be meant; name the columns", field="columns")
        for line, cells in table.rows:
            yield _checked(f"{path}:{line}", tuple(cells.get(name) for name in (text, pair) if name is not None))


def _checked(file: str, texts: tuple[Any, ...]) -> _Asked:
    for text in texts:
        if not isinstance(text, str):
            return _Asked(file, (), f"{text!r:.60} is no text")
        if not text or text.isspace():
            return _Asked(file, texts, "it is empty")
        if "\0" in text or not is_text(text):
            return _Asked(file, (), "it holds what is no text: a NUL, or half of a surrogate pair")
    return _Asked(file, texts)


def _open(folder: Path, form: Form, device: str) -> Answer:
    """Something that answers N×2×T."""
    known = {one.name: one for one in FORMATS}
    if form not in ("auto", "torch", *known):
        raise UnknownName("form", form, ("auto", "torch", *known), field="form")
    if form == "auto":
        there = importlib.util.find_spec("onnxruntime") is not None and (folder / ONNX).is_file()
        form = "onnx" if there else "torch"
    if form == "torch":
        require_student(folder)
        return _open_weights(folder, device)
    path = folder / known[form].file
    if not path.is_file():
        raise InvalidRequest(f"{folder} has no {path.name}; `archsearch export {folder}` makes it", field="form")
    try:
        return open_onnx(path, 0)
    except ImportError:
        raise InvalidRequest("onnxruntime is not installed: pip install 'archsearch[onnx]'", field="form") from None
    except Exception as error:  # the runtime raises kinds of its own
        raise InvalidRequest(f"{path} cannot be opened ({type(error).__name__})", field="form") from error


def _open_weights(folder: Path, device: str) -> Answer:
    import torch

    from archsearch.zoos.transformers.save import open_student

    student = open_student(folder).to(resolve(device))

    @torch.inference_mode()
    def answer(x_N2T: Ints) -> npt.NDArray[Any]:
        logits_NK: npt.NDArray[Any] = student(torch.from_numpy(x_N2T).to(where(student))).cpu().numpy()
        return logits_NK

    return answer
