"""What a job does, from request to student, without knowing where its progress is kept.

    validate ▸ find the winner ▸ verify it ▸ distil it ▸ finish: evaluate and export

Every phase returns plain JSON. A `Ledger` keeps trials and progress: SQL rows for the service, files for the library.
"""

from archsearch.story.find import find
from archsearch.story.finish import finish
from archsearch.story.story import Opened, Story, Student
from archsearch.story.tell import tell
from archsearch.story.validate import validate
from archsearch.story.verify import verify

__all__ = [
    "Opened",
    "Story",
    "Student",
    "find",
    "finish",
    "tell",
    "validate",
    "verify",
]
