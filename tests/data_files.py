"""What the data tests share: a strict `pytest.raises`, and small real files."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest

from archsearch.errors import ArchsearchError

Refused = Callable[[type[ArchsearchError], str, str], AbstractContextManager[None]]
MakeZip = Callable[[Mapping[str, bytes]], Path]


@pytest.fixture
def refused() -> Refused:
    """`with refused(DataError, "x_train", "NaN")`: exactly this class, field, and a part of the detail."""

    @contextmanager
    def check(kind: type[ArchsearchError], field: str, part: str) -> Iterator[None]:
        with pytest.raises(ArchsearchError) as caught:
            yield
        assert type(caught.value) is kind
        assert (caught.value.field, part in caught.value.detail) == (field, True), caught.value

    return check


@pytest.fixture
def make_zip(tmp_path: Path) -> MakeZip:
    def make(members: Mapping[str, bytes]) -> Path:
        path = tmp_path / "data.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members.items():
                archive.writestr(name, data)
        return path

    return make


@pytest.fixture
def picture() -> Callable[..., bytes]:
    """The bytes of an image file with noise in it: `picture(seed, size=(w, h), mode="RGB", format="PNG")`."""
    from PIL import Image

    def make(seed: int = 0, size: tuple[int, int] = (6, 6), mode: str = "RGB", format: str = "PNG") -> bytes:
        noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        stream = io.BytesIO()
        Image.fromarray(noise).convert(mode).save(stream, format)
        return stream.getvalue()

    return make
