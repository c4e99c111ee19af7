"""The network is the benchmark's own: its sizes, its wiring, its cells that pass nothing on."""

from __future__ import annotations

import csv
import gzip
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from archsearch import export
from archsearch.domains.images.task import ImageTask
from archsearch.hardware import measure
from archsearch.models.nasbench201 import Cell, NasBench201, Reduction
from archsearch.spaces import nasbench201, spaces

# B batch, C channels, H W space, K classes

NONE, SKIP, POOL, CONV1, CONV3 = nasbench201.OPERATIONS


class Times(nn.Module):
    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return self.factor * x_BCHW


@pytest.mark.shared
@pytest.mark.parametrize("classes", [10, pytest.param(100, marks=pytest.mark.slow)])
def test_what_torch_counts_is_what_the_table_says(shared: Path, colour_task: ImageTask, classes: int) -> None:
    with gzip.open(shared / "nb201_accuracy.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))[7::1300]
    assert len(rows) == 13
    for row in rows:
        architecture = nasbench201.parse(row["arch"])
        found = measure(spaces.get("nasbench201"), architecture, replace(colour_task, classes=classes))
        assert f"{found.params / 1e6:.6f}" == f"{float(row[f'c{classes}_mparams']):.6f}", row
        operations = nasbench201.operations(architecture)
        # The table adds three operations an entry of a map for a norm and its ReLU, and nine for a pooled one.
        entries = 5 * (16 * 32**2 + 32 * 16**2 + 64 * 8**2)
        convs, pools = (sum(kind in name for name in operations) for kind in ("conv", "pool"))
        macs = float(row[f"c{classes}_mflops"]) * 1e6 - 160_832 - entries * (3 * convs + 9 * pools)
        assert found.macs == round(macs), row


def test_each_edge_joins_the_nodes_its_place_in_the_string_says() -> None:
    cell = Cell((SKIP,) * 6, width=1)
    for i, factor in enumerate((2, 3, 5, 7, 11, 13)):
        cell.set_submodule(f"edge{i}", Times(factor))
    # Node 1 is 2x, node 2 is 3x + 5·2x = 13x, node 3 is 7x + 11·2x + 13·13x.
    assert cell(torch.ones(1, 1, 1, 1)).item() == 7 + 11 * 2 + 13 * (3 + 5 * 2)


def test_a_cell_of_shortcuts_adds_its_input_four_times() -> None:
    x_BCHW = torch.rand(2, 3, 4, 4)
    torch.testing.assert_close(Cell((SKIP,) * 6, 3)(x_BCHW), 4 * x_BCHW)


def test_pooling_averages_over_what_lies_inside_the_map() -> None:
    x_BCHW = torch.zeros(1, 1, 3, 3)
    x_BCHW[..., 0, 0] = 36
    # Windows of 4 at the corner, 6 at the sides, 9 in the middle; the far ones do not see the corner.
    expected = [[9.0, 6.0, 0.0], [6.0, 4.0, 0.0], [0.0, 0.0, 0.0]]
    assert Cell((NONE, NONE, NONE, POOL, NONE, NONE), 1)(x_BCHW)[0, 0].tolist() == expected


def test_a_convolution_comes_after_relu_and_before_the_norm() -> None:
    cell = Cell((NONE, NONE, NONE, CONV1, NONE, NONE), 1).eval()
    relu, conv, norm = cell.get_submodule("edge3")
    assert isinstance(relu, nn.ReLU)
    conv.weight.data.fill_(3)
    norm.running_mean.fill_(1)
    norm.running_var.fill_(4 - norm.eps)
    norm.bias.data.fill_(0.5)
    # (3·relu(x) − 1)/2 + ½
    assert cell(torch.tensor([[[[-2.0, 0.0, 2.0]]]])).flatten().tolist() == pytest.approx([0, 0, 3])


@pytest.mark.parametrize(
    "cell", [(NONE,) * 6, (CONV3, NONE, NONE, NONE, NONE, SKIP), (NONE, NONE, CONV1) + (NONE,) * 3]
)
def test_a_cell_that_leads_nowhere_gives_zero_and_still_runs(cell: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    model = NasBench201(cell, width=4, cells=1, num_classes=5)
    x_BCHW = torch.rand(3, 3, 8, 8)
    assert not model.get_submodule("stage1")(model.stem(x_BCHW)).any()
    logits_BK = model(x_BCHW)
    torch.testing.assert_close(logits_BK, model.fc.bias.expand(3, 5))
    logits_BK.sum().backward()
    assert model.fc.bias.grad.tolist() == [3] * 5
    # Weights of edges that lead nowhere stay: the benchmark counts them.
    convs = sum(operation in (CONV1, CONV3) for operation in cell)
    assert sum("edge" in name and name.endswith("1.weight") for name, _ in model.named_parameters()) == 3 * convs


def test_between_stages_the_shortcut_averages_four_pixels_and_at_an_odd_border_what_there_is() -> None:
    pool = Reduction(1, 1).downsample[0]
    x_BCHW = torch.arange(9.0).view(1, 1, 3, 3)
    # 0 1 2 / 3 4 5 / 6 7 8
    assert pool(x_BCHW)[0, 0].tolist() == [[2, 3.5], [6.5, 8]]


def test_the_default_is_fifteen_cells_in_three_stages() -> None:
    with torch.device("meta"):
        model = timm.create_model("nasbench201", num_classes=10)
        map_BCHW = model.forward_features(torch.empty(2, 3, 32, 32))
    assert sum(isinstance(module, Cell) for module in model.modules()) == 15
    assert map_BCHW.shape == (2, 64, 8, 8)
    assert [stage["num_chs"] for stage in model.feature_info] == [16, 32, 64]
    assert [stage["reduction"] for stage in model.feature_info] == [1, 2, 4]


def test_it_speaks_timms_interface() -> None:
    model = timm.create_model("nasbench201", cell=[SKIP] * 6, width=4, cells=1, num_classes=7, in_chans=1)
    x_BCHW = torch.rand(2, 1, 8, 8)
    map_BCHW = model.forward_features(x_BCHW)
    assert model(x_BCHW).shape == (2, 7)
    assert model.forward_head(map_BCHW, pre_logits=True).shape == (2, model.num_features)
    assert model.get_classifier() is model.fc
    model.reset_classifier(0)
    assert model(x_BCHW).shape == (2, 16)


def test_what_is_no_cell_is_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match="a cell has 6 edges, not 5"):
        NasBench201((SKIP,) * 5)
    with pytest.raises(ValueError, match=r"'dil_conv_3x3' is no operation of NAS-Bench-201: none, skip_connect"):
        NasBench201((*(SKIP,) * 5, "dil_conv_3x3"))
    with pytest.raises(ValueError, match="pools by average, not 'max'"):
        NasBench201(global_pool="max")


def test_a_saved_cell_comes_back_with_its_wiring(tmp_path: Path, gray_task: ImageTask) -> None:
    torch.manual_seed(0)
    cell = [CONV3, NONE, POOL, CONV1, SKIP, NONE]
    model = timm.create_model("nasbench201", cell=cell, width=4, cells=1, num_classes=10, in_chans=1).eval()
    export.save_student(model, gray_task, tmp_path / "student")
    x_BCHW = torch.rand(2, 1, 8, 8)
    again = timm.create_model(f"local-dir:{tmp_path / 'student'}", pretrained=True).eval()
    with torch.inference_mode():
        assert again(x_BCHW).equal(model(x_BCHW))
