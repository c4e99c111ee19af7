"""`student.int8.onnx`: weights and activations in int8, by static quantisation in ONNX Runtime."""

# N images, C channels, H W space, K classes

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import numpy as np

from archsearch.data.batches import Alive, unasked
from archsearch.domains.images.task import ImageTask
from archsearch.errors import ExportError
from archsearch.evaluate import likeness
from archsearch.export.files import INT8
from archsearch.export.format import Format, Images, Subject, answer_all, formats, needs_onnx
from archsearch.export.formats.onnx import open_onnx, read_reading, say_reading, traced

# Most images that set the scales, and others that judge them: scales look better on the images they were made from.
# Of the 1,280 that `make.held_out_images` takes at most, half judge.
_CALIBRATING, _JUDGING, _BATCH = 256, 640, 32
# Percent of the judging images whose answer may change before the ends of the network are tried in fp32: no more of
# their accuracy than that can be lost. Of a multi-label task it is percent of the labels, and bounds no precision.
_MOST_CHANGED = 1.0


@dataclass(frozen=True)
class Attempt:
    """One way to set the scales, and what it costs on the judging images.

    Attributes:
        calibration: How activations' ranges follow from what is seen; see `hardware/onnx_runtime.py`.
        kept_fp32: Nodes that are not quantised.
        kl: Mean KL(fp32 ‖ int8) of the answers, in nats.
        agreement: Share of images whose first answer stays, in percent; of labels, where an image has many.
    """

    calibration: str
    kept_fp32: tuple[str, ...]
    kl: float
    agreement: float


def save_int8(
    onnx: Path, task: ImageTask, images_NHWC: Images, path: Path, *, batch: int = _BATCH, alive: Alive = unasked
) -> dict[str, Any]:
    """Quantise an ONNX file to int8 in the way that changes its answers least.

    Every calibration is tried: which one is best depends on the network, and a try takes seconds. The divergence of
    the answers decides, not the accuracy, which a few hundred images tell to half a point at best. The first and the
    last product stay in fp32 only if the answers change otherwise: they are where int8 hurts most (the first sees the
    rawest input, the last one's error goes straight into the logits), yet most networks do not need it.

    Args:
        onnx: In fp32, with a batch of any size.
        images_NHWC: Images held out of the training; never test images.
        path: File to write.
        batch: Images the network is asked about at once.
        alive: Called between two batches, and before each attempt.

    Returns:
        Which way was taken, and every one that was tried; the KL of one whose answers are no numbers is None.

    Raises:
        ExportError: The answers are no numbers whichever way is taken.
    """
    from archsearch.hardware.onnx_runtime import Calibration, before_products, prepare, products, quantise

    calibrating, judging = _halves(images_NHWC)
    batches = [calibrating[i : i + batch] for i in range(0, len(calibrating), batch)]
    with TemporaryDirectory(prefix=".archsearch-", dir=path.parent) as folder:
        prepared = Path(folder) / "prepared.onnx"
        prepare(onnx, prepared)
        expected_NK = answer_all(open_onnx(onnx, 1), judging, batch, alive)
        tried: dict[Path, Attempt] = {}
        normalising = before_products(prepared)

        def attempt(calibration: Any, keep: tuple[str, ...]) -> None:
            alive()
            small = Path(folder) / f"{len(tried)}.onnx"
            quantise(prepared, small, batches, calibration=calibration, keep=(*normalising, *keep))
            like = likeness(expected_NK, answer_all(open_onnx(small, 1), judging, batch, alive), task.kind)
            tried[small] = Attempt(calibration, keep, like.kl, like.agreement)

        for calibration in get_args(Calibration):
            attempt(calibration, ())
        if max((one.agreement for one in tried.values() if isfinite(one.kl)), default=0) < 100 - _MOST_CHANGED:
            weighted = products(prepared)
            for calibration in get_args(Calibration):
                attempt(calibration, (weighted[0], weighted[-1]))
        finite = [small for small, one in tried.items() if isfinite(one.kl)]
        if not finite:
            raise ExportError(f"{INT8} answers held-out images with what is no number, whatever the calibration")
        best = min(finite, key=lambda small: tried[small].kl)
        _say_reading(best, task, path)
    return {
        "calibration": tried[best].calibration,
        "kept_fp32": list(tried[best].kept_fp32),
        "images": len(calibrating),
        "judged_on": len(judging),
        "tried": [{**asdict(one), "kl": one.kl if isfinite(one.kl) else None} for one in tried.values()],
    }


def _say_reading(small: Path, task: ImageTask, path: Path) -> None:
    import onnx

    model = onnx.load(str(small))
    del model.metadata_props[:]  # the quantiser's own
    say_reading(model, task)
    onnx.save(model, str(path))


def _halves(images_NHWC: Images) -> tuple[Images, Images]:
    """Images to calibrate with and others to judge on, each spread over all there are; a single one does both."""
    if len(images_NHWC) < 2:
        return images_NHWC, images_NHWC
    return _spread(images_NHWC[0::2], _CALIBRATING), _spread(images_NHWC[1::2], _JUDGING)


def _spread(images_NHWC: Images, most: int) -> Images:
    # Data may come sorted by class, so the first few would show some classes only.
    rows = np.linspace(0, len(images_NHWC) - 1, min(most, len(images_NHWC))).round().astype(int)
    spread_NHWC: Images = images_NHWC[rows]
    return spread_NHWC


def _write(subject: Subject, path: Path) -> Mapping[str, Any]:
    return save_int8(
        traced(subject), subject.task, subject.examples, path, batch=min(_BATCH, subject.batch), alive=subject.alive
    )


formats.add(
    "int8",
    Format(
        name="int8",
        file=INT8,
        doc="ONNX with weights and activations in int8 (QDQ), for ONNX Runtime.",
        exact=False,
        needs_images=True,
        own_threads=True,
        unavailable=needs_onnx,
        write=_write,
        open=open_onnx,
        settings=read_reading,
    ),
)
