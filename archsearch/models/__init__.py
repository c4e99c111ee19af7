"""Networks timm has no name for, registered with timm so that `timm.create_model` builds them too.

Importing this room registers them; it imports torch.
"""

from archsearch.models.autoformer import AutoFormer, autoformer
from archsearch.models.cifar_resnet import CifarResNet, cifar_resnet
from archsearch.models.nasbench201 import NasBench201, nasbench201

__all__ = ["AutoFormer", "CifarResNet", "NasBench201", "autoformer", "cifar_resnet", "nasbench201"]
