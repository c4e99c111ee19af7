"""Data of any domain: a task, its splits, their labels, and what was found while they were read."""

from archsearch.data.limits import Limits
from archsearch.data.notes import Note
from archsearch.data.task import Dataset, Split, Task

__all__ = ["Dataset", "Limits", "Note", "Split", "Task"]
