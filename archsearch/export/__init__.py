"""The student as files: a folder timm loads, programs that need none of our code, and what is known of them all.

save_student ▸ make_formats ▸ write_report ▸ write_manifest (with the card) ▸ pack, or push
"""

from archsearch.evaluate import CALIBRATION, CONFUSION, EVALUATION
from archsearch.export.card import card, write_card
from archsearch.export.examine import Examined, examine, score_formats
from archsearch.export.files import (
    ARCHIVE,
    CARD,
    CONFIG,
    FILES,
    FRONT,
    INT8,
    MANIFEST,
    MEDIA_TYPES,
    ONNX,
    PICTURE,
    PREPROCESSING,
    PROGRAM,
    PT2,
    PUBLIC,
    REPORT,
    WEIGHTS,
)
from archsearch.export.folder import (
    load_config,
    pack,
    public_files,
    require_student,
    save_student,
)
from archsearch.export.format import Format, Subject
from archsearch.export.formats.int8 import save_int8
from archsearch.export.formats.onnx import save_onnx
from archsearch.export.formats.pt2 import save_pt2
from archsearch.export.hub import push
from archsearch.export.make import REFERENCE, Formats, Made, Parity, choose_formats, make_formats
from archsearch.export.manifest import read_manifest, refresh, write_manifest
from archsearch.export.report import brief, write_report
from archsearch.export.student import domain_of, load_student, load_task

__all__ = [
    "ARCHIVE",
    "CALIBRATION",
    "CARD",
    "CONFIG",
    "CONFUSION",
    "EVALUATION",
    "FILES",
    "FRONT",
    "INT8",
    "MANIFEST",
    "MEDIA_TYPES",
    "ONNX",
    "PICTURE",
    "PREPROCESSING",
    "PROGRAM",
    "PT2",
    "PUBLIC",
    "REFERENCE",
    "REPORT",
    "WEIGHTS",
    "Examined",
    "Format",
    "Formats",
    "Made",
    "Parity",
    "Subject",
    "brief",
    "card",
    "choose_formats",
    "domain_of",
    "examine",
    "load_config",
    "load_student",
    "load_task",
    "make_formats",
    "pack",
    "public_files",
    "push",
    "read_manifest",
    "refresh",
    "require_student",
    "save_int8",
    "save_onnx",
    "save_pt2",
    "save_student",
    "score_formats",
    "write_card",
    "write_manifest",
    "write_report",
]
