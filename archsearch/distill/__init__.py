"""Distillation: losses one file each, one training loop, resumable to the bit."""
