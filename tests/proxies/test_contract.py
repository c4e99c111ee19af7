"""Every registered proxy keeps the contract, on students of every registered space."""

from __future__ import annotations

import pytest

from archsearch.proxies import proxies
from archsearch.spaces import of_domain
from archsearch.testing import ProxyContract

NAMES = {space.name for space in of_domain("image_classification")}
# Families beside resnet_cifar, nasbench201 and vit, which show every proxy the same kinds of layers quickly.
LONGER = {"autoformer", "convnext", "mobilenet", "pit", "regnet", "resnet"}


# Zen-Score is defined by batch norms, which these families do not have.
UNDEFINED = {("zen", space): "no batch norm" for space in ("autoformer", "convnext", "pit", "vit")}
# It counts by the numbers in layers' names, and RegNet's stages name theirs otherwise.
UNDEFINED |= {("encoder_size", "regnet"): "no layers with numbers"}

UNMOVED = {
    # Asks of data and teacher only whether any gradient arrives, which another teacher does not change.
    *(("capacity", space) for space in NAMES),
    # As timm initialises them, these small ones are so nearly linear that this is clipped whatever changes.
    ("gradient_rank", "pit"),
    ("gradient_rank", "vit"),
}

# In float32, sums come out differently in another order. Progressivity is a small difference of entropies near 3.
ROUNDING = {"progressivity": 1e-5}


# They ask whether there is a signal before they divide by it, or take the logarithm of each layer's by itself.
ONCE = {
    "class_relation", "diswot", "kd_psi", "kernel_ridge", "naswot", "psi", "relative_snip", "semantic", "vkdnw", "zen",
    "zico",
}  # fmt: skip


class TestEveryProxy(ProxyContract):
    proxies = tuple(proxies)
    students = (*sorted(NAMES - LONGER), "resnet_cifar, many labels", "vit, many labels")
    undefined, unmoved, rounding, once = UNDEFINED, UNMOVED, ROUNDING, ONCE


@pytest.mark.slow
class TestEveryProxyOnLongerFamilies(TestEveryProxy):
    students = tuple(sorted(LONGER))
