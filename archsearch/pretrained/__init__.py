"""Students that begin as a network with weights: which there are, what they cost, what they know of a teacher."""

from archsearch.pretrained.facts import Facts
from archsearch.pretrained.head import NoHead, features
from archsearch.pretrained.score import Known, known, logme
from archsearch.pretrained.shelf import Member, Shelf, make_ready
from archsearch.pretrained.stored import (
    FIELD,
    Stored,
    at_hand,
    check_named,
    find,
    none_registered,
    of_folder,
    of_upload,
)

__all__ = [
    "FIELD",
    "Facts",
    "Known",
    "Member",
    "NoHead",
    "Shelf",
    "Stored",
    "at_hand",
    "check_named",
    "features",
    "find",
    "known",
    "logme",
    "make_ready",
    "none_registered",
    "of_folder",
    "of_upload",
]
