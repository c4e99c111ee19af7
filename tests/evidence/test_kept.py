from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from archsearch.evidence import NetworkEvidence
from archsearch.evidence.kept import keep

# B batch, K classes, D features

HALVES = {"relations", "head", "ntk"}


class Looked:
    """A look at a teacher, and how often it was taken."""

    def __init__(self, evidence: NetworkEvidence) -> None:
        self.evidence = evidence
        self.times = 0

    def __call__(self) -> NetworkEvidence:
        self.times += 1
        return self.evidence


@pytest.fixture
def look(batch, build) -> Looked:
    return Looked(batch.teacher(build("cifar_resnet").eval(), "relations", "head", "ntk"))


def kept(folder: Path | None, make: Callable[[], NetworkEvidence], **other: object) -> NetworkEvidence:
    asked = {"teacher": "a" * 64, "data_sha256": "d" * 64, "batch": (0, 16), "reads": HALVES, **other}
    return keep(folder, make=make, **asked)


def tensors(evidence: NetworkEvidence) -> list[Tensor | None]:
    return [evidence.logits_BK, *evidence.grams_BB, evidence.head_gradient_KD, evidence.ntk_BB]


def same(a: NetworkEvidence, b: NetworkEvidence) -> bool:
    pairs = list(zip(tensors(a), tensors(b), strict=True))
    return all((x is None and y is None) or (x.dtype == y.dtype and x.equal(y)) for x, y in pairs)


def test_a_second_time_nobody_looks_again(tmp_path: Path, look: Looked) -> None:
    first, second = kept(tmp_path / "new" / "folder", look), kept(tmp_path / "new" / "folder", look)
    assert look.times == 1
    assert second is not first
    assert same(first, second)
    assert len(second.grams_BB) == 3


def test_what_was_not_measured_is_not_kept_either(tmp_path: Path) -> None:
    look = Looked(NetworkEvidence(torch.rand(4, 10)))
    assert same(kept(tmp_path, look), kept(tmp_path, look))
    assert look.times == 1


def test_grams_keep_their_order_when_there_are_many(tmp_path: Path) -> None:
    grams_BB = tuple(torch.full((2, 2), float(i)) for i in range(12))
    look = Looked(NetworkEvidence(torch.rand(2, 10), grams_BB))
    kept(tmp_path, look)
    assert [gram_BB[0, 0].item() for gram_BB in kept(tmp_path, look).grams_BB] == list(range(12))


@pytest.mark.parametrize(
    "other",
    [
        {"teacher": "b" * 64},
        {"data_sha256": "e" * 64},
        {"batch": (1, 16)},
        {"batch": (0, 32)},
        {"reads": {"relations"}},
    ],
    ids=["teacher", "data", "seed", "size", "reads"],
)
def test_another_question_is_another_look(tmp_path: Path, look: Looked, other: dict[str, object]) -> None:
    kept(tmp_path, look)
    kept(tmp_path, look, **other)
    assert look.times == 2
    assert len(list(tmp_path.iterdir())) == 2


def test_the_order_of_reads_is_no_question(tmp_path: Path, look: Looked) -> None:
    kept(tmp_path, look, reads=["relations", "head", "ntk"])
    kept(tmp_path, look, reads=["ntk", "head", "relations"])
    assert look.times == 1


@pytest.mark.parametrize("damage", [b"", b"nothing like it", None], ids=["empty", "foreign", "cut short"])
def test_a_damaged_file_is_made_again_with_a_warning(
    tmp_path: Path, look: Looked, damage: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    first = kept(tmp_path, look)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-10] if damage is None else damage)
    with caplog.at_level(logging.WARNING):
        assert same(kept(tmp_path, look), first)
    assert look.times == 2
    assert "made again" in caplog.text
    assert str(path) in caplog.text
    kept(tmp_path, look)
    assert look.times == 2


def test_a_file_without_answers_is_made_again(tmp_path: Path, look: Looked, caplog: pytest.LogCaptureFixture) -> None:
    from safetensors.torch import save_file

    kept(tmp_path, look)
    (path,) = tmp_path.iterdir()
    save_file({"gram0": torch.zeros(2, 2)}, path)
    with caplog.at_level(logging.WARNING):
        kept(tmp_path, look)
    assert look.times == 2
    assert "made again" in caplog.text


def test_a_folder_nobody_can_write_to_only_warns(
    tmp_path: Path, look: Looked, caplog: pytest.LogCaptureFixture
) -> None:
    # A file in the folder's place stops root too.
    (tmp_path / "folder").write_text("in the way")
    with caplog.at_level(logging.WARNING):
        assert same(kept(tmp_path / "folder", look), look.evidence)
    assert "cannot be kept" in caplog.text


def test_without_a_folder_nothing_is_kept(look: Looked) -> None:
    assert kept(None, look) is look.evidence
    kept(None, look)
    assert look.times == 2


def test_nothing_is_pickled_and_nothing_is_left_over(tmp_path: Path, look: Looked) -> None:
    """A file is a plain safetensors header and numbers, readable with nothing of this package."""
    import json
    import struct

    kept(tmp_path, look)
    (path,) = tmp_path.iterdir()
    assert path.suffix == ".safetensors"
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    assert header.keys() == {"logits", "gram0", "gram1", "gram2", "head_gradient", "ntk"}
