"""Encoders of the transformers library with their own classifiers: built, loaded strictly, saved as it saves them."""
