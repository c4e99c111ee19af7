"""From a folder of the transformers library, or a hub's repository, to a teacher of images, loaded strictly."""

# K classes

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import nn

from archsearch.data.notes import Note
from archsearch.domains.images.task import ImageTask
from archsearch.errors import ArchsearchError, TeacherError, Unavailable
from archsearch.teacher_config import sides
from archsearch.teachers.hub import fetch_file, require_plain_config
from archsearch.teachers.size import require_weights_fit
from archsearch.teachers.teacher import ImageTeacher, fingerprint
from archsearch.zoos.transformers.folder import CONFIG, WEIGHTS, class_names
from archsearch.zoos.transformers.image_folder import PREPROCESSOR, ImageFolder, read_image_folder
from archsearch.zoos.transformers.image_network import ImageClassifier
from archsearch.zoos.transformers.library import quiet

NORMALISATION = "teacher_normalisation"
# The head, and what a bare network has beside it that a classifier leaves out.
_HEADS, _POOLERS = ("classifier.", "cls_classifier.", "distillation_classifier.", "head."), (".pooler.", "pooler.")


def load_image_network(
    folder: Path,
    task: ImageTask | None,
    input_size: int | Sequence[int] | None = None,
    *,
    name: str | None = None,
    embeds: bool = False,
    field: str,
) -> ImageTeacher:
    """A folder as a teacher, its outputs as they come.

    Args:
        task: What it will be asked about; None where nobody knows yet.
        input_size: Pixels it is asked at, where the request says.
        name: What it is called; its kind where nothing tells.
        embeds: Whether a head will be put on it: it need not have one.
        field: Of the request that names the folder.

    Raises:
        TeacherError: It is no such network, or its files are not of one.
    """
    found = read_image_folder(folder, field=field)
    network = _read(found, embeds, field)
    hw = found.input_hw if input_size is None else sides(input_size)
    seen = hw or ((task.height, task.width) if task else (224, 224))
    model = ImageClassifier(network.eval(), found.in_chans, seen).eval().requires_grad_(False)
    bad = [key for key, value in model.state_dict().items() if value.is_floating_point() and not value.isfinite().all()]
    if bad:
        raise TeacherError(f"weights are not finite in {', '.join(bad[:3])}", field=field)
    named = class_names(found.config, model.num_classes)
    called = name or f"the {found.config['model_type']} network"
    return ImageTeacher(
        name=called,
        model=model,
        num_classes=model.num_classes,
        in_chans=found.in_chans,
        mean=found.mean,
        std=found.std,
        input_hw=hw,
        sha256=fingerprint(model),
        namings=(named,) if named else (),
        notes=() if found.normalised else (_assumed(called, found),),
        size_known=True,
    )


def fetch_image_network(name: str, *, field: str = "teacher.name") -> Path:
    """The folder of a hub's repository with the files such a network is read from.

    Raises:
        TeacherError: The repository lacks one of them.
        Unavailable: The hub does not answer, and they were not fetched before.
    """
    config, _ = require_plain_config(name, field=field)
    repo = name.partition(":")[2]
    weights = fetch_file(name, repo, WEIGHTS, field)
    with suppress(TeacherError, Unavailable):  # nobody has to have it
        fetch_file(name, repo, PREPROCESSOR, field)
    if weights.parent != config.parent:
        raise Unavailable(f"{name} changed while it was fetched", field=field)
    return config.parent


def _assumed(name: str, found: ImageFolder) -> Note:
    numbers = ", ".join(f"{value:g}" for value in found.mean)
    return Note(
        NORMALISATION,
        f"{name} has no {PREPROCESSOR}: it is taken to be trained on pixels normalised with mean and deviation "
        f"{numbers}",
    )


def _read(found: ImageFolder, embeds: bool, field: str) -> nn.Module:
    """The network as the library loads it, every weight of it in the file, but for a head that will be replaced."""
    import torch

    with quiet() as transformers:
        try:
            config = transformers.AutoConfig.from_pretrained(found.path, local_files_only=True)
            with torch.device("meta"):
                sketch = transformers.AutoModelForImageClassification.from_config(config)
            require_weights_fit(sketch, found.config["model_type"])
            network, info = transformers.AutoModelForImageClassification.from_pretrained(
                found.path,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
        except ArchsearchError:
            raise
        except Exception as error:  # the library raises kinds of its own and of safetensors'
            reason = " ".join(str(error).replace(str(found.path), "the folder").split())[:300]
            detail = f"the weights do not fit {CONFIG} ({type(error).__name__}: {reason})"
            raise TeacherError(detail, field=field) from None
    for key in _require_whole(info, embeds, field):  # made up by the library, anew each time
        network.state_dict()[key].zero_()
    loaded: nn.Module = network
    return loaded


def _require_whole(info: Mapping[str, Any], embeds: bool, field: str) -> list[str]:
    """Names of a head's weights that are not in the file; raises TeacherError for any others."""
    missing = sorted(info["missing_keys"])
    heads = [key for key in missing if key.startswith(_HEADS)]
    if heads and not embeds:
        raise TeacherError(
            "the network has no classifier; have a head fitted to the data (teacher.head probe), or fine-tune it where "
            "it was made",
            field=field,
        )
    wrong = [f"{key} is missing" for key in missing if key not in heads]
    wrong += [
        f"{key} is not part of it"
        for key in sorted(info["unexpected_keys"])
        if not (embeds or any(part in key for part in _POOLERS))
    ]
    wrong += [f"{key} has another shape" for key, *_ in info.get("mismatched_keys", ())]
    if wrong:
        raise TeacherError(f"the weights do not fit {CONFIG}: {'; '.join(wrong[:3])}", field=field)
    return heads
