"""The image study of the LRNN slides: LRNN-SPDER, SPDER and SIREN with about 200k parameters.

    python benchmarks/image_study.py sweep --source cameraman.tif   # learning rates, 128 x 128
    python benchmarks/image_study.py paper --source cameraman.tif   # the papers' learning rates
    python benchmarks/image_study.py tuned --source cameraman.tif   # the best rate of the sweep
    python benchmarks/image_study.py precision --models lrnn_spder  # error of bfloat16, 128 x 128
    python benchmarks/image_study.py time                           # one step of each model
    python benchmarks/image_study.py table                          # the rows as Markdown

Every run is a row of benchmarks/results/image_study.json. A row has the final PSNR, the best PSNR
of all steps (an oracle, as it needs the ground truth), and the first steps that reached 33, 35 and
40 dB. The sweep gives every model the same schedule, number of steps and learning rates; `tuned`
runs each model at its best rate on the full image with that schedule, for half of the paper's 1000
steps.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import common
import jax
from common import FOLDER, Results, Row

from lrnn_jax.errors import InputError
from lrnn_jax.experiments import experiment_from, start
from lrnn_jax.experiments.progress import LineDisplay
from lrnn_jax.experiments.spec import config_path, merge, read_table

SETTINGS = ("steps", "learning_rate", "schedule", "seed")
RESULTS = Results(
    FOLDER / "image_study.json",
    identity=("stage", "model", "source", "size", "compute_dtype", *SETTINGS),
)
MODELS = ("lrnn_spder", "spder", "siren")
RATES = (2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3)
SWEEP = {"problem": {"size": [128, 128]}, "training": {"steps": 250, "schedule": "cosine"}}
TUNED = {"training": {"steps": 500, "schedule": "cosine"}}
TARGETS = (33, 35, 40)
COSTS = ("steps_per_second", "compile_seconds", "peak_memory_mb", "parameters")


def main() -> None:
    parser = common.stage_parser(__doc__, ("sweep", "precision", "paper", "tuned", "time"))
    parser.add_argument("--source", default="camera", help="an image; default: camera")
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--rates", nargs="+", type=float, default=RATES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="stop the stage 'paper' early; default: 1000")
    options = common.parse(parser, RESULTS, tables)
    if options.stage == "time":
        print(json.dumps(time_steps(options.source), indent=1))
        return
    for model in options.models:
        for changes in changes_of(options.stage, model, options):
            shared = {"problem": {"source": options.source}, "training": {"seed": options.seed}}
            run(options.stage, model, merge(shared, changes))


def changes_of(stage: str, model: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The changes that each run of a stage makes to the model's config."""
    if stage == "paper":
        return [{"training": {"steps": options.steps}} if options.steps else {}]
    if stage == "sweep":
        return [merge(SWEEP, {"training": {"learning_rate": rate}}) for rate in options.rates]
    if stage == "precision" and model != "lrnn_spder":
        return []  # the other models have no compute_dtype
    if stage == "precision":
        rates = [{"training": {"learning_rate": rate}} for rate in options.rates]
        dtypes = [{"model": {"compute_dtype": dtype}} for dtype in ("full", "bfloat16")]
        return [merge(SWEEP, merge(dtype, rate)) for rate in rates for dtype in dtypes]
    rate = best_rate(model, Path(options.source).name)
    return [merge(TUNED, {"training": {"learning_rate": rate}})]


def best_rate(model: str, source: str) -> float:
    """The learning rate with the best final PSNR of the sweep."""
    sweep = ("sweep", model, source)
    rows = [r for r in RESULTS.read() if (r["stage"], r["model"], r["source"]) == sweep]
    if not rows:
        raise InputError(f"no sweep of {model} on {source}: run the stage 'sweep' first")
    return max(rows, key=lambda row: row["psnr"])["learning_rate"]


