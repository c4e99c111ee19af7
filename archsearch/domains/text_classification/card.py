"""The card's code: how a student of texts is asked, by each of its files."""

from __future__ import annotations

from archsearch.export.card_text import Json, code
from archsearch.export.files import INT8, ONNX

_WEIGHTS = """\
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(".")
model = AutoModelForSequenceClassification.from_pretrained(".").eval()
with torch.inference_mode():
    logits = model(**tokenizer(["a text"], return_tensors="pt", padding=True, truncation=True)).logits
print([model.config.id2label[i] for i in logits.argmax(1).tolist()])"""
_ONNX = """\
import onnxruntime
from transformers import AutoTokenizer

tokenizer, session = AutoTokenizer.from_pretrained("."), onnxruntime.InferenceSession("{file}")
wanted = [each.name for each in session.get_inputs()]
inputs = tokenizer(["a text"], return_tensors="np", padding=True, truncation=True)
(logits,) = session.run(None, {{name: inputs[name] for name in wanted}})
print(logits.argmax(1))"""


def use_section(report: Json) -> str:
    """The weights by their own library, and the ONNX files without it but for the tokenizer."""
    rows = report.get("formats", {})
    blocks = ["With transformers, which needs nothing else:", code(_WEIGHTS)]
    if "onnx" in rows:
        small = f", or the smaller `{INT8}`" if "int8" in rows else ""
        blocks += [f"`{ONNX}`{small}, with ONNX Runtime and without torch:", code(_ONNX.format(file=ONNX))]
    return "## Use\n\n" + "\n\n".join(blocks)
