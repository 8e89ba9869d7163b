"""Studies against loops: time, compilations, the share of the host, memory.

    python benchmarks/scale.py loop         # against a loop of `lj.fit` that is compiled already
    python benchmarks/scale.py processes    # against a loop of `lrnn-jax fit`, with compilation
    python benchmarks/scale.py host         # the share of the host in a study of 1,000 members
    python benchmarks/scale.py memory       # peak memory against the number of members
    python benchmarks/scale.py kills        # ten kills: rows equal those of an undisturbed study
    python benchmarks/scale.py sharpness    # curvature at the start, drift of two correct programs
    python benchmarks/scale.py page         # the page of 100,000 rows: size, seconds to open
    python benchmarks/scale.py table        # the tables of docs/studies.md

The signals are random images of 32 x 32 pixels, the models have about 5,000 parameters, and a fit
takes 200 steps. Each measurement is a process of its own, and those of a comparison alternate. As
`lrnn-jax study`, the studies use one device for each core.
"""

import argparse
import dataclasses
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import jax.flatten_util
import jax.monitoring
import numpy as np
from common import FOLDER, Results, Row, by_machine, markdown, parse, stage_parser

import lrnn_jax as lj
from lrnn_jax.io import write_png
from lrnn_jax.studies import members, plan
from lrnn_jax.studies.engine import Program, fit_block
from lrnn_jax.training import precision_context

RESULTS = Results(FOLDER / "scale.json")
MODELS = ("lrnn", "siren", "nestnet")
BUDGET, STEPS, ROUNDS = 5000, 200, 3
CORES = len(os.sched_getaffinity(0))


def images(folder: Path, count: int) -> str:
    """Write random images, and return the pattern of their names."""
    rng = np.random.default_rng(0)
    for index in range(count):
        write_png(folder / f"{index:04d}.png", rng.random((32, 32, 1)))
    return str(folder / "*.png")


def spec(folder: Path, count: int, model: str, steps: int = STEPS, **fields) -> lj.Study:
    """A study of `count` images."""
    return lj.Study(
        problem={"kind": "image"},
        training={"steps": steps},
        grid={"model.kind": [model], "problem.source": images(folder, count)},
        budget=BUDGET,
        **fields,
    )


# The measurements, each in a process of its own ---------------------------------------------------


def seconds_of_study(model: str, count: int) -> float:
    """A compiled block of members: from reading the data to the scores."""
    with tempfile.TemporaryDirectory() as folder:
        (block,) = plan(spec(Path(folder), count, model))
        experiments = [m.experiment for m in block.members if m.experiment is not None]
        program = Program(experiments[0], count)
        fit_block(program, experiments)
        begun = time.perf_counter()
        fit_block(program, experiments)
        return time.perf_counter() - begun


def seconds_of_loop(model: str, count: int) -> float:
    """A loop of `lj.fit`, compiled: the steps alone, without reading and scores."""
    with tempfile.TemporaryDirectory() as folder:
        experiments = [m.experiment for m in members(spec(Path(folder), count, model))]
        data = [e.problem.loss_data(e.problem.load()) for e in experiments if e is not None]
    first = experiments[0]
    assert first is not None
    rate = first.training.transformation()

    def loop(signals: Iterable) -> float:
        begun = time.perf_counter()
        for seed, points in enumerate(signals):
            losses = lj.fit(
                first.model, first.problem.loss, points, rate, key=seed, steps=STEPS, chunk=512
            )[1]
            losses.block_until_ready()
        return time.perf_counter() - begun

    loop(data[:1])
    return loop(data)


def seconds_of_processes(model: str, count: int) -> float:
    """A loop of `lrnn-jax fit`."""
    with tempfile.TemporaryDirectory() as folder:
        first = next(members(spec(Path(folder), count, model))).experiment
        assert first is not None
        size = "rank" if model == "lrnn" else "width"
        words = ["--model.kind", model, f"--model.{size}", str(getattr(first.model, size))]
        words += ["--training.steps", str(STEPS)]
        begun = time.perf_counter()
        for image in sorted(Path(folder).glob("*.png")):
            fit = ["fit", str(image), *words, "--out", str(Path(folder) / image.stem)]
            command(fit)
        return time.perf_counter() - begun


