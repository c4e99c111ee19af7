"""An ONNX graph as the rooms between ask any network: images in, logits out, its named maps in sight."""

# B batch, C channels, H W space, K classes, D features, N tokens

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from archsearch.data.shape import Shape
from archsearch.errors import TeacherError
from archsearch.teachers.answers import Answers

Array = npt.NDArray[Any]
# What answers come out of, and so what makes logits of them.
Meaning = Literal["logits", "softmax", "sigmoid"]
# Probabilities below are rounding, and their logarithms would be the largest numbers there are.
_LEAST = 1e-12
# A graph for any number of images gets no more at once, whoever asks: what it takes meanwhile is not torch's to count.
AT_ONCE = 64


@dataclass(frozen=True)
class Intake:
    """How images become what a graph takes.

    Attributes:
        name: Of its input.
        layout: `nchw`, `nhwc`; or `flat`, one row of numbers an image, pixel by pixel.
        kind: Of its numbers.
        batch: So many images at a time and no others; None takes any number.
    """

    name: str
    layout: str
    kind: np.dtype[Any]
    batch: int | None

    def array(self, x_BCHW: Tensor) -> Array:
        found = x_BCHW.detach().float().cpu().contiguous().numpy()
        if self.layout != "nchw":
            found = found.transpose(0, 2, 3, 1)
        if self.layout == "flat":
            found = found.reshape(len(found), -1)
        if self.kind.kind in "iu":
            found = found.round().clip(0, np.iinfo(self.kind).max)
        return np.ascontiguousarray(found, dtype=self.kind)


@dataclass(frozen=True)
class Stage:
    """An output that shows a map or tokens.

    Attributes:
        place: Among the graph's outputs.
        sizes: C, H and W; N and D; or D, however the graph lays them out.
        last: Whether it has the channels last, as maps of graphs in `nhwc` do.
    """

    place: int
    sizes: tuple[int, ...]
    last: bool


class OnnxNetwork(nn.Module):
    """A network that ONNX Runtime computes, on the processor, whatever device asks. It has no gradients.

    Attributes:
        num_classes: Answers it gives.
        feature_info: Its stages, as timm names them; modules that pass on what the graph shows.
        differentiable: False: gradients end here.
    """

    differentiable = False
    num_prefix_tokens = 0

    def __init__(
        self,
        run: Callable[[dict[str, Array]], list[Array]],
        intake: Intake,
        *,
        answer: int,
        width: int,
        meaning: Meaning,
        stages: Sequence[Stage],
        in_chans: int,
        height: int,
        count: Callable[[dict[str, Array], int], tuple[int, int]],
    ) -> None:
        """Wrap a session.

        Args:
            run: From what the graph takes to its outputs that are numbers.
            answer: Which of the outputs the answers are; `width` of them.
            height: Pixels of the images the stages' sizes are of.
            count: Parameters and multiply-accumulates, of what it takes of so many examples.
        """
        super().__init__()
        self._run, self._intake, self._answer, self._meaning, self._shown = run, intake, answer, meaning, tuple(stages)
        self._count = count
        self.num_classes = self.num_features = width
        self.in_chans = in_chans
        self.stages = nn.ModuleList(nn.Identity() for _ in stages)
        self.feature_info = [_described(number, stage, height) for number, stage in enumerate(stages)]
        self.head: nn.Module = Answers(width)
        # What leaves no trace in the file's bytes.
        self._model_args = {"layout": intake.layout, "outputs": meaning, "answer": answer}

    def get_classifier(self) -> nn.Module:
        return self.head

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, x_BCHW: Tensor) -> Tensor:
        outputs = self._ask(x_BCHW)
        for module, stage in zip(self.stages, self._shown, strict=True):
            map_BX = outputs[stage.place]
            module(map_BX.movedim(-1, 1) if stage.last else map_BX)
        answers = outputs[self._answer]
        if not answers.isfinite().all():
            raise TeacherError(
                "the ONNX network's answers to some images are no numbers (NaN or infinity); export it in float32, "
                "without a logarithm of nothing at its end",
                field="teacher",
            )
        logits_BK: Tensor = self.head(self._logits(self._row(answers)))
        return logits_BK

    def reset_classifier(self, num_classes: int) -> None:
        """Put a new linear layer behind what the graph makes of an image."""
        self.head, self.num_classes = nn.Linear(self.num_features, num_classes), num_classes

    def counted(self, shape: Shape) -> tuple[int, int]:
        """Parameters and multiply-accumulates of one example of a shape."""
        examples = self._intake.batch or 1
        feed = {self._intake.name: self._intake.array(torch.full((examples, *shape.sizes), 0.5))}
        return self._count(feed, examples)

    def _ask(self, x_BCHW: Tensor) -> list[Tensor]:
        """Every output to all images, on the device that asks; they are looked at in pieces."""
        given, size = self._intake.array(x_BCHW), self._intake.batch or AT_ONCE
        parts = [self._piece(given[start : start + size]) for start in range(0, len(given), size)]
        return [torch.from_numpy(np.concatenate(each)).float().to(x_BCHW.device) for each in zip(*parts, strict=True)]

    def _piece(self, given: Array) -> list[Array]:
        """Its outputs to as many images as it takes at most; the first again fill up what a fixed number lacks."""
        asked = given if self._intake.batch is None else np.resize(given, (self._intake.batch, *given.shape[1:]))
        return [output[: len(given)] for output in self._run({self._intake.name: asked})]

    def _row(self, output: Tensor) -> Tensor:
        """A row of numbers an image: as it comes, or the mean over the places of a map or the tokens of a row."""
        if output.numel() == output.shape[0] * output.shape[1]:
            return output.flatten(1)
        if output.ndim == 3:
            return output.mean(1)
        return output.mean((2, 3) if self._intake.layout == "nchw" else (1, 2))

    def _logits(self, answers_BK: Tensor) -> Tensor:
        if self._meaning == "softmax":
            return answers_BK.clamp_min(_LEAST).log()
        if self._meaning == "sigmoid":
            return answers_BK.clamp(_LEAST, 1 - 1e-7).logit()
        return answers_BK


def _described(number: int, stage: Stage, height: int) -> dict[str, Any]:
    channels, reduction = stage.sizes[0], 1
    if len(stage.sizes) == 3:
        reduction = max(1, height // max(1, stage.sizes[1]))
    elif len(stage.sizes) == 2:
        channels = stage.sizes[1]
    return {"module": f"stages.{number}", "num_chs": channels, "reduction": reduction}
