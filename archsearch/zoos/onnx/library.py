"""ONNX and ONNX Runtime, which are an extra: imported when they are needed, and their complaints in a few words."""

from __future__ import annotations

import importlib
import re
from typing import Any

from archsearch.errors import InvalidRequest

_LONGEST = 240


def library(name: str = "onnxruntime") -> Any:
    """The module; raises InvalidRequest saying how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise InvalidRequest(f"{name} is not installed: pip install 'archsearch[onnx]'", field="teacher") from None


def session_of(model: bytes) -> Any:
    """A session on the processor that keeps its warnings to itself; of bytes, so that it finds no files beside them."""
    import torch

    runtime = library()
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    options.log_severity_level = 4
    # Threads without work would wait busily, and whoever trains meanwhile with them.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Without a second try, whose failure it would print.
    return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"], enable_fallback=0)


def told(error: Exception) -> str:
    """What the runtime says is wrong, without its own prefixes and the files it was built of."""
    text = re.sub(r"^\[\w+\] : \d+ : \w+ : ", "", " ".join(str(error).split()))
    text = re.sub(r"\S*/\S*", "…", text)
    # The signature of the function it was said in, between the file and what is said.
    text = re.sub(r"(?:… )?\S+ [\w:<>~*& ]*onnxruntime::[\w:<>~]+\((?:[^()]|\([^()]*\))*\)(?: const)? ?", "", text)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"
