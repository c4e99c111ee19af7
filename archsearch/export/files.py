"""The files of a finished student by name, and what each one is."""

from __future__ import annotations

from archsearch.evaluate import CALIBRATION, CONFUSION, EVALUATION
from archsearch.zoos.transformers.folder import TOKENIZER_FILES

WEIGHTS, CONFIG = "model.safetensors", "config.json"
PT2, ONNX, INT8 = "student.pt2", "student.onnx", "student.int8.onnx"
# What becomes of a photo before the student sees it, and the program that does it and asks student.onnx.
PREPROCESSING, PROGRAM = "preprocessing.json", "predict.py"
REPORT, CARD = "report.json", "README.md"
MANIFEST, ARCHIVE = "manifest.json", "student.zip"
# Of several students made side by side: what each costs and reaches, beside the teacher and others, and a picture.
FRONT, PICTURE = "front.json", "front.svg"

# The student itself, in every form it comes in, and what is known of it. A student may lack some.
_SEEN = (CARD, REPORT, EVALUATION, CONFUSION, CALIBRATION, FRONT, PICTURE)
FILES = (WEIGHTS, CONFIG, PREPROCESSING, PROGRAM, *TOKENIZER_FILES, PT2, ONNX, INT8, *_SEEN)
# What may leave the folder: nothing that is not named here is packed or pushed.
PUBLIC = (*FILES, MANIFEST)

_BYTES = "application/octet-stream"
MEDIA_TYPES = {
    WEIGHTS: _BYTES,
    CONFIG: "application/json",
    PREPROCESSING: "application/json",
    **{name: "text/plain; charset=utf-8" if name.endswith(".txt") else "application/json" for name in TOKENIZER_FILES},
    PROGRAM: "text/x-python; charset=utf-8",
    PT2: _BYTES,
    ONNX: _BYTES,
    INT8: _BYTES,
    CARD: "text/markdown; charset=utf-8",
    REPORT: "application/json",
    EVALUATION: "application/json",
    CONFUSION: "image/png",
    CALIBRATION: "image/png",
    FRONT: "application/json",
    PICTURE: "image/svg+xml",
    MANIFEST: "application/json",
    ARCHIVE: "application/zip",
}
