"""Long use and sudden ends: memory and handles over many fits, and signals in every phase of a run.

    python benchmarks/soak.py fits --record    # 200 fits in one process: memory and open files
    python benchmarks/soak.py steps --record   # one fit of 20,000 steps
    python benchmarks/soak.py kills --record   # SIGTERM and SIGKILL in every phase, then --resume
    python benchmarks/soak.py table

`kills` starts `lrnn-jax fit`, waits until the folder of the run shows a phase, ends the process by
a signal, and continues the run by `--resume`, or starts it again where there is no folder yet. The
result must equal that of an undisturbed run bit for bit, and no temporary file may be left. It also
ends and repeats `lrnn-jax export`, whose file must be absent or whole. `scale.py kills` ends
studies.
"""

import argparse
import functools
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import FOLDER, Results, Row, by_machine, markdown, parse, run_stages, stage_parser

import lrnn_jax as lj

RESULTS = Results(FOLDER / "soak.json", identity=("stage", "name", "signal", "machine"))
WORDS = ["--model.kind", "siren", "--model.width", "32", "--problem.size", "48", "48"]
WORDS += ["--training.steps", "2000", "--training.checkpoint_every", "250"]
MAIN = "import sys; from lrnn_jax.cli import main; sys.exit(main())"
MODELS = (lj.Siren, lj.LRNN, lj.NestNet, lj.Wire)


# Memory ------------------------------------------------------------------------------------------


def usage() -> dict[str, float]:
    """Resident memory in MB, open files and threads of this process."""
    status = Path("/proc/self/status").read_text()
    lines = dict(line.split(":", 1) for line in status.splitlines())
    return {
        "mb": round(int(lines["VmRSS"].split()[0]) / 1024, 1),
        "files": len(list(Path("/proc/self/fd").iterdir())),
        "threads": int(lines["Threads"]),
    }


def fits(options: argparse.Namespace) -> None:
    """Fit many models to many images: each fit has a new image, seed and learning rate."""
    del options
    rng = np.random.default_rng(0)
    seen = {}
    for number in range(1, 201):
        model = MODELS[number % len(MODELS)](in_dim=2, out_dim=1)
        problem = lj.Image(rng.random((16, 16 + number % 3, 1)))
        training = lj.Training(steps=20, seed=number, learning_rate=1e-3 / number)
        lj.solve(model, problem, training, progress=False)
        if number in (50, 100, 200):
            seen[number] = usage()
    RESULTS.add({"stage": "fits", "name": "200 fits", "usage": seen})


def steps(options: argparse.Namespace) -> None:
    """One fit of 20,000 steps, with its memory on the way."""
    del options
    model = lj.LRNN(in_dim=2, out_dim=1, rank=8, components=4)
    problem = lj.Image(np.random.default_rng(0).random((32, 32, 1)))
    seen = {}

    def watch(step: int, metrics: dict[str, float]) -> None:
        del metrics
        if step in (2000, 10_000, 20_000):
            seen[step] = usage()

    lj.solve(model, problem, lj.Training(steps=20_000, log_every=1000), callback=watch)
    RESULTS.add({"stage": "steps", "name": "20,000 steps", "usage": seen})


# Signals -----------------------------------------------------------------------------------------


def _is_new_checkpoint(run: Path) -> bool:
    folder = run / "checkpoints"
    return folder.is_dir() and any(folder.iterdir())


PHASES: dict[str, Callable[[Path], bool]] = {
    "import": lambda run: True,
    "folder": Path.exists,
    "compile": lambda run: (run / "config.toml").exists(),
    "steps": lambda run: (run / "metrics.jsonl").exists(),
    "checkpoint": _is_new_checkpoint,
    "model": lambda run: (run / "model.safetensors").exists(),
    "pictures": lambda run: any(run.glob("*.png")),
}
"""What the folder shows once a phase has begun."""

DELAYS = {"import": 1.5, "folder": 0.0, "compile": 1.0, "steps": 0.5, "checkpoint": 0.3}
"""Largest further seconds before the signal, which is drawn uniformly; 0.5 for other phases."""


