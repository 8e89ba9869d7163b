"""The image study of the LRNN slides: LRNN-SPDER, SPDER and SIREN at about 200k parameters.

    python benchmarks/image_study.py sweep --source cameraman.tif   # learning rates, 128 x 128
    python benchmarks/image_study.py paper --source cameraman.tif   # the papers' learning rates
    python benchmarks/image_study.py tuned --source cameraman.tif   # the best rate of the sweep
    python benchmarks/image_study.py precision --models lrnn_spder  # what bfloat16 costs, 128 x 128
    python benchmarks/image_study.py time                           # a step, the three interleaved
    python benchmarks/image_study.py table                          # the rows as Markdown

Every run is one row of benchmarks/results/image_study.json, written when it ends. A row has the
final PSNR beside the best of all steps (an oracle, since it looks at the truth), and the first step
at which 33, 35 and 40 dB were passed. The sweep gives every model the same schedule, budget and
rates; `tuned` takes each model's best rate to the full picture with that schedule, in half of the
paper's 1000 steps.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lrnn_jax.errors import InputError
from lrnn_jax.experiments import experiment_from, start
from lrnn_jax.experiments.progress import LineDisplay
from lrnn_jax.experiments.spec import config_path, merge, read_table
from lrnn_jax.training import initial_state, make_advance, make_step

RESULTS = Path(__file__).parent / "results" / "image_study.json"
MODELS = ("lrnn_spder", "spder", "siren")
RATES = (2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3)
SWEEP = {"problem": {"size": [128, 128]}, "training": {"steps": 250, "schedule": "cosine"}}
TUNED = {"training": {"steps": 500, "schedule": "cosine"}}
TARGETS = (33, 35, 40)
COSTS = ("steps_per_second", "compile_seconds", "peak_memory_mb", "parameters", "machine")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=("sweep", "precision", "paper", "tuned", "time", "table"))
    parser.add_argument("--source", default="camera", help="a picture; default: camera")
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--rates", nargs="+", type=float, default=RATES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="stop the stage 'paper' early; default: 1000")
    options = parser.parse_args()
    if options.stage == "table":
        print(f"{table(read_rows())}\n\n{precision_table(read_rows())}")
        return 0
    if options.stage == "time":
        print(json.dumps(time_steps(options.source), indent=1))
        return 0
    for model in options.models:
        for changes in changes_of(options.stage, model, options):
            common = {"problem": {"source": options.source}, "training": {"seed": options.seed}}
            run(options.stage, model, merge(common, changes))
    return 0


def changes_of(stage: str, model: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """What each run of a stage changes in the model's config."""
    if stage == "paper":
        return [{"training": {"steps": options.steps}} if options.steps else {}]
    if stage == "sweep":
        return [merge(SWEEP, {"training": {"learning_rate": rate}}) for rate in options.rates]
    if stage == "precision" and model != "lrnn_spder":
        return []  # the others have no compute_dtype
    if stage == "precision":
        rates = [{"training": {"learning_rate": rate}} for rate in options.rates]
        dtypes = [{"model": {"compute_dtype": dtype}} for dtype in ("full", "bfloat16")]
        return [merge(SWEEP, merge(dtype, rate)) for rate in rates for dtype in dtypes]
    rate = best_rate(model, Path(options.source).name)
    return [merge(TUNED, {"training": {"learning_rate": rate}})]


def best_rate(model: str, source: str) -> float:
    """The learning rate of the sweep's best final PSNR."""
    rows = [
        r for r in read_rows() if (r["stage"], r["model"], r["source"]) == ("sweep", model, source)
    ]
    if not rows:
        raise InputError(f"no sweep of {model} on {source}: run the stage 'sweep' first")
    return max(rows, key=lambda row: row["psnr"])["learning_rate"]


