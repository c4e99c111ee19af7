"""timm's ResNets and ResNeXts (ResNet-D and squeeze-excite included), our small ones, and ours for CIFAR."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from archsearch.inherit.layout import Drawing, names

if TYPE_CHECKING:
    from torch import nn


def draw(model: nn.Module) -> Drawing | None:
    from timm.models.resnet import ResNet

    from archsearch.models import CifarResNet

    if not isinstance(model, (ResNet, CifarResNet)):
        return None
    drawing = Drawing(model)
    stream = _stem(drawing)
    for number in range(1, 5):
        stage: Any = getattr(model, f"layer{number}", None)
        if stage is not None:
            blocks = names(stage, f"layer{number}")
            drawing.stages.append(blocks)
            for name in blocks:
                stream = _block(drawing, name, stream, f"stage{number}")
    drawing.layer("fc", stream, None)
    return drawing


def _stem(drawing: Drawing) -> str:
    """Draws what comes before the stages; returns the stream they read."""
    from torch import nn

    model: Any = drawing.model
    if isinstance(model.conv1, nn.Conv2d):
        drawing.layer("conv1", None, "stem")
        drawing.norm("bn1", "stem")
        return "stem"
    stream: str | None = None  # a deep one: convolutions, each but the last with its norm
    for name, module in model.conv1.named_children():
        if isinstance(module, nn.Conv2d):
            drawing.layer(f"conv1.{name}", stream, f"stem{name}")
            stream = f"stem{name}"
        elif stream is not None and module.state_dict():
            drawing.norm(f"conv1.{name}", stream)
    assert stream is not None
    drawing.norm("bn1", stream)
    return stream


def _block(drawing: Drawing, name: str, reads: str, writes: str) -> str:
    block: Any = drawing.model.get_submodule(name)
    inner = f"{name}/inner"
    drawing.layer(f"{name}.conv1", reads, inner)
    drawing.norm(f"{name}.bn1", inner)
    if hasattr(block, "conv3"):
        middle = inner if block.conv2.groups > 1 else f"{name}/middle"
        if middle == inner:
            drawing.grouped(f"{name}.conv2", inner)
        else:
            drawing.layer(f"{name}.conv2", inner, middle)
        drawing.norm(f"{name}.bn2", middle)
        drawing.layer(f"{name}.conv3", middle, writes)
        drawing.norm(f"{name}.bn3", writes)
    else:
        drawing.layer(f"{name}.conv2", inner, writes)
        drawing.norm(f"{name}.bn2", writes)
    if hasattr(getattr(block, "se", None), "fc1"):
        squeezed = f"{name}/squeezed"
        drawing.layer(f"{name}.se.fc1", writes, squeezed, aside=True)
        drawing.layer(f"{name}.se.fc2", squeezed, writes, aside=True)
    _shortcut(drawing, f"{name}.downsample", reads, writes)
    return writes


def _shortcut(drawing: Drawing, name: str, reads: str, writes: str) -> None:
    from torch import nn

    shortcut: Any = dict(drawing.model.named_modules()).get(name)
    if not isinstance(shortcut, nn.Sequential):
        if reads != writes:
            drawing.same(writes, reads)
        return
    for part, module in shortcut.named_children():  # pooled first, in ResNet-D
        if isinstance(module, nn.Conv2d):
            drawing.layer(f"{name}.{part}", reads, writes)
            drawing.shortcut(f"{name}.{part}")
        elif module.state_dict():
            drawing.norm(f"{name}.{part}", writes)
            drawing.shortcut(f"{name}.{part}")
