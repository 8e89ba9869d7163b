"""How long the package takes to start: import, first step, a whole small fit.

    python benchmarks/start.py measure --record     # this tree
    python benchmarks/start.py measure --against d4354ae --record
    python benchmarks/start.py table

Every time is that of a new process, from its start. The trees alternate in each round, after one
round that is not counted, in which Python stores its bytecode; the table has medians. "first step"
is the time until the first line of `metrics.jsonl` is written by
`lrnn-jax fit --model.kind KIND --problem.size 64 64 --training.steps 1`; "fit" is the time until
that command has ended, with its pictures and diagnostics.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common import FOLDER, Results, Row, markdown, parse, run_stages, stage_parser

ROOT = Path(__file__).parents[1]
RESULTS = Results(FOLDER / "start.json", identity=("what", "tree", "machine"))
IMPORTS = {
    "import jax, optax, flax.struct": "import jax, optax, flax.struct",
    "import lrnn_jax": "import lrnn_jax",
}
KINDS = ("siren", "lrnn", "nestnet")
POLL = 0.005  # seconds


def measure_import(code: str, tree: Path) -> dict[str, float]:
    """Seconds of a process that runs `code`."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], env=_environment(tree), cwd=tree, check=True)
    return {"ended": time.perf_counter() - begun}


def measure_fit(kind: str, tree: Path, options: tuple[str, ...] = ()) -> dict[str, float]:
    """Seconds until the first step and until the end of a fit of one step."""
    words = ["fit", "--model.kind", kind, "--problem.size", "64", "64", "--training.steps", "1"]
    code = "import sys; from lrnn_jax.cli import main; sys.exit(main())"
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        command = [sys.executable, "-c", code, *words, *options, "--out", str(run)]
        begun = time.perf_counter()
        with subprocess.Popen(
            command,
            env=_environment(tree),
            cwd=tree,  # `python -c` looks there first
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        ) as process:
            first = None
            while process.poll() is None:
                if first is None and _has_metrics(run):
                    first = time.perf_counter() - begun
                time.sleep(POLL)
            ended = time.perf_counter() - begun
            if process.returncode or first is None:
                raise RuntimeError(f"{tree}: {process.stderr and process.stderr.read()!r}")
    return {"first step": first, "ended": ended}


def _has_metrics(run: Path) -> bool:
    path = run / "metrics.jsonl"
    return path.exists() and path.stat().st_size > 0


def _environment(tree: Path) -> dict[str, str]:
    changes = {"PYTHONPATH": str(tree), "JAX_PLATFORMS": "cpu", "PYTHONDONTWRITEBYTECODE": ""}
    return os.environ | changes


@contextmanager
def _tree_of(commit: str) -> Iterator[Path]:
    """The files of a commit in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        files = subprocess.run(
            ["git", "-C", str(ROOT), "archive", commit], check=True, capture_output=True
        ).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=files, check=True)
        yield Path(folder)


def measure(trees: dict[str, Path], rounds: int) -> None:
    """Measure all trees in alternation, and store the medians."""
    measurements = {name: (measure_import, (code,)) for name, code in IMPORTS.items()}
    measurements |= {f"fit {kind}": (measure_fit, (kind,)) for kind in KINDS}
    plain = {f"fit {kind} --no-render": (measure_fit, (kind,)) for kind in KINDS}
    for what, (function, arguments) in (measurements | plain).items():
        times: dict[str, list[dict[str, float]]] = {name: [] for name in trees}
        for number in range(rounds + 1):
            for name, tree in trees.items():
                if what in plain:
                    if name == "this tree":
                        times[name].append(measure_fit(*arguments, tree, ("--no-render",)))
                else:
                    times[name].append(function(*arguments, tree))
                if not number:
                    times[name].clear()
        for name, runs in times.items():
            if runs:
                medians = {
                    key: round(statistics.median(run[key] for run in runs), 2) for key in runs[0]
                }
                RESULTS.add({"what": what, "tree": name, "rounds": rounds, **medians})


def table(rows: list[Row]) -> str:
    """The medians, one line for each measurement of each machine."""
    trees = {row["tree"]: None for row in rows}
    header = "what | machine | " + " | ".join(f"{tree}, s" for tree in trees)
    lines = {}
    for row in rows:
        for key in ("first step", "ended"):
            if key in row:
                what = f"`{row['what']}`" + (", first step" if key == "first step" else "")
                lines.setdefault((what, row["machine"]), {})[row["tree"]] = f"{row[key]:.2f}"
    return markdown(
        header, ([*key, *(times.get(tree, "") for tree in trees)] for key, times in lines.items())
    )


def main() -> None:
    parser = stage_parser(__doc__, ["measure"])
    parser.add_argument("--against", help="a commit to compare with")
    parser.add_argument("--rounds", type=int, default=5)
    options = parse(parser, RESULTS, table)

    def stage(options) -> None:
        if options.against is None:
            return measure({"this tree": ROOT}, options.rounds)
        with _tree_of(options.against) as tree:
            return measure({"this tree": ROOT, options.against: tree}, options.rounds)

    run_stages({"measure": stage}, options)


if __name__ == "__main__":
    main()
