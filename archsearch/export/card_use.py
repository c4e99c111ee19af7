"""The card's code: how photos are read, and how each of the student's files is asked. Tests run it as readers would."""

from __future__ import annotations

from collections.abc import Mapping

from archsearch.export.card_text import Json, code
from archsearch.export.files import INT8, ONNX, PREPROCESSING, PROGRAM, PT2
from archsearch.export.folder import fit_of
from archsearch.request import Fit

_FITS: Mapping[Fit, str] = {
    "crop": "of another shape their centre is taken, as much of it as that shape has room for",
    "pad": "of another shape they are made to fit whole, with white beside them",
    "stretch": "of another shape they are stretched to it",
}

ONNX_CODE = """\
from predict import best, open_student, predict  # predict.py of this folder: Pillow, NumPy and ONNX Runtime

session, settings = open_student("{file}")
for chances in predict(session, settings, ["photo.jpg"]):
    print(best(chances, settings, top=3))
"""
PIXELS_CODE = """\
import numpy as np
from predict import best, open_student, probabilities  # predict.py of this folder

session, settings = open_student("{file}")
pixels = np.stack([np.load("image.npy")])  # N×H×W×C, uint8
(logits,) = session.run(None, {{"images": pixels}})
for chances in probabilities(logits, settings["kind"]):
    print(best(chances, settings, top=3))
"""
TORCH_CODE = """\
import json

import numpy as np
import torch
from predict import best, probabilities, read  # predict.py of this folder: Pillow and NumPy
{imports}
with open("preprocessing.json", encoding="utf-8") as file:
    settings = json.load(file)
pixels = torch.from_numpy({pixels}).unsqueeze(0)  # N×H×W×C, uint8
{answer}
(chances,) = probabilities(logits.numpy(), settings["kind"])
print(best(chances, settings, top=3))
"""
_PT2_ANSWER = """\
model = torch.export.load("{file}").module()
with torch.inference_mode():
    logits = model(pixels)"""
_TIMM_ANSWER = """\
model = timm.create_model("local-dir:.", pretrained=True).eval()  # from a hub: "hf-hub:owner/name"
mean, std = (torch.tensor(settings[name]).view(1, -1, 1, 1) for name in ("mean", "std"))
with torch.inference_mode():
    logits = model((pixels.permute(0, 3, 1, 2) / 255 - mean) / std)"""


def use_section(config: Json, report: Json, stock: bool) -> str:
    """How photos are read and the student is asked, by each of its files that is there."""
    channels = config["pretrained_cfg"]["input_size"][0]
    rows, photos = report.get("formats", {}), channels in (1, 3)
    # Files of before they normalised by themselves say nothing of files of photos.
    there = {name for name, row in rows.items() if "from_file" in row}
    blocks = [_reading(config)]
    if "onnx" in there:
        small = f", or the smaller `{INT8}`" if "int8" in there else ""
        shell = f" (`python {PROGRAM} photo.jpg …` does so in a shell)" if photos else ""
        blocks += [
            f"`{ONNX}`{small}, with ONNX Runtime and without torch{shell}:",
            code((ONNX_CODE if photos else PIXELS_CODE).format(file=ONNX).rstrip()),
        ]
    if old := [f"`{row['file']}`" for name, row in rows.items() if name not in (*there, "safetensors")]:
        blocks.append(f"{' and '.join(old)} take normalised floats, N×C×H×W; `archsearch export .` makes them anew.")
    pixels = 'read("photo.jpg", settings)' if photos else 'np.load("image.npy")'
    if "pt2" in there:
        answer = _PT2_ANSWER.format(file=PT2)
        blocks += [f"`{PT2}`, with torch alone:", _torch("", pixels, answer)]
    ours = "" if stock else "import archsearch.models  # pip install archsearch: names the network to timm\n"
    blocks += [
        "The weights, with timm, which take floats and are normalised for:",
        _torch(f"import timm\n{ours}", pixels, _TIMM_ANSWER),
        "timm's own transform (`resolve_model_data_config`) sizes photos as nearly so as it can, but does not turn "
        "them by their EXIF data nor lay what is transparent over white.",
    ]
    return "## Use\n\n" + "\n\n".join(blocks)


def _torch(imports: str, pixels: str, answer: str) -> str:
    text = TORCH_CODE.format(imports=imports, pixels=pixels, answer=answer).rstrip()
    unused = "import numpy as np\n" if "np.load" not in pixels else ""
    return code(text.replace(unused, "", 1) if unused else text.replace(", read  #", "  #"))


def _reading(config: Json) -> str:
    channels, height, width = config["pretrained_cfg"]["input_size"]
    if channels not in (1, 3):
        return (
            f"It takes pixels as they are, N×{height}×{width}×{channels} in uint8; exported programs normalise by "
            f"themselves. `{PREPROCESSING}` says what there is to know, labels included."
        )
    return (
        f"Photos are read as the training read its own: turned as their EXIF data say, what is transparent laid over "
        f"white, {'in grey' if channels == 1 else 'in RGB'}, {height}×{width} pixels (bicubic); "
        f"{_FITS[fit_of(config)]}. `{PREPROCESSING}` says so, labels included, and `{PROGRAM}` does so: it is the "
        "training's own code, and needs Pillow (10.1 or later) and NumPy. Exported programs take those pixels as they "
        "are, N×H×W×C in uint8, and normalise by themselves."
    )
