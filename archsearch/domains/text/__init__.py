"""Texts, one or a pair an example: how they are read, checked, kept and tokenised, for every domain of texts."""
