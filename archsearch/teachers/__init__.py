"""From a timm name, uploaded weights, `local-dir:` or `hf-hub:` to a frozen, checked teacher.

Weights are safetensors or ONNX and nothing else; whatever else arrives is refused unread.
"""

from archsearch.domains.domain import Teacher
from archsearch.teachers.check import check_teacher
from archsearch.teachers.hub import at_hand
from archsearch.teachers.load import load_teacher
from archsearch.teachers.network import build
from archsearch.teachers.resolution import at_best_size
from archsearch.teachers.size import check_counts, input_bytes, input_effort
from archsearch.teachers.source import check_onnx_file, check_source, check_weights_file, describe_folder
from archsearch.teachers.teacher import ImageTeacher, fingerprint

__all__ = [
    "ImageTeacher", "Teacher", "at_best_size", "at_hand", "build", "check_counts", "check_onnx_file", "check_source",
    "check_teacher", "check_weights_file", "describe_folder", "fingerprint", "input_bytes", "input_effort",
    "load_teacher",
]  # fmt: skip
