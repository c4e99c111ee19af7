"""Networks timm has no name for, registered with timm so that `timm.create_model` builds them too.

Importing this room registers them; it imports torch.
"""

from archsearch.models.autoformer import AutoFormer, autoformer
from archsearch.models.cifar_resnet import CifarResNet, cifar_resnet
from archsearch.models.mobile_blocks import efficientnet_blocks, mobilenet_blocks
from archsearch.models.nasbench201 import NasBench201, nasbench201
from archsearch.models.regnet_small import SmallRegNet, regnet_small
from archsearch.models.resnet_small import SmallResNet, resnet_small

__all__ = [
    "AutoFormer",
    "CifarResNet",
    "NasBench201",
    "SmallRegNet",
    "SmallResNet",
    "autoformer",
    "cifar_resnet",
    "efficientnet_blocks",
    "mobilenet_blocks",
    "nasbench201",
    "regnet_small",
    "resnet_small",
]
