"""From a folder of the transformers library, or a hub's repository, to a teacher or to the beginning of a training."""

# K classes

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from archsearch.domains.text.task import TextTask
from archsearch.errors import TeacherError
from archsearch.teachers.size import require_weights_fit
from archsearch.teachers.teacher import fingerprint
from archsearch.zoos.transformers.folder import CONFIG, WEIGHTS, EncoderFolder, class_names, read_folder
from archsearch.zoos.transformers.library import library, quiet
from archsearch.zoos.transformers.network import MULTILABEL, EncoderClassifier, from_config, with_labels


@dataclass(frozen=True)
class LoadedEncoder:
    """A trained classifier, frozen in eval mode, and what its folder says of it.

    Attributes:
        folder: Where it lies, with its tokenizer.
        class_names: What its answers are called; empty where nobody named them.
        multilabel: Whether it was trained to answer each label apart; None where its configuration does not say.
        vocab_size: Ids it has embeddings for (count).
        max_length: Tokens of one text, at most.
        sha256: Of the weights, by name, shape and value.
    """

    folder: Path
    model: EncoderClassifier
    num_classes: int
    class_names: tuple[str, ...]
    multilabel: bool | None
    vocab_size: int
    max_length: int
    pad_id: int
    sha256: str


def load_folder(folder: Path, task: TextTask | None = None, *, field: str = "teacher.path") -> LoadedEncoder:
    """A teacher, loaded strictly: every weight of the network in the file, and no other in it.

    Args:
        task: What it will be asked about; whatever would not fit is refused before any weight is read.

    Raises:
        TeacherError: It is no such network, its files are not of one, or it does not fit the task.
    """
    found = read_folder(folder, field=field)
    if task is not None:
        require_fits(found, task, field=field)
    model = read_classifier(found, field)
    if model.num_classes < 2 or found.config.get("problem_type") == "regression":
        raise TeacherError(f"{folder} answers with a number (regression), and tells no classes apart", field=field)
    if task is not None and model.num_classes != task.classes:
        raise TeacherError(
            f"{folder} tells {model.num_classes} classes apart, the data has {task.classes}; use a teacher trained on "
            "these",
            field=field,
        )
    model.eval().requires_grad_(False)
    _require_finite(model, folder, field)
    kind = found.config.get("problem_type")
    return LoadedEncoder(
        folder=folder,
        model=model,
        num_classes=model.num_classes,
        class_names=class_names(found.config, model.num_classes),
        multilabel=None if kind is None else kind == MULTILABEL,
        vocab_size=found.config["vocab_size"],
        max_length=found.max_length,
        pad_id=int(model.config.pad_token_id or 0),
        sha256=fingerprint(model),
    )


def begin_training(folder: Path, task: TextTask, seed: int, *, field: str = "teacher.path") -> EncoderClassifier:
    """A network to fine-tune: a folder's encoder, whatever it answered before, with a new head for the task's classes.

    The new head's weights follow from the seed. In train mode, with gradients.
    """
    import torch

    found = read_folder(folder, field=field)
    require_fits(found, task, field=field)
    with quiet() as transformers, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
        _require_room(config, folder)
        model = from_config(with_labels(config, task))
    # The library calls an encoder by its own name alone where there is no head: read as such it takes both.
    state, missing = _encoder_state(found, field)
    body = model.network.get_submodule(model.family.body)
    wanted = body.state_dict()
    absent = [name for name in wanted if name in missing and not name.startswith("pooler.")]
    if absent:
        raise TeacherError(f"{folder}/{WEIGHTS} lacks {_some(absent)} of the encoder {CONFIG} describes", field=field)
    body.load_state_dict({name: wanted[name] if name in missing else state[name] for name in wanted})
    _require_finite(model, folder, field)
    return model.train()


def read_classifier(found: EncoderFolder, field: str) -> EncoderClassifier:
    """The network of a folder, with its own head, on the CPU in fp32."""
    network, info = _read(found, "AutoModelForSequenceClassification", field)
    heads = tuple(f"{name}." for name in found.family.classified)
    if any(key.startswith(heads) for key in info["missing_keys"]):
        raise TeacherError(
            f"{found.path} is an encoder without a classifier; fine-tune it on your texts first: archsearch "
            f"train-teacher --data DATA --from {found.path} --out teacher",
            field=field,
        )
    wrong = [f"{key} is missing" for key in sorted(info["missing_keys"])]
    wrong += [f"{key} is not part of it" for key in sorted(info["unexpected_keys"])]
    if wrong:
        raise TeacherError(f"{found.path}: the weights do not fit {CONFIG}: {_some(wrong)}", field=field)
    return EncoderClassifier(network)


def require_fits(found: EncoderFolder, task: TextTask, *, field: str) -> None:
    """Raise TeacherError where the task's token ids or lengths are beyond what the network knows."""
    if task.vocab_size > found.config["vocab_size"]:
        raise TeacherError(
            f"{found.path} knows {found.config['vocab_size']:,} tokens, the data has {task.vocab_size:,}; take the "
            "teacher's own tokenizer",
            field=field,
        )
    pad_id = found.config.get("pad_token_id")
    if found.family.model_type == "roberta" and task.pad_id != pad_id:
        raise TeacherError(
            f"{found.path} counts positions by its padding's id {pad_id}, the data is padded with {task.pad_id}; take "
            "the teacher's own tokenizer",
            field=field,
        )
    if task.max_length > found.max_length:
        raise TeacherError(
            f"{found.path} takes {found.max_length} tokens, the data has up to {task.max_length}; set max_length to "
            f"{found.max_length}",
            field=field,
        )


def _encoder_state(found: EncoderFolder, field: str) -> tuple[Mapping[str, Any], frozenset[str]]:
    """The encoder's weights by name, and the names of those the file lacks."""
    network, info = _read(found, "AutoModel", field)
    return network.state_dict(), frozenset(info["missing_keys"])


def _read(found: EncoderFolder, kind: str, field: str) -> tuple[nn.Module, Mapping[str, Any]]:
    """A network as the library loads it, and what it says of the weights' names; sizes have to agree."""
    import torch

    folder = found.path
    with quiet() as transformers:
        _require_room(transformers.AutoConfig.from_pretrained(folder, local_files_only=True), folder)
        try:
            network, info = getattr(transformers, kind).from_pretrained(
                folder,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.float32,
                attn_implementation="sdpa",
                output_loading_info=True,
            )
        except Exception as error:  # the library raises kinds of its own and of safetensors'
            reason = " ".join(str(error).split())[:300]
            raise TeacherError(
                f"{folder}: the weights do not fit {CONFIG} ({type(error).__name__}: {reason})", field=field
            ) from error
    return network, info


def _require_room(config: Any, folder: Path) -> None:
    """Refuse a network larger than the memory there is before it is built."""
    import torch

    with torch.device("meta"):
        sketch = library().AutoModel.from_config(config)
    require_weights_fit(sketch, folder.name)


def _require_finite(model: nn.Module, folder: Path, field: str) -> None:
    bad = [
        name for name, value in model.state_dict().items() if value.is_floating_point() and not value.isfinite().all()
    ]
    if bad:
        raise TeacherError(f"{folder}: weights are not finite in {_some(bad)}", field=field)


def _some(names: list[str]) -> str:
    return "; ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
