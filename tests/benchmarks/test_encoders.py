"""Tables of encoders: shapes as they were trained, and what scores of size are worth on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.encoders import DISTILLED, NAS_BENCH_BERT, Encoder, pairs, ranks, read, sizes

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
HEADER = "hidden,layers,n_ff,ff_dim,params,glue"


def test_shapes_are_those_that_were_trained(tmp_path: Path) -> None:
    (tmp_path / "language").mkdir()
    (tmp_path / "language/nas_bench_bert.csv").write_text(f"{HEADER}\n128,2,1-3,512-1024,5000,70.5\n")
    (found,) = read(tmp_path, NAS_BENCH_BERT)
    # The first matrix is four times the width in any case; the other two are there where three are.
    one = ((512, 128), (128, 512))
    three = ((512, 128), (1024, 512), (1024, 1024), (128, 1024))
    assert found == Encoder(128, (one, three), 5000, {"glue": 70.5})
    blocks = 2 * 4 * 128**2 + 2 * 512 * 128 + 512 * 128 + 1024 * 512 + 1024**2 + 128 * 1024
    assert sizes([found])["block params"] == pytest.approx(np.log(blocks))


def encoder(depth: int, width: int, quality: float, group: str = "") -> Encoder:
    layers = (((4 * width, width), (width, 4 * width)),) * depth
    return Encoder(width, layers, float(depth * width**2), {"sst2": quality}, group)


def test_pairs_compare_within_a_source_and_a_teacher() -> None:
    some = [encoder(2, 64, 70, "a"), encoder(4, 64, 80, "a"), encoder(4, 32, 75, "a"), encoder(8, 64, 60, "b")]
    found = pairs(some)
    # Right: 4×64 above both others. 2×64 and 4×32 have the same depth × width; the deeper is the better.
    assert found["depth x width"]["sst2"] == [2, 0, 1]
    assert found["encoder_size"]["sst2"] == [3, 0, 0]
    assert found["params"]["sst2"] == [2, 1, 0]


@pytest.mark.shared
def test_the_table_of_encoders() -> None:
    """README figures of the table itself: params .573 / .765, depth × width .745, depth then width .801."""
    if not (SHARED / "language").is_dir():
        pytest.skip("the evaluation data are not here")
    rows = ranks(read(SHARED, NAS_BENCH_BERT))
    found = {name: round(row["tau"], 3) for name, row in rows.items()}
    assert (found["params"], round(rows["params"]["rho"], 3)) == (0.573, 0.765)
    assert (found["depth x width"], found["depth, then width"]) == (0.745, 0.801)
    assert found["encoder_size"] == 0.757 > found["capacity"] + 0.1
    assert rows["encoder_size"]["tau_same_shape"] > 0.2 > 0 == rows["depth x width"]["tau_same_shape"]
    right, wrong, _ = pairs(read(SHARED, DISTILLED))["encoder_size"]["mnli_m"]
    assert (right, wrong) == (23, 2)
