"""Distillation: losses one file each, one training loop, resumable to the bit."""

from archsearch.distill.loss import Loss, loss, losses

__all__ = ["Loss", "loss", "losses"]
