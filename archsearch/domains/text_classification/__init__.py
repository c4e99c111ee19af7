"""Text classification: one label a text or a pair of texts, or any number of them. Its networks are encoders of the
transformers library."""

from archsearch.domains.text_classification.domain import DOMAIN

__all__ = ["DOMAIN"]