def start(*words: str) -> subprocess.Popen:
    """Start the command."""
    return subprocess.Popen(
        [sys.executable, "-c", MAIN, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def end_in(phase: str, number: int, run: Path, delay: float) -> int:
    """Start a fit and end it by a signal in a phase; return its exit code."""
    with start("fit", *WORDS, "--out", str(run)) as process:
        while process.poll() is None and not PHASES[phase](run):
            time.sleep(0.001)
        time.sleep(delay)
        process.send_signal(number)
        process.communicate()
        return process.returncode


def finish(run: Path) -> str:
    """Continue or repeat a fit; return what went wrong, "" if nothing did."""
    words = ["--resume", str(run)] if run.exists() else [*WORDS, "--out", str(run)]
    with start("fit", *words) as process:
        _, errors = process.communicate()
    line = errors.decode().strip()
    # A run that had ended before the signal has nothing to continue.
    if process.returncode and "ask for more with --training.steps" not in line:
        return f"exit code {process.returncode}: {line[-300:]}"
    left = [path.name for path in run.rglob(".*") if path.name != ".lock"]
    return f"left behind: {left}" if left else ""


def endings(folder: Path) -> dict[str, Callable[[int, Path], tuple[int, str]]]:
    """For each phase: end(signal, empty folder) -> exit code and what went wrong, "" if nothing."""
    draw, undisturbed, whole = random.Random(0), folder / "undisturbed", folder / "whole.stablehlo"
    if problem := finish(undisturbed):
        raise RuntimeError(problem)
    begun = time.perf_counter()
    export(undisturbed, whole).communicate()
    longest = time.perf_counter() - begun

    def end_fit(phase: str, number: int, place: Path) -> tuple[int, str]:
        run = place / "run"
        code = end_in(phase, number, run, draw.uniform(0, DELAYS.get(phase, 0.5)))
        problem = finish(run)
        same = problem or _equal(run / "model.safetensors", undisturbed / "model.safetensors")
        return code, problem if same else "other parameters"

    def end_export(number: int, place: Path) -> tuple[int, str]:
        file = place / "a.stablehlo"
        with export(undisturbed, file) as process:
            time.sleep(draw.uniform(0.3, 1) * longest)
            process.send_signal(number)
            process.communicate()
        if file.exists() and not _equal(file, whole):
            return process.returncode, "a part of the file"
        if number == signal.SIGTERM and any(place.glob(".*")):
            return process.returncode, "left behind: a temporary file"
        export(undisturbed, file).communicate()
        return process.returncode, "" if _equal(file, whole) else "another file"

    fits = {phase: functools.partial(end_fit, phase) for phase in PHASES}
    return fits | {"export": end_export}


def export(run: Path, file: Path) -> subprocess.Popen:
    """Start an export of the network of a run."""
    return start("export", str(run), "--to", "stablehlo", "--out", str(file))


def _equal(file: Path, other: Path) -> bool:
    return file.exists() and file.read_bytes() == other.read_bytes()


def kills(options: argparse.Namespace) -> None:
    """End fits and exports by SIGTERM and by SIGKILL in every phase, `--trials` times each."""
    with tempfile.TemporaryDirectory() as name:
        for phase, end in endings(Path(name)).items():
            for number in (signal.SIGTERM, signal.SIGKILL):
                ended = []
                for trial in range(options.trials):
                    place = Path(name, f"{phase}-{number}-{trial}")
                    place.mkdir()
                    ended.append(end(number, place))
                RESULTS.add(
                    {
                        "stage": "kills",
                        "name": phase,
                        "signal": signal.Signals(number).name,
                        "trials": options.trials,
                        "codes": sorted(code for code, _ in ended),
                        "problems": [problem for _, problem in ended if problem],
                    }
                )


# Tables ------------------------------------------------------------------------------------------


def table(rows: list[Row]) -> str:
    """What the docs show of the last measurements."""
    parts = []
    for machine, own in by_machine(rows).items():
        parts.append(f"On {machine}:")
        usages = [
            (row["name"], count, str(u["mb"]), str(u["files"]), str(u["threads"]))
            for row in own
            for count, u in row.get("usage", {}).items()
        ]
        if usages:
            parts.append(markdown("what | after | memory, MB | open files | threads", usages))
        ended = [
            (row["name"], row["signal"], str(row["trials"]), str(len(row["problems"])))
            for row in own
            if row["stage"] == "kills"
        ]
        if ended:
            header = "phase | signal | runs | of them not completed to the same bits"
            parts.append(markdown(header, ended))
    return "\n\n".join(parts)


def main() -> None:
    stages = {"fits": fits, "steps": steps, "kills": kills}
    parser = stage_parser(__doc__, stages)
    parser.add_argument("--trials", type=int, default=5, help="signals in each phase")
    run_stages(stages, parse(parser, RESULTS, table))


if __name__ == "__main__":
    main()
