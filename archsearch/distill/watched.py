"""Networks with their stages in sight: which stages of two networks are comparable, and what they show of a batch."""

# B batch, C channels, H W space, K classes, D features, N T tokens

from __future__ import annotations

import math
from collections.abc import Collection, Sequence, Set
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from archsearch.distill.loss import Attention, Outputs, Read, Stage
from archsearch.errors import InvalidRequest
from archsearch.evidence.inputs import real_tokens
from archsearch.evidence.layers import classifier, first_tensor, stage_names

if TYPE_CHECKING:
    from torch import Tensor, nn

T = TypeVar("T")


class Projections(Protocol):
    """One layer's attention, as a network's `attention_modules()` names it."""

    @property
    def query(self) -> nn.Module: ...
    @property
    def key(self) -> nn.Module: ...
    @property
    def value(self) -> nn.Module: ...
    @property
    def heads(self) -> int: ...


class Watched:
    """A network that shows what losses read of it. Hooks stay until `close`.

    Args:
        model: A network of any zoo that speaks timm's anatomy.
        stages: Modules whose maps or tokens are shown, in order.
        reads: What is wanted beside the logits.
        layers: Numbers of those whose attention is shown.
    """

    def __init__(self, model: nn.Module, stages: Sequence[str], reads: Set[Read], layers: Collection[int] = ()) -> None:
        self.model, self.reads = model, reads
        self.stages = tuple(stages) if reads & {"stages", "tail"} else ()
        self.kept: dict[str, Tensor] = {}
        # Of the last batch, as its stages passed them on; what `tail` goes on from.
        self.raw: dict[str, Any] = {}
        self.replaced: tuple[int, Tensor] | None = None
        # Of the last batch, where it is of tokens.
        self.real_BT: Tensor | None = None
        self.prefix_tokens = int(getattr(model, "num_prefix_tokens", 0))
        self.head = _layer_that_answers(model) if reads & {"embedding", "head"} else None
        widths = {stage["module"]: stage["num_chs"] for stage in getattr(model, "feature_info", ())}
        self.widths = [int(widths[name]) for name in self.stages]
        modules = dict(model.named_modules())
        self.modules = [modules[name] for name in self.stages]
        self.hooks = [module.register_forward_hook(self._keeper(i)) for i, module in enumerate(self.modules)]
        if self.head is not None and "embedding" in reads:
            self.hooks.append(self.head.register_forward_pre_hook(self._keep_embedding))
        self.layers = attention_of(model) if "attention" in reads else []
        self.shown = frozenset(layers)
        for i in self.shown:
            self._watch_attention(i)
        if self.stages or self.layers:
            self.hooks.append(model.register_forward_pre_hook(self._look))

    def close(self) -> None:
        """Take the hooks off."""
        for hook in self.hooks:
            hook.remove()
        self.kept.clear()
        self.raw.clear()

    def outputs(self, answers_MK: Tensor) -> Outputs:
        """What was kept since the last call, with the answers that came of it."""
        stages = tuple(self._as_stage(i, self.kept[name]) for i, name in enumerate(self.stages))
        embedding_BD = self.kept.get("embedding")
        weight_KD: Any = getattr(self.head, "weight", None) if "head" in self.reads else None
        weight_KD = None if weight_KD is None else weight_KD.flatten(1)
        attention = tuple(self._attention(i) for i in range(len(self.layers)))
        self.kept.clear()
        flat_BD = None if embedding_BD is None else embedding_BD.flatten(1)
        return Outputs(answers_MK, stages, flat_BD, weight_KD, attention)

    def tail(self, x_BCHW: Tensor, stage: int, map_BCHW: Tensor) -> Tensor:
        """Logits B×K of the last batch (prepared) if the stage had shown this map: the layers after it are the model's.

        The stages before it repeat what they showed of the batch instead of computing it again.
        """
        self.replaced = stage, map_BCHW
        repeated = self.modules[: stage + 1]
        for name, module in zip(self.stages, repeated, strict=False):
            module.forward = lambda *_, shown=self.raw[name], **__: shown
        try:
            logits_BK: Tensor = self.model(x_BCHW)
        finally:
            self.replaced = None
            for module in repeated:
                del module.forward
        self.kept.clear()
        return logits_BK

    def _keeper(self, i: int) -> Any:
        def keep(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            tensor = first_tensor(output)
            if self.replaced is not None:
                stage, map_BCHW = self.replaced
                if stage != i:
                    return None
                new = self._as_output(i, map_BCHW, tensor)
                return (new, *output[1:]) if isinstance(output, tuple | list) else new
            self.kept[self.stages[i]] = tensor
            if "tail" in self.reads:
                self.raw[self.stages[i]] = output
            return None

        return keep

    def _keep_embedding(self, _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.kept["embedding"] = inputs[0]

    def _look(self, _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.real_BT = real_tokens(inputs[0])

    def _watch_attention(self, i: int) -> None:
        layer = self.layers[i]
        for name, module in (("query", layer.query), ("key", layer.key), ("value", layer.value)):

            def keep(_module: nn.Module, _inputs: Any, output: Tensor, name: str = f"{name}{i}") -> None:
                self.kept[name] = output

            self.hooks.append(module.register_forward_hook(keep))

    def _attention(self, i: int) -> Attention | None:
        if i not in self.shown:
            return None
        query_BTD, key_BTD, value_BTD = (self.kept[f"{name}{i}"] for name in ("query", "key", "value"))
        return Attention(query_BTD, key_BTD, value_BTD, self.layers[i].heads, self.real_BT)

    def _as_stage(self, i: int, output: Tensor) -> Stage:
        if self.real_BT is not None and output.ndim == 3:
            return Stage(output, self.real_BT)
        return Stage(self._as_map(i, output))

    def _as_map(self, i: int, output: Tensor) -> Tensor:
        """A stage's output as B×C×H×W, whatever its family passes on."""
        if output.ndim == 3:  # tokens, class token and the like first
            patches_BND = output[:, self.prefix_tokens :]
            side = math.isqrt(patches_BND.shape[1])
            if side * side != patches_BND.shape[1]:
                return patches_BND.transpose(1, 2).unsqueeze(2)
            return patches_BND.transpose(1, 2).reshape(len(output), -1, side, side)
        if output.ndim == 4 and output.shape[1] != self.widths[i] and output.shape[3] == self.widths[i]:
            return output.permute(0, 3, 1, 2)  # channels last by nature, as Swin's
        return output if output.ndim == 4 else output[:, :, None, None]

    def _as_output(self, i: int, map_BCHW: Tensor, like: Tensor) -> Tensor:
        """The inverse of `_as_map`; prefix tokens stay as the network made them."""
        import torch

        map_BCHW = map_BCHW.to(like.dtype)
        if like.ndim == 3:
            return torch.cat((like[:, : self.prefix_tokens], map_BCHW.flatten(2).transpose(1, 2)), 1)
        if like.ndim == 4 and like.shape[1] != self.widths[i] and like.shape[3] == self.widths[i]:
            return map_BCHW.permute(0, 2, 3, 1)
        return map_BCHW if like.ndim == 4 else map_BCHW.flatten(1)


def _layer_that_answers(model: nn.Module) -> nn.Module:
    """A network's classifier; raises InvalidRequest where only its answers are in sight."""
    head = classifier(model)
    if next(head.parameters(), None) is None:
        raise InvalidRequest(
            "the teacher shows its answers and nothing they are made of, and this method compares that; take one that "
            "compares logits, such as kd, dkd or dist",
            field="distill.method",
        )
    return head


def comparable(student: nn.Module, teacher: nn.Module) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Stages of student and teacher that stand for each other: as many as the network with fewer has, at most four.

    They lie at equal shares of each network's stages, the last ones paired with each other, whatever the families: a
    transformer's twelve blocks meet a convolutional network's four stages after blocks 3, 6, 9 and 12 (as in
    Hao et al. 2023, "One-for-all", figure 3).

    Raises InvalidRequest where a network names no stages.
    """
    named = [stage_names(model) for model in (student, teacher)]
    for names, who in zip(named, ("student", "teacher"), strict=True):
        if not names:
            raise InvalidRequest(
                f"the {who}'s network names no stages, and this method compares them; "
                "take one that compares logits, such as kd, dkd or dist",
                field="distill.method",
            )
    count = min(4, *(len(names) for names in named))
    first, second = (spread(names, count) for names in named)
    return first, second


def spread(found: Sequence[T], count: int) -> tuple[T, ...]:
    """So many of them at equal shares of the whole, the last one always."""
    return tuple(found[round((i + 1) * len(found) / count) - 1] for i in range(count))


def attention_of(model: nn.Module, who: str = "network") -> list[Projections]:
    """A network's layers of attention, first to last; raises InvalidRequest where it names none."""
    named: Any = getattr(model, "attention_modules", None)
    layers: list[Projections] = [] if named is None else list(named())
    if not layers:
        raise InvalidRequest(
            f"the {who} names no attention, and this method compares it; take one that compares logits, such as kd",
            field="distill.method",
        )
    return layers