def seconds_of_command(model: str, count: int) -> float:
    """`lrnn-jax study`, with everything."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "study.toml"
        pattern = images(Path(folder), count)
        file.write_text(
            f'[problem]\nkind = "image"\n[training]\nsteps = {STEPS}\n[study]\nbudget = {BUDGET}\n'
            f'[study.grid]\n"model.kind" = ["{model}"]\n"problem.source" = "{pattern}"\n'
        )
        begun = time.perf_counter()
        command(["study", str(file), "--out", str(Path(folder) / "out")])
        return time.perf_counter() - begun


def command(words: list[str]) -> None:
    subprocess.run([sys.executable, "-m", "lrnn_jax", *words], check=True, capture_output=True)


def share_of_host(model: str, count: int) -> float:
    """The share of a study's time in which neither steps are taken nor programs are compiled."""
    compiling: list[float] = []

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        if "/compile/" in event:
            compiling.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    with tempfile.TemporaryDirectory() as folder:
        study = spec(Path(folder), count, model, steps=500)
        begun = time.perf_counter()
        rows = lj.study(study, Path(folder) / "out").rows
        spent = time.perf_counter() - begun
    return 1 - (sum(row["seconds_amortised"] for row in rows) + sum(compiling)) / spent


def peak_memory(model: str, count: int) -> float:
    """Peak resident memory of a study in MB."""
    with tempfile.TemporaryDirectory() as folder:
        lj.study(spec(Path(folder), count, model, steps=20), Path(folder) / "out")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


MEASURES = {
    "study": seconds_of_study,
    "loop": seconds_of_loop,
    "processes": seconds_of_processes,
    "command": seconds_of_command,
    "host": share_of_host,
    "memory": peak_memory,
}


def measured(what: str, model: str, count: int) -> float:
    """Run a measurement in a process of its own."""
    words = [sys.executable, __file__, "one", "--what", what, "--model", model]
    done = subprocess.run(
        [*words, "--count", str(count)], check=True, capture_output=True, text=True
    )
    return float(done.stdout.split()[-1])


# The stages --------------------------------------------------------------------------------------


def compare(stage: str, ours: str, other: str, count: int, rounds: int = ROUNDS) -> None:
    """Store the seconds of two measurements, which alternate, and the ratio of their medians."""
    for model in MODELS:
        pairs = [
            (measured(ours, model, count), measured(other, model, count)) for _ in range(rounds)
        ]
        first, second = (statistics.median(times) for times in zip(*pairs, strict=True))
        RESULTS.add(
            {
                "stage": stage,
                "name": model,
                "members": count,
                "rounds": rounds,
                "study_seconds": round(first, 3),
                "loop_seconds": round(second, 3),
                "ratio": round(second / first, 2),
            }
        )


def host() -> None:
    share = measured("host", "siren", 1000)
    RESULTS.add({"stage": "host", "name": "siren", "members": 1000, "share": round(share, 4)})


def memory() -> None:
    for count in (32, 128, 512):
        peak = measured("memory", "siren", count)
        RESULTS.add({"stage": "memory", "name": f"siren, {count}", "members": count, "mb": peak})


