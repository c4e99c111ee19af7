"""A stock encoder with its own classifier, as the rooms between ask any network: one tensor in, logits out."""

# B batch, T tokens, D features, K classes

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn

from archsearch.data.task import Task
from archsearch.zoos.encoders import FAMILIES, Family
from archsearch.zoos.transformers.library import library, quiet

# What a classifier's configuration calls a task in which every label is a question of its own, and one in which not.
MULTILABEL, SINGLE_LABEL = "multi_label_classification", "single_label_classification"

# Fields that say nothing of the network, or what the task says.
_ASIDE = frozenset(
    [
        "model_type", "architectures", "transformers_version", "dtype", "torch_dtype", "_name_or_path", "id2label",
        "label2id", "problem_type",
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Attention:
    """One layer's attention: its projections, each D → D, of which every head has an equal part in order."""

    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    heads: int


class EncoderClassifier(nn.Module):
    """A stock `AutoModelForSequenceClassification` that takes B×2×T and speaks of its parts as timm's networks do.

    Row 0 holds token ids, row 1 the text of a pair each token is of (0, 1), and −1 where there is only padding, which
    attention never sees. Dropout is the configuration's own, at work in train mode alone (BERT's is .1 in embeddings,
    attention and layers, DistilBERT's .2 before the answers). Weights are fp32.

    Attributes:
        network: The stock network, which the library itself saves and loads.
        family: Where its parts lie.
        settings: Its configuration's fields, as `build` takes them; they tell networks of equal shapes apart.
        num_classes: Answers it gives.
        num_prefix_tokens: 0: every token is one of the text's, the first included.
        feature_info: Its stages: one a layer, whose output is B×T×D.
        embeddings_module: The module whose output, B×T×D, is the first that gradients reach.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        config: Any = network.config
        self.family: Family = FAMILIES[config.model_type]
        self.num_classes = int(config.num_labels)
        self.num_prefix_tokens = 0
        self.settings = settings(config)
        # As timm's networks call what leaves no trace in the weights' shapes.
        self._model_args = self.settings

    @property
    def config(self) -> Any:
        """The library's configuration."""
        return self.network.config

    @property
    def feature_info(self) -> list[dict[str, Any]]:
        width = self.family.read(self.settings, "hidden")
        layers = range(len(self._layers()))
        return [{"module": f"network.{self.family.layers}.{i}", "num_chs": width} for i in layers]

    @property
    def embeddings_module(self) -> nn.Module:
        return self.network.get_submodule(self.family.embeddings)

    def get_classifier(self) -> nn.Linear:
        return cast("nn.Linear", self.network.get_submodule(self.family.head))

    def attention_modules(self) -> list[Attention]:
        """First layer to last."""
        heads = int(self.family.read(self.settings, "heads"))
        found = []
        for layer in self._layers():
            query, key, value = (cast("nn.Linear", layer.get_submodule(name)) for name in self.family.attention)
            found.append(Attention(query, key, value, heads))
        return found

    def mask(self, x_B2T: Tensor) -> Tensor:
        """B×T, true where there is a token and not only padding."""
        return x_B2T[:, 1] >= 0

    def forward(self, x_B2T: Tensor) -> Tensor:
        """Logits B×K."""
        answer: Any = self.network(**self._arguments(x_B2T))
        logits_BK: Tensor = answer.logits
        return logits_BK

    def forward_features(self, x_B2T: Tensor) -> Tensor:
        """The last layer's tokens, B×T×D."""
        body: Any = self.network.get_submodule(self.family.body)
        tokens_BTD: Tensor = body(**self._arguments(x_B2T)).last_hidden_state
        return tokens_BTD

    def _arguments(self, x_B2T: Tensor) -> dict[str, Tensor | None]:
        # The library looks whether anything is padded, and on the meta device there is nothing to look at.
        mask_BT = None if x_B2T.is_meta else self.mask(x_B2T)
        segments = {"token_type_ids": x_B2T[:, 1].clamp(min=0)} if self.family.segments else {}
        return {"input_ids": x_B2T[:, 0], "attention_mask": mask_BT, **segments}

    def _layers(self) -> list[nn.Module]:
        return list(self.network.get_submodule(self.family.layers).children())


def build(name: str, args: Mapping[str, Any], task: Task) -> EncoderClassifier:
    """An untrained network of a family, with the task's classes, on the current default device.

    Args:
        name: The `model_type`.
        args: Fields of its configuration.
    """
    config = library().AutoConfig.for_model(name, **args)
    return from_config(with_labels(config, task))


def from_config(config: Any) -> EncoderClassifier:
    """An untrained network. Attention is torch's own, as the library loads it by default: so its answers, bit by bit,
    are those of whoever loads it without us."""
    import torch

    with quiet() as transformers:
        network = transformers.AutoModelForSequenceClassification.from_config(
            config, attn_implementation="sdpa", dtype=torch.float32
        )
    return EncoderClassifier(network)


def with_labels(config: Any, task: Task) -> Any:
    """The configuration with the task's classes, by name where they have any."""
    names = task.class_names or tuple(f"LABEL_{number}" for number in range(task.classes))
    config.id2label = dict(enumerate(names))
    config.label2id = {name: number for number, name in enumerate(names)}
    config.problem_type = MULTILABEL if task.kind == "multilabel" else SINGLE_LABEL
    return config


def settings(config: Any) -> dict[str, Any]:
    """A configuration's fields as `build` takes them, without the classes, which are the task's."""
    return {name: value for name, value in config.to_diff_dict().items() if name not in _ASIDE}
