"""The end of a run: scores, images, diagnostics, costs, and `summary.json`."""

import json
import math
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lrnn_jax.diagnostics import fit_warnings
from lrnn_jax.diagnostics import report as diagnose
from lrnn_jax.errors import InputError
from lrnn_jax.experiments.folder import RunFolder
from lrnn_jax.fields import BoundModel
from lrnn_jax.io import exists, io_errors, write_bytes
from lrnn_jax.io.json_text import json_text
from lrnn_jax.io.safetensors import save_tree
from lrnn_jax.training import Trainer
from lrnn_jax.trees import count_parameters
from lrnn_jax.typing import Params

if sys.platform != "win32":
    import resource

__all__ = ["peak_memory_mb", "read_summary", "summarize", "unusable"]


def summarize(
    trainer: Trainer, folder: RunFolder, costs: dict[str, float], render: bool = True
) -> dict[str, Any]:
    """Write the summary and, if the run has finished, scores, images and the exported model.

    Args:
      trainer: the training run after its last step.
      folder: its folder.
      costs: seconds and rates of compilation and training.
      render: write images and diagnostics, too.

    Returns:
      The content of `summary.json`.
    """
    problem, (step, params) = trainer.problem, trainer.best
    summary: dict[str, Any] = {
        "status": "finished" if trainer.ended else "interrupted",
        "step": trainer.step,
        "stop_reason": trainer.stop_reason(),
        "params_step": step,
    }
    if trainer.ended:
        field = BoundModel(trainer.model, params)
        made_by = {"version": version("lrnn-jax"), "model": folder.table()["model"]}
        save_tree(folder.params, params, json.dumps(made_by))
        summary["scores"] = problem.evaluate(field, trainer.data)
        images = problem.render(field, trainer.data, folder.path) if render else []
        summary["pictures"] = [path.name for path in images]
        summary["best"] = _best_line(folder)
        if render:
            _draw_curves(folder)
    summary |= {name: round(value, 3) for name, value in costs.items()}
    summary["peak_memory_mb"] = peak_memory_mb()
    summary["parameters"] = count_parameters(params)
    summary["machine"] = _machine()
    if trainer.ended:
        skipped: dict[str, Any] = {"warnings": []}
        summary["diagnostics"] = _diagnose(trainer, params, folder) if render else skipped
        summary["diagnostics"]["warnings"] += [
            f"{name} is not finite: the field or the data overflow where it is computed"
            for name in unusable(summary["scores"])
        ]
        losses = np.array([line["loss"] for line in folder.metrics.read()])
        if len(losses):
            failed = fit_warnings(problem, trainer.data, summary["scores"], losses)
            summary["diagnostics"]["warnings"] += failed
    write_bytes(folder.summary, json_text(summary, indent=2).encode())
    return summary


def read_summary(path: Path) -> dict[str, Any]:
    """Read `summary.json`; {} if the file is missing.

    Raises:
      InputError: it is not a JSON object with a status and a step.
    """
    if not exists(path):
        return {}
    with io_errors(path, "read"):
        content = path.read_bytes()
    try:
        summary = json.loads(content)
        _ = summary["status"], summary["step"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged: {error}; delete it to go on") from error
    return summary


def unusable(scores: dict[str, float]) -> list[str]:
    """Return the names of the scores that are not finite, except the +inf dB of a perfect fit."""

    def perfect(name: str, value: float) -> bool:
        return value == math.inf and name.startswith(("psnr", "snr"))

    return [n for n, value in scores.items() if not (math.isfinite(value) or perfect(n, value))]


def peak_memory_mb() -> float | None:
    """Return the peak resident memory of this process in MB (10^6 bytes); None on Windows."""
    if sys.platform == "win32":
        return None
    # Prefer /proc on Linux, where a process inherits ru_maxrss from its parent.
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    own = [line.split()[1] for line in lines if line.startswith("VmHWM")]
    if own:
        return round(int(own[0]) * 1024 / 1e6, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6, 1)


def _machine() -> dict[str, str]:
    return {
        "device": jax.devices()[0].device_kind,
        "platform": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "jax": jax.__version__,
        "lrnn_jax": version("lrnn-jax"),
    }


def _diagnose(trainer: Trainer, params: Params, folder: RunFolder) -> dict[str, Any]:
    """Compute the diagnostics of the fitted model, compared with its initial parameters.

    The run has finished, and an error in its diagnostics must not prevent its summary. An exception
    therefore becomes a warning with its reason.
    """
    try:
        return diagnose(trainer.model, params, folder.path, trainer.initial_params())
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        return {"warnings": [f"no diagnostics: {type(error).__name__}: {reason}"]}


def _best_line(folder: RunFolder) -> dict[str, float]:
    """The logged line with the lowest loss (oracle-best); {} if there are no logged lines.

    There are none if the metrics of an earlier session were deleted.
    """
    return min(folder.metrics.read(), key=lambda line: line["loss"], default={})


def _draw_curves(folder: RunFolder) -> None:
    """Write the training curve, unless there are no logged lines."""
    from lrnn_jax.plot import write_curves

    lines = folder.metrics.read()
    if lines:
        terms = [name for name in lines[0] if name not in ("step", "seconds", "loss")]
        curves = {name: [line[name] for line in lines] for name in ["loss", *terms]}
        write_curves(folder.curve, [int(line["step"]) for line in lines], curves, folder.path.name)