def run(stage: str, model: str, changes: dict[str, Any]) -> None:
    """Fit a model and add the row."""
    experiment = experiment_from(merge(read_table(config_path(f"image/{model}")), changes))
    training = experiment.training
    print(f"{stage} {model} {training.learning_rate:g}", flush=True)
    row: dict[str, Any] = {"stage": stage, "model": model}
    row["source"] = Path(experiment.problem.source).name  # pyright: ignore[reportAttributeAccessIssue]
    row["size"] = experiment.problem.size  # pyright: ignore[reportAttributeAccessIssue]
    row |= {name: getattr(training, name) for name in SETTINGS}
    row["compute_dtype"] = getattr(experiment.model, "compute_dtype", "full")
    with tempfile.TemporaryDirectory() as folder:
        try:
            outcome = start(experiment, Path(folder, "run"), LineDisplay(every=60))
        except InputError as error:
            row |= {"psnr": float("-inf"), "error": str(error).split(";")[0]}
        else:
            if outcome.status != "finished":
                sys.exit("stopped")
            lines = outcome.folder.metrics.read()
            row |= outcome.summary["scores"] | {"best_psnr": outcome.summary["best"]["psnr"]}
            row |= {"best_step": outcome.summary["best"]["step"]}
            for target in TARGETS:
                steps = (line["step"] for line in lines if line["psnr"] >= target)
                row[f"step_{target}_db"] = next(steps, None)
            row |= {name: outcome.summary[name] for name in COSTS}
    RESULTS.add(row)


def time_steps(source: str, repeats: int = 5) -> dict[str, dict[str, float]]:
    """Seconds of a full-batch step at 256 x 256: medians of `repeats` interleaved timings."""
    programs = {}
    for model in MODELS:
        changes = {"problem": {"source": source}}
        experiment = experiment_from(merge(read_table(config_path(f"image/{model}")), changes))
        problem, chunk = experiment.problem, experiment.training.chunk_points
        data = jax.device_put(problem.load())
        programs[model] = common.training_step(experiment.model, data, chunk, problem.loss)
    ms = common.milliseconds(programs, repeats)
    return {
        model: {"seconds": round(t / 1e3, 3), "to_siren": round(t / ms["siren"], 2)}
        for model, t in ms.items()
    }


# Tables ------------------------------------------------------------------------------------------

HEADER = (
    "stage | image | model | rate, schedule | steps | PSNR, final | best (step) | SSIM "
    "| 33 / 35 / 40 dB at step | steps/s"
)


def tables(rows: list[Row]) -> str:
    """The table of all runs and that of the stage `precision`."""
    return f"{table(rows)}\n\n{precision_table(rows)}"


def precision_table(rows: list[Row]) -> str:
    """Final PSNR by learning rate, in float32 and with operands rounded to bfloat16."""
    rows = [row for row in rows if row["stage"] == "precision"]
    psnr = {(row["learning_rate"], row["compute_dtype"]): f"{row['psnr']:.1f} dB" for row in rows}
    header = f"{_image(rows[0])}, {rows[0]['steps']} steps: learning rate | full | bfloat16"
    rates = sorted({row["learning_rate"] for row in rows})
    lines = [[f"{rate:g}", psnr[rate, "full"], psnr[rate, "bfloat16"]] for rate in rates]
    return common.markdown(header, lines, "---")


def table(rows: list[Row]) -> str:
    """A line for each run."""
    return common.markdown(HEADER, map(_cells, rows), "---")


def _cells(row: Row) -> list[str]:
    settings = f"{row['learning_rate']:g}, {row['schedule']}"
    if row.get("compute_dtype", "full") != "full":
        settings += f", {row['compute_dtype']}"
    run = [row["stage"], _image(row), row["model"], settings, str(row["steps"])]
    if "error" in row:
        return [*run, row["error"], "", "", "", ""]
    return [
        *run,
        f"{row['psnr']:.2f}",
        f"{row['best_psnr']:.2f} ({row['best_step']})",
        f"{row['ssim']:.4f}",
        " / ".join(str(row[f"step_{target}_db"] or "-") for target in TARGETS),
        f"{row['steps_per_second']:.2f}",
    ]


def _image(row: Row) -> str:
    return f"{row['source']} {row['size'][0]} x {row['size'][1]}"


if __name__ == "__main__":
    main()
