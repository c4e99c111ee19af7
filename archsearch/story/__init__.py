"""What a job does, from request to student, without knowing where its progress is kept.

    validate ▸ find the winner ▸ verify it ▸ distil it ▸ finish: evaluate and export

Every phase returns plain JSON. A `Ledger` keeps trials and progress: SQL rows for the service, files for the library.
"""

from archsearch.story.checks import check_names, check_possible, check_request
from archsearch.story.distil import distil
from archsearch.story.find import find
from archsearch.story.finish import describe_data, doubts, finish
from archsearch.story.story import Story, Student
from archsearch.story.validate import settled, validate
from archsearch.story.verify import verify

__all__ = [
    "Story",
    "Student",
    "check_names",
    "check_possible",
    "check_request",
    "describe_data",
    "distil",
    "doubts",
    "find",
    "finish",
    "settled",
    "validate",
    "verify",
]
