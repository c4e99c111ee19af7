"""Published trainings as data. A recipe gives the fields of a `DistillSpec` that a request leaves out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

RecipeName = Literal["short", "cifar", "imagenet"]

RECIPES: Mapping[RecipeName, Mapping[str, Any]] = {
    # One cycle: what reaches most in few epochs (Smith 2018; Page 2018's DAWNBench entry). How many, and in batches of
    # how many, `distill.amount` chooses by the number of images.
    "short": {"schedule": "one_cycle", "weight_decay": 5e-4, "augment": "crop"},
    # The training behind the field's CIFAR tables (Tian et al. 2020, RepDistiller; mdistiller): 240 epochs.
    "cifar": {
        "epochs": 240,
        "batch_size": 64,
        "optimizer": "sgd",
        "lr": 0.05,
        "schedule": "steps",
        "milestones": (150 / 240, 180 / 240, 210 / 240),
        "decay": 0.1,
        "nesterov": False,
        "weight_decay": 5e-4,
        "decay_all": True,
        "augment": "crop_flip",
    },
    # The training behind the field's ImageNet tables (mdistiller, torchvision's reference): 100 epochs.
    "imagenet": {
        "epochs": 100,
        "batch_size": 256,
        "optimizer": "sgd",
        "lr": 0.1,
        "schedule": "steps",
        "milestones": (0.3, 0.6, 0.9),
        "decay": 0.1,
        "nesterov": False,
        "weight_decay": 1e-4,
        "decay_all": True,
        "augment": "resized_crop",
    },
}
