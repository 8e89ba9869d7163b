"""Print the table of docs/choosing.md: the best model of each problem, next to LRNN and NestNet.

python docs/choosing.py
"""

import json
from pathlib import Path

import numpy as np

from lrnn_jax.experiments import PROBLEMS
from lrnn_jax.experiments.recipes import recipes

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "recipes.json"
BASELINES = {
    "denoising": "the noisy image",
    "inpainting": "nearest known pixel",
    "super_resolution": "cubic splines",
    "multi_frame_super_resolution": "cubic splines of one frame",
    "ct": "filtered back-projection",
    "classification": "most frequent class",
}
HIGHER = ("psnr", "snr", "iou", "accuracy")


def table(rows: list[dict]) -> str:
    """The Markdown table, from the checks of the recipes: mean scores over signals."""
    head = ("problem", "score", "best", "LRNN", "NestNet", "without a network")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    checks = [row for row in rows if row["stage"] == "check"]
    for kind in PROBLEMS:
        score = PROBLEMS[kind].main_score
        known = recipes().get(kind, {}).get("models", {})
        own = [row for row in checks if row["problem"] == kind and row["model"] in known]
        means = {row["model"]: mean(row["scores"], score) for row in own}
        if not means:
            continue
        choose = max if score in HIGHER else min
        best = choose(means, key=means.__getitem__)
        cells = [f"`{kind}`", score, f"{best} {means[best]:.3g}"]
        cells += [f"{means[n]:.3g}" if n in means else "" for n in ("lrnn", "nestnet")]
        cells.append(f"{BASELINES.get(kind, 'the mean')} {mean(own[0]['trivial'], score):.3g}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def mean(scores: dict[str, dict[str, float]], name: str) -> float:
    return float(np.mean([signal[name] for signal in scores.values()]))


if __name__ == "__main__":
    print(table(json.loads(RESULTS.read_text())))