def table(rows: list[Row]) -> str:
    parts = []
    for machine, own in by_machine(rows).items():
        for stage, what in (("loop", "compiled `lj.fit`"), ("processes", "`lrnn-jax fit`")):
            lines = [
                (
                    r["name"],
                    f"{r['study_seconds']:.2f}",
                    f"{r['loop_seconds']:.2f}",
                    f"{r['ratio']}",
                )
                for r in own
                if r["stage"] == stage
            ]
            if lines:
                count = next(r["members"] for r in own if r["stage"] == stage)
                head = f"model | study, s | loop of {what}, s | loop / study"
                parts.append(f"{count} images of 32 x 32; {machine}:\n\n{markdown(head, lines)}")
        shares = [(r["name"], f"{100 * r['share']:.1f} %") for r in own if r["stage"] == "host"]
        if shares:
            head = "model | share of the host in 1,000 fits of 500 steps"
            parts.append(markdown(head, shares))
        peaks = [(str(r["members"]), f"{r['mb']:.0f} MB") for r in own if r["stage"] == "memory"]
        if peaks:
            parts.append(markdown("members | peak memory", peaks))
        parts += [
            f"A study of {r['members']} members in 40 blocks, killed {r['kills']} times at random "
            f"moments: its {r['equal_rows']} rows equal those of an undisturbed one, but for the "
            "seconds."
            for r in own
            if r["stage"] == "kills"
        ]
        parts += [
            f"The page of {r['name']}: {r['mb']} MB, written in {r['write_seconds']:.0f} s, opened "
            f"in Chromium in {r['open_seconds']} s."
            for r in own
            if r["stage"] == "page"
        ]
        curved = [
            (
                r["name"],
                f"{abs(r['eigenvalue']):,.1f}",
                f"{r['drift_float32']:.1g}",
                f"{r['drift_float64']:.1g}",
            )
            for r in own
            if r["stage"] == "sharpness"
        ]
        if curved:
            head = "model | curvature at the start | after 50 steps, float32 | float64"
            text = (
                "The largest absolute eigenvalue of the loss's Hessian at the start, and the "
                "relative difference of the losses of two correct programs:"
            )
            parts.append(f"{text}\n\n{markdown(head, curved)}")
    return "\n\n".join(parts)


def kills(count: int = 10) -> None:
    """Kill a study ten times at random moments; the final rows must equal the undisturbed ones."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import scale; from pathlib import Path; "
        "import lrnn_jax as lj; lj.study(scale.spec(Path(sys.argv[2]), 160, 'siren', steps=1500, "
        "block=4), Path(sys.argv[2]) / sys.argv[3])"
    )
    random, killed, unfinished = np.random.default_rng(0), 0, []
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-c", script, str(Path(__file__).parent), folder]
        subprocess.run([*words, "undisturbed"], check=True)
        while killed < count:
            process = subprocess.Popen([*words, "killed"])
            try:
                process.wait(4 + 8 * random.random())
                raise SystemExit(f"the study ended after {killed} kills: it is too short")
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            killed += 1
            unfinished.append(40 - len(list((Path(folder) / "killed/blocks").glob("[0-9]*.jsonl"))))
        subprocess.run([*words, "killed"], check=True)
        rows = {name: lj.load_study(Path(folder) / name).rows for name in ("undisturbed", "killed")}
    timeless = [
        [{n: v for n, v in row.items() if not n.startswith("seconds_")} for row in found]
        for found in rows.values()
    ]
    assert timeless[0] == timeless[1], "the rows differ"
    row = {"stage": "kills", "name": "siren", "members": 160, "kills": killed}
    RESULTS.add(row | {"blocks_left": unfinished, "equal_rows": len(timeless[0])})


def sharpness() -> None:
    """The curvature of the loss at the start, and how far two correct programs drift apart."""
    paper: dict[str, Any] = {"activation": "spder", "projection_init": "fan_in", "omega0": 30.0}
    changes = {
        "lrnn": {},
        "lrnn, the paper's start": paper,
        "lrnn, the paper's start, no norm": paper | {"norm": "none"},
        "siren": {},
        "nestnet": {},
    }
    for name, fields in changes.items():
        kind = name.partition(",")[0]
        row: Row = {"stage": "sharpness", "name": name, "members": 4, "steps": 50}
        with tempfile.TemporaryDirectory() as folder:
            for precision in ("float32", "float64"):
                study = dataclasses.replace(
                    spec(Path(folder), 4, kind, steps=50),
                    model=fields,
                    training={"steps": 50, "precision": precision, "learning_rate": 2e-3},
                )
                experiments = [m.experiment for m in members(study) if m.experiment is not None]
                with precision_context(experiments[0].training):
                    losses = [
                        [
                            fit.loss
                            for fit in fit_block(Program(experiments[0], 4, w), experiments)[0]
                        ]
                        for w in (1, 4)
                    ]
                    if precision == "float64":
                        row["eigenvalue"] = round(largest_eigenvalue(experiments[0]), 1)
                one, other = map(np.asarray, losses)
                drift = np.max(np.abs(one / other - 1))
                row[f"drift_{precision}"] = float(f"{drift:.2g}")
        RESULTS.add(row)


def largest_eigenvalue(experiment: Any, iterations: int = 60) -> float:
    """The largest absolute eigenvalue of the loss's Hessian at the start, by power iteration."""
    problem, model = experiment.problem, experiment.model
    data, key = problem.loss_data(problem.load()), jax.random.key(0)
    params, unravel = jax.flatten_util.ravel_pytree(model.init(key))

    def loss(flat: jax.Array) -> jax.Array:
        return problem.program().loss(lj.BoundModel(model, unravel(flat)), data, key)[0]

    @jax.jit
    def step(v: jax.Array) -> tuple[jax.Array, jax.Array]:
        product = jax.jvp(jax.grad(loss), (params,), (v,))[1]
        return product / jax.numpy.linalg.norm(product), v @ product

    v = jax.random.normal(key, params.shape, params.dtype)
    v, value = v / jax.numpy.linalg.norm(v), jax.numpy.nan
    for _ in range(iterations):
        v, value = step(v)
    return abs(float(value))


