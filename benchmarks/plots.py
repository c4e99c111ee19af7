"""Pictures of a ranking: score against accuracy, one point a network, its size as colour.

    python -m benchmarks.ranking --scores scores.npz
    python -m benchmarks.plots scores.npz [more.npz …] --out docs/images/ranking.png

Left to right the tables, above the default score, below parameters alone. Needs matplotlib:
`pip install -e '.[bench]'`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import kendalltau, rankdata

ROWS = (("archsearch", "default score"), ("params", "parameters"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scores", type=Path, nargs="+", help="what `benchmarks.ranking --scores` kept")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    kept = {name: values for path in arguments.scores for name, values in np.load(path).items()}
    tables = [name.removesuffix("/accuracy") for name in kept if name.endswith("/accuracy")]
    figure = Figure(figsize=(2.6 * len(tables), 5.4), layout="constrained")
    axes = figure.subplots(len(ROWS), len(tables), squeeze=False)
    for column, table in enumerate(tables):
        accuracy_N, params_N = kept[f"{table}/accuracy"], kept[f"{table}/params"]
        # Of chance and outliers the scale would show nothing else.
        shown_N = accuracy_N > np.quantile(accuracy_N, 0.04)
        for row, (score, title) in enumerate(ROWS):
            values_N = kept[f"{table}/{score}"]
            # Ranks, so that scores of any unit look alike; candidates without a score come last.
            rank_N = rankdata(np.nan_to_num(values_N, neginf=-1e9)) / len(values_N)
            axis = axes[row][column]
            axis.scatter(rank_N[shown_N], accuracy_N[shown_N], s=6, c=np.log(params_N[shown_N]), cmap="viridis")
            tau = kendalltau(rank_N, accuracy_N).statistic
            axis.set_title(f"{table}\nτ {tau:.3f}" if row == 0 else f"τ {tau:.3f}", fontsize=8)
            axis.set_xlabel(f"rank by {title}", fontsize=7)
            axis.tick_params(labelsize=6)
    axes[0][0].set_ylabel("accuracy, %", fontsize=7)
    axes[1][0].set_ylabel("accuracy, %", fontsize=7)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(arguments.out, dpi=110)
    print(arguments.out)


if __name__ == "__main__":
    main()