def run(stage: str, model: str, changes: dict[str, Any]) -> None:
    """One fit, and its row."""
    experiment = experiment_from(merge(read_table(config_path(f"image/{model}")), changes))
    training = experiment.training
    print(f"{stage} {model} {training.learning_rate:g}", flush=True)
    row: dict[str, Any] = {"stage": stage, "model": model}
    row["source"] = Path(experiment.problem.source).name  # pyright: ignore[reportAttributeAccessIssue]
    row["size"] = experiment.problem.size  # pyright: ignore[reportAttributeAccessIssue]
    for name in ("steps", "learning_rate", "schedule", "seed"):
        row[name] = getattr(training, name)
    row["compute_dtype"] = getattr(experiment.model, "compute_dtype", "full")
    with tempfile.TemporaryDirectory() as folder:
        try:
            outcome = start(experiment, Path(folder, "run"), LineDisplay(every=60))
        except InputError as error:
            row |= {"psnr": float("-inf"), "error": str(error).split(";")[0]}
        else:
            if outcome.status != "finished":
                sys.exit("stopped")
            lines = outcome.folder.read_metrics()
            row |= outcome.summary["scores"] | {"best_psnr": outcome.summary["best"]["psnr"]}
            row |= {"best_step": outcome.summary["best"]["step"]}
            for target in TARGETS:
                passed = (line["step"] for line in lines if line["psnr"] >= target)
                row[f"step_{target}_db"] = next(passed, None)
            row |= {name: outcome.summary[name] for name in COSTS}
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    row["commit"] = commit.stdout.strip()
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps([*read_rows(), row], indent=1) + "\n")
    print(f"  {row['psnr']:.2f} dB", flush=True)


def time_steps(source: str, repeats: int = 5) -> dict[str, dict[str, float]]:
    """Seconds of one full-batch step at 256 x 256, medians of `repeats` interleaved calls."""
    runs: dict[str, Any] = {}
    for model in MODELS:
        table = merge(read_table(config_path(f"image/{model}")), {"problem": {"source": source}})
        experiment = experiment_from(table)
        training, data = experiment.training, jax.device_put(experiment.problem.load())
        optimizer, chunk = training.transformation(), training.chunk_points
        step = make_step(experiment.model, experiment.problem.loss, optimizer, chunk=chunk)
        state = initial_state(experiment.model.init(jax.random.key(0)), optimizer)
        runs[model] = [make_advance(step, 1), state, data, []]
    for repeat in range(repeats + 1):
        for run in runs.values():
            begun = time.perf_counter()
            run[1], history, _ = run[0](run[1], run[2], jax.random.key(1), np.int32(1))
            jax.block_until_ready(history)
            if repeat:  # the first call compiles
                run[3].append(time.perf_counter() - begun)
    seconds = {model: statistics.median(run[3]) for model, run in runs.items()}
    return {
        model: {"seconds": round(s, 3), "to_siren": round(s / seconds["siren"], 2)}
        for model, s in seconds.items()
    }


def read_rows() -> list[dict[str, Any]]:
    """All rows so far."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else []


def precision_table(rows: list[dict[str, Any]]) -> str:
    """Final PSNR by learning rate, in float32 and with operands rounded to bfloat16."""
    own = [row for row in rows if row["stage"] == "precision"]
    psnr = {(row["learning_rate"], row["compute_dtype"]): f"{row['psnr']:.1f} dB" for row in own}
    where = f"{own[0]['source']} {own[0]['size'][0]} x {own[0]['size'][1]}, {own[0]['steps']} steps"
    lines = [f"| {where}: learning rate | full | bfloat16 |", "|---|---|---|"]
    for rate in sorted({row["learning_rate"] for row in own}):
        lines.append(f"| {rate:g} | {psnr[rate, 'full']} | {psnr[rate, 'bfloat16']} |")
    return "\n".join(lines)


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| stage | picture | model | rate, schedule | steps | PSNR, final | best (step) | SSIM "
        "| 33 / 35 / 40 dB at step | steps/s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        where = f"{row['source']} {row['size'][0]} x {row['size'][1]}"
        how = f"{row['learning_rate']:g}, {row['schedule']}"
        if row.get("compute_dtype", "full") != "full":
            how += f", {row['compute_dtype']}"
        start_of_line = f"| {row['stage']} | {where} | {row['model']} | {how} | {row['steps']} "
        if "error" in row:
            lines.append(start_of_line + f"| {row['error']} | | | | |")
            continue
        passed = " / ".join(str(row[f"step_{target}_db"] or "-") for target in TARGETS)
        lines.append(
            start_of_line + f"| {row['psnr']:.2f} | {row['best_psnr']:.2f} ({row['best_step']}) "
            f"| {row['ssim']:.4f} | {passed} | {row['steps_per_second']:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
