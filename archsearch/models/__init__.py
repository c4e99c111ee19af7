"""Networks timm has no name for, registered with timm so that `timm.create_model` builds them too.

Importing this room registers them; it imports torch.
"""

from archsearch.models.cifar_resnet import CifarResNet, cifar_resnet

__all__ = ["CifarResNet", "cifar_resnet"]