def page(count: int = 100_000) -> None:
    """Write the page of many rows, and open it in a browser."""
    from playwright.sync_api import sync_playwright

    from lrnn_jax.reports import fits_page

    rows = made_up_rows(count)
    names = ["model.kind", "training.learning_rate", "problem.source", "training.seed"]
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = fits_page("study", rows, names, targets=[30, 35]).save(Path(folder) / "page.html")
        written = time.perf_counter() - begun
        browser_path = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))))
        with sync_playwright() as started:
            browser = started.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
            opened = [open_page(browser, path.as_uri()) for _ in range(5)]
            browser.close()
        size = path.stat().st_size
    row = {"stage": "page", "name": f"{count:,} rows", "members": count, "mb": round(size / 1e6, 2)}
    RESULTS.add(
        row | {"write_seconds": round(written, 1), "open_seconds": statistics.median(opened)}
    )


def made_up_rows(count: int) -> list[Row]:
    """Rows of 5 models, 4 rates, 3 seeds and as many images as are needed, with random scores."""
    random, rows = np.random.default_rng(0), []
    steps = np.linspace(0, 1000, 100).astype(int).tolist()
    for index in range(count):
        settings = {
            "model.kind": ("lrnn", "siren", "nestnet", "wire", "finer")[index % 5],
            "training.learning_rate": (1e-4, 5e-4, 2e-3, 1e-2)[index // 5 % 4],
            "training.seed": index // 20 % 3,
            "problem.source": f"images/{index // 60:06d}.png",
        }
        score = 30 + index % 5 + 4 * random.standard_normal()
        rises = (score * (1 - np.exp(-np.arange(100) / 20))).tolist()
        reached = {f"steps_to_{t}": int(600 * t / score) if score > t else None for t in (30, 35)}
        costs = {"parameters": 5000, "flops": 10_000 + index % 5, "steps": 1000, "loss": 1e-3}
        rows.append(
            {"member": index, **settings, "main_score": "psnr", "psnr": score, "ssim": 0.9}
            | costs
            | {"seconds_alone": 2.0 + index % 5, **reached, "reason": ""}
            | {"curve": [[step, 0.1, value] for step, value in zip(steps, rises, strict=True)]}
        )
    return rows


def open_page(browser: Any, address: str) -> float:
    """Seconds from the navigation to the end of loading, laid out and drawn."""
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    begun = time.perf_counter()
    tab.goto(address)
    tab.screenshot()
    spent = time.perf_counter() - begun
    tab.close()
    return round(spent, 2)


STAGES = {
    "sharpness": sharpness,
    "page": page,
    "kills": kills,
    "loop": lambda: compare("loop", "study", "loop", 32),
    "processes": lambda: compare("processes", "command", "processes", 32, rounds=1),
    "host": host,
    "memory": memory,
}


def main() -> None:
    if sys.argv[1:2] == ["one"]:
        one = argparse.ArgumentParser()
        one.add_argument("one")
        one.add_argument("--what", choices=MEASURES)
        one.add_argument("--model", choices=MODELS)
        one.add_argument("--count", type=int)
        options = one.parse_args()
        if options.what != "loop":
            jax.config.update("jax_num_cpu_devices", CORES)
        print(MEASURES[options.what](options.model, options.count))
        return
    options = parse(stage_parser(__doc__, STAGES), RESULTS, table)
    STAGES[options.stage]()


if __name__ == "__main__":
    main()
