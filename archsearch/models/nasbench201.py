"""The network of NAS-Bench-201 (Dong and Yang 2020, section 2.1): one searched cell, fifteen times."""

# B batch, C channels, H W space

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from timm.models import build_model_with_cfg
from torch import Tensor, nn

from archsearch.models.entry import offer, untrained
from archsearch.spaces.cells import CELLS, EDGES, OPERATIONS, WIDTHS

# Which node each of a cell's six edges comes from, for nodes 1, 2 and 3, in the order of the cell's own string.
SOURCES = ((0,), (0, 1), (0, 1, 2))


class ReluConvBn(nn.Sequential):
    """ReLU, convolution, batch norm: the benchmark's `nor_conv`."""

    def __init__(self, width_in: int, width: int, kernel: int, stride: int = 1) -> None:
        conv = nn.Conv2d(width_in, width, kernel, stride, kernel // 2, bias=False)
        super().__init__(nn.ReLU(), conv, nn.BatchNorm2d(width))


def edge(operation: str, width: int) -> nn.Module | None:
    """The module on an edge; None where nothing passes."""
    match operation:
        case "none":
            return None
        case "skip_connect":
            return nn.Identity()
        case "avg_pool_3x3":
            return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
        case "nor_conv_1x1":
            return ReluConvBn(width, width, 1)
        case "nor_conv_3x3":
            return ReluConvBn(width, width, 3)
    raise ValueError(f"{operation!r} is no operation of NAS-Bench-201: {', '.join(OPERATIONS)}")


class Cell(nn.Module):
    """Four nodes; each is the sum of what its incoming edges bring from all nodes before it.

    Edges that nothing reaches, or whose end reaches no output, stay in the network with their weights, as in the
    benchmark: its parameter counts include them.
    """

    def __init__(self, cell: Sequence[str], width: int) -> None:
        super().__init__()
        self.present = [operation != "none" for operation in cell]
        for i, operation in enumerate(cell):
            module = edge(operation, width)
            if module is not None:
                self.add_module(f"edge{i}", module)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        nodes = [x_BCHW]
        first = 0
        for sources in SOURCES:
            brought = [
                self.get_submodule(f"edge{first + source}")(nodes[source])
                for source in sources
                if self.present[first + source]
            ]
            # A node without edges is zero, and stays part of the graph.
            nodes.append(sum(brought[1:], brought[0]) if brought else x_BCHW * 0)
            first += len(sources)
        return nodes[-1]


class Reduction(nn.Module):
    """Between stages: a residual block of stride 2 with an average-pooled shortcut."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.conv_a = ReluConvBn(width_in, width, 3, stride=2)
        self.conv_b = ReluConvBn(width, width, 3)
        # Of an odd side the last row is pooled alone, so that the shortcut meets what the strided convolution leaves.
        pool = nn.AvgPool2d(2, ceil_mode=True)
        self.downsample = nn.Sequential(pool, nn.Conv2d(width_in, width, 1, bias=False))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        out: Tensor = self.conv_b(self.conv_a(x_BCHW)) + self.downsample(x_BCHW)
        return out


class NasBench201(nn.Module):
    """Stem, three stages of equal cells at widths 16, 32, 64, reductions between them; speaks timm's interface.

    Args:
        cell: The six operations, in the order of the benchmark's cell string.
        width: Channels of the first stage; the others have twice and four times as many.
        cells: Cells in each stage.
    """

    def __init__(
        self,
        cell: Sequence[str] = ("nor_conv_3x3",) * EDGES,
        width: int = WIDTHS[0],
        cells: int = CELLS,
        num_classes: int = 100,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if len(cell) != EDGES:
            raise ValueError(f"a cell has {EDGES} edges, not {len(cell)}")
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.drop_rate = drop_rate
        self.stem = nn.Sequential(nn.Conv2d(in_chans, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width))
        self.feature_info = []
        for i in range(3):
            w = width * 2**i
            blocks = [] if i == 0 else [Reduction(w // 2, w)]
            self.add_module(f"stage{i + 1}", nn.Sequential(*blocks, *(Cell(cell, w) for _ in range(cells))))
            self.feature_info.append({"num_chs": w, "reduction": 2**i, "module": f"stage{i + 1}"})
        self.num_features = self.head_hidden_size = 4 * width
        self.last = nn.Sequential(nn.BatchNorm2d(self.num_features), nn.ReLU())
        self.reset_classifier(num_classes, global_pool)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def get_classifier(self) -> nn.Module:
        return self.fc

    def reset_classifier(self, num_classes: int, global_pool: str = "avg") -> None:
        if global_pool not in ("avg", ""):
            raise ValueError(f"nasbench201 pools by average, not {global_pool!r}")
        self.num_classes = num_classes
        self.global_pool = global_pool
        self.fc: nn.Module = nn.Linear(self.num_features, num_classes) if num_classes > 0 else nn.Identity()

    def forward_features(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = self.stem(x_BCHW)
        for i in (1, 2, 3):
            x_BCHW = self.get_submodule(f"stage{i}")(x_BCHW)
        out: Tensor = self.last(x_BCHW)
        return out

    def forward_head(self, x_BCHW: Tensor, pre_logits: bool = False) -> Tensor:
        x = x_BCHW.mean((2, 3)) if self.global_pool else x_BCHW
        x = nn.functional.dropout(x, self.drop_rate, self.training)
        logits: Tensor = x if pre_logits else self.fc(x)
        return logits

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x_BCHW))


default_cfgs = untrained("nasbench201", first_conv="stem.0", classifier="fc", pool_size=(8, 8))


def nasbench201(pretrained: bool = False, **kwargs: Any) -> NasBench201:
    """timm's entry point: `timm.create_model("nasbench201", cell=[…six operations…])`."""
    model: NasBench201 = build_model_with_cfg(NasBench201, "nasbench201", pretrained, **kwargs)
    return model


offer(nasbench201)

__all__ = ["Cell", "NasBench201", "Reduction", "nasbench201"]
