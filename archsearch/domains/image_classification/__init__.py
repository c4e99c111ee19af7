"""Image classification: one label an image, or any number of them. Its networks are timm's."""

from archsearch.domains.image_classification.domain import DOMAIN

__all__ = ["DOMAIN"]
