"""Modules that losses train beside the student; this package imports torch, so losses import it when asked to build."""
