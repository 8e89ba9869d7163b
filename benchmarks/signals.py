"""Signals of both papers: their models beside their rivals, at the best of the sweep of the row.

    python benchmarks/signals.py audio --source gt_bach.wav --begin 2 --seconds 0.5
    python benchmarks/signals.py audio --source gt_bach.wav --begin 2 --seconds 0.5 --time 300
    python benchmarks/signals.py ct --source chest.png --side 128
    python benchmarks/signals.py ct --source chest.png --side 256 --omega0 20 --tv 1e-5
    python benchmarks/signals.py picture --source kodim05.png --side 144
    python benchmarks/signals.py picture --source kodim05.png --half --unswept
    python benchmarks/signals.py solid --source thai_statue.mat --side 128
    python benchmarks/signals.py table

The papers' models have 195,571 parameters for 308,207 samples of `bach`, about 180k for a slice of
256 x 256 pixels and 153k for a picture of 768 x 512; a part of a sound, a smaller slice and the
middle of a picture have as many fewer. The scripts that NestNet's paper builds on halve one of
their two pictures; `--half` does, and keeps the 153k. 1,000 steps on all points for sound and
slices; for pictures 2,000 passes in batches of their 65,536 pixels, or of as large a share of a
smaller one. A solid, of which every so many voxels are taken, keeps 153k; `--steps` are of 5,000
voxels, and the first setting of a sweep is taken unseen: a run takes a quarter of an hour. Which
settings are swept was narrowed on smaller pieces, for LRNN more than for its rivals, and of a
picture on the very part, for NestNet more than for its rivals: LRNN wants rates of 5e-3 to 1e-2,
not its authors' 1e-3. Every row is added to benchmarks/results/signals.json when it is done;
`--only` and `--seeds` run a part of it. Total variation is given the weight that is best for the
truth, which no one has: an oracle.
"""

import argparse
import dataclasses
import functools
import itertools
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import skimage.transform
import sweeps
import timing
from sweeps import Case, Row, Study, trials

import lrnn_jax as lj
from lrnn_jax import inverse
from lrnn_jax.io import read_volume, write_png
from lrnn_jax.metrics import psnr, ssim

RESULTS = Path(__file__).parent / "results" / "signals.json"
SCORES = {"audio": "snr", "ct": "psnr", "picture": "psnr", "solid": "iou"}
STEPS = {"audio": 1000, "ct": 1000, "picture": 2000, "solid": 3000}
SEEDS = (0, 1, 2, 3, 4)
SAMPLES_A_PARAMETER = 308_207 / 195_571  # of the papers' audio
PIXELS_A_PARAMETER = 256**2 / 180_000
BATCHES_A_PASS = math.ceil(768 * 512 / 256**2)  # of NestNet's pictures
NESTNET_PARAMETERS = 153_000
VALUES_A_PARAMETER = 3 * 768 * 512 / NESTNET_PARAMETERS
WEIGHTS = (0.0003, 0.001, 0.003, 0.01, 0.03)  # of total variation
VIEWS = 100


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=(*SCORES, "table"))
    parser.add_argument("--source", help="a file; default, but for a solid: what needs none")
    parser.add_argument("--begin", type=float, default=0.0, help="second that the sound is cut at")
    parser.add_argument("--seconds", type=float, default=1.0, help="of the sound")
    parser.add_argument("--time", type=float, default=100.0, help="end of a whole sound's time")
    parser.add_argument("--side", type=int, default=128, help="pixels or voxels of a side")
    parser.add_argument("--half", action="store_true", help="a whole picture at half its size")
    parser.add_argument("--tv", type=float, default=0.0, help="weight of a slice's variation")
    parser.add_argument("--omega0", type=float, help="narrow the sweeps to this one")
    parser.add_argument("--steps", type=int, help="default: as above; passes of a picture")
    parser.add_argument("--unswept", action="store_true", help="first setting of a sweep alone")
    parser.add_argument("--only", default="", help="models whose name has this in it")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    options = parser.parse_args()
    if options.stage == "table":
        print(table(read_rows()))
        return 0
    if options.stage == "solid" and not options.source:
        parser.error("solid: expected --source, a volume")
    options.steps = options.steps or STEPS[options.stage]
    if options.stage == "ct" and options.only in "classical rivals":
        classical(ct_problem(options))
    study = Study(RESULTS, SCORES[options.stage], larger=True)
    for case in CASES[options.stage](options):
        if options.only in case.name:
            study.run(_as_asked(options, case), options.seeds)
    return 0


def _as_asked(options: argparse.Namespace, case: Case) -> Case:
    """The case with the number of steps in its name, and only the settings that were asked for."""
    unit = "passes" if options.stage == "picture" else "steps"
    label = "" if options.steps == STEPS[options.stage] else f", {options.steps} {unit}"
    wanted = options.omega0
    own = [c for c in case.choices if wanted in (None, getattr(c[0], "omega0", None))]
    own = own[:1] if options.unswept else own
    return dataclasses.replace(case, name=case.name + label, choices=tuple(own))


def rates(steps: int, *values: float) -> list[lj.Training]:
    """Adam, the rate times 0.8 ten times on the way, as in the papers."""
    return _at_rates(lj.Training(steps=steps, decay_every=max(1, steps // 10)), *values)


def audio_cases(options: argparse.Namespace) -> Iterator[Case]:
    """t in [-100, 100], or `--time`, for the whole of a sound; a part of it keeps the pace."""
    source = options.source or "chord"
    whole = lj.Audio(source=source).load()
    length, channels = np.shape(whole.y)
    begin = round(options.begin * whole.rate)
    samples = min(round(options.seconds * whole.rate), length - begin)
    problem = lj.Audio(
        source=source,
        start=begin / whole.rate,
        seconds=samples / whole.rate,
        extent=options.time * samples / length,
    )
    size = round(samples / SAMPLES_A_PARAMETER)
    family = functools.partial(sweeps.family, size=size, in_dim=1, out_dim=channels)
    models = {
        "LRNN": trials(
            family(lj.LRNN, "rank", activation=["sin", "sin_arctan"], components=4, omega0=30.0),
            *rates(options.steps, 5e-3, 1e-2),
        ),
        "SIREN": trials(
            family(lj.Siren, "width", depth=3, omega0=[30.0, 60.0, 100.0]),
            *rates(options.steps, 1e-3, 2e-3),
        ),
        "SPDER": trials(
            family(lj.Spder, "width", depth=3, activation="sin_arctan", omega0=[30.0, 60.0]),
            *rates(options.steps, 3e-4, 1e-3),
        ),
    }
    label = f"{Path(source).stem}, {samples / whole.rate:g} s from {begin / whole.rate:g} s"
    label += "" if options.time == 100 else f", time to {options.time:g}"
    for name, choices in models.items():
        yield Case("audio", f"{name}, {label}", problem, choices)


def ct_problem(options: argparse.Namespace) -> inverse.CT:
    """100 views, no noise."""
    source = options.source or "phantom"
    return inverse.CT(source=source, size=options.side, views=VIEWS, tv_weight=options.tv)


def ct_cases(options: argparse.Namespace) -> Iterator[Case]:
    """As many pixels a parameter as in the papers."""
    problem = ct_problem(options)
    size = round(options.side**2 / PIXELS_A_PARAMETER)
    family = functools.partial(sweeps.family, size=size, in_dim=2, out_dim=1)
    models = {
        "LRNN": trials(
            family(lj.LRNN, "rank", components=4, activation="sin", omega0=[10.0, 20.0, 30.0]),
            *rates(options.steps, 1e-2),
        ),
        "SIREN": trials(
            family(lj.Siren, "width", depth=3, omega0=[20.0, 30.0, 40.0]),
            *rates(options.steps, 1e-3, 2e-3),
        ),
        "NestNet": trials(family(lj.NestNet, "width"), *rates(options.steps, 2e-3, 5e-3)),
        "WIRE": trials(
            family(lj.Wire, "width", omega0=[10.0], sigma0=[5.0, 10.0]),
            *rates(options.steps, 1e-3, 5e-3),
        ),
    }
    for name, residual_filter in itertools.product(models, ("none", "ramp")):
        filtered = dataclasses.replace(problem, residual_filter=residual_filter)
        label = f"{name}, filter '{residual_filter}', {_label(problem)}"
        label += f", variation {options.tv:g}" if options.tv else ""
        yield Case("ct", label, filtered, models[name])


def picture_cases(options: argparse.Namespace) -> Iterator[Case]:
    """The middle of a picture, or all of it at half its size with all of NestNet's parameters."""
    source = options.source or "astronaut"
    with tempfile.TemporaryDirectory() as folder:
        part, problem = _part(options, source, folder)
        high, wide, channels = problem.picture().pixels.shape
        batches, size = math.ceil(wide * high / 256**2), NESTNET_PARAMETERS
        if not options.half:
            batches, size = BATCHES_A_PASS, round(wide * high * channels / VALUES_A_PARAMETER)
        training = lj.Training(
            steps=batches * options.steps, batch=math.ceil(wide * high / batches), schedule="cosine"
        )
        family = functools.partial(sweeps.family, size=size, in_dim=2, out_dim=channels)
        nested = family(lj.NestNet, "width", frequencies=[20, 10])
        own = trials(nested, *_at_rates(training, 1e-2, 2e-2))
        label = f"{Path(source).stem}, {part} {wide} x {high}"
        for name, choices in {"NestNet": own, **_rivals(2, channels, size, training)}.items():
            yield Case("picture", f"{name}, {label}", problem, choices)


def _part(options: argparse.Namespace, source: str, folder: str) -> tuple[str, lj.Image]:
    """What is fitted, and its name. Halves are means of 2 x 2 pixels, as the scripts have them."""
    pixels = lj.Image(source=source).picture().pixels
    if options.half:
        means = skimage.transform.downscale_local_mean(pixels, (2, 2, 1))
        path = write_png(Path(folder, Path(source).stem + ".png"), means)
        return "half size", lj.Image(source=str(path))
    height, width = pixels.shape[:2]
    scale = options.side / max(width, height)
    if scale >= 1:
        return "full size", lj.Image(source=source)
    wide, high = round(width * scale), round(height * scale)
    crop = ((width - wide) // 2, (height - high) // 2, wide, high)
    return "the middle", lj.Image(source=source, crop=crop)


def solid_cases(options: argparse.Namespace) -> Iterator[Case]:
    """Every so many voxels of a volume, drawn 5,000 at a time."""
    inside = read_volume(options.source)
    every = max(1, round(max(inside.shape) / options.side))
    part = inside[every // 2 :: every, every // 2 :: every, every // 2 :: every]
    label = f"{Path(options.source).stem}, {' x '.join(map(str, part.shape))}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, Path(options.source).stem + ".npy")
        np.save(path, part)
        problem = lj.Occupancy(source=str(path))
        nested = sweeps.family(lj.NestNet, "width", NESTNET_PARAMETERS, in_dim=3, out_dim=1)
        training = dataclasses.replace(rates(options.steps, 5e-3)[0], batch=5000)
        own = trials(nested, dataclasses.replace(training, subnetwork_rate=0.2))
        models = {"NestNet": own, **_rivals(3, 1, NESTNET_PARAMETERS, training)}
        for name, choices in models.items():
            yield Case("solid", f"{name}, {label}", problem, choices[:1])


def _rivals(
    in_dim: int, out_dim: int, size: int, training: lj.Training
) -> dict[str, tuple[sweeps.Choice, ...]]:
    """NestNet's: four settings of each, about the rates of their authors and above."""
    family = functools.partial(sweeps.family, size=size, in_dim=in_dim, out_dim=out_dim)
    at = functools.partial(_at_rates, training)
    return {
        "SIREN": trials(family(lj.Siren, "width", depth=3, omega0=[30.0, 60.0]), *at(1e-3, 2e-3)),
        "WIRE": trials(family(lj.Wire, "width", omega0=[20.0, 10.0], sigma0=10.0), *at(5e-3, 1e-2)),
        "LRNN": trials(
            family(lj.LRNN, "rank", components=16, omega0=[30.0, 15.0]), *at(3e-3, 1e-2)
        ),
    }


def _at_rates(training: lj.Training, *values: float) -> list[lj.Training]:
    return [dataclasses.replace(training, learning_rate=value) for value in values]


CASES = {"audio": audio_cases, "ct": ct_cases, "picture": picture_cases, "solid": solid_cases}


def classical(problem: inverse.CT) -> None:
    """Filtered back-projection, and total variation at the weight that is best for the truth."""
    truth, data = problem.slice(), problem.load()
    rows = problem.size * np.asarray(data.y, np.float64)
    found = {"filtered back-projection": (problem.back_projection(data), {}, 0.0)}
    for weight in WEIGHTS:
        begun = time.perf_counter()
        value = np.asarray(inverse.total_variation(rows, problem.angles, weight, steps=500))
        seconds = round(time.perf_counter() - begun, 1)
        best = found.get("total variation")
        if best is None or psnr(value, truth) > psnr(best[0], truth):
            found["total variation"] = value, {"weight": weight, "among": WEIGHTS}, seconds
    for name, (value, how, seconds) in found.items():
        pictures = value[..., None], truth[..., None]
        score = {"final": [psnr(value, truth)], "ssim": [ssim(*pictures)]}
        # the published ones are probably of this width: scikit-image's default for floats was 2
        score["ssim_range_2"] = [ssim(*pictures, peak=2)]
        row = {"stage": "ct", "name": f"{name}, {_label(problem)}", "parameters": 0, **how, **score}
        timing.add_row(RESULTS, row | {"oracle": score["final"], "seconds": [seconds]})


def _similarities(row: Row) -> list[str]:
    """SSIM with a data range of 1, and of 2 where it was measured."""
    measured = [name for name in ("ssim", "ssim_range_2") if name in row]
    return [*(f"{_median(row, name):.4f}" for name in measured), *[""] * (2 - len(measured))]


def _label(problem: inverse.CT) -> str:
    return f"{Path(problem.source).stem}, {problem.size} x {problem.size}"


def read_rows() -> list[Row]:
    """All rows so far."""
    return timing.read_rows(RESULTS)


def table(rows: list[Row]) -> str:
    """One table a stage."""
    tables = {
        "audio": (
            "Sound, 1,000 steps, median (best .. worst) of seeds:",
            ("model and sound", "parameters", "SNR (dB)", "oracle-best", "MSE x 1e-4", "rho_AG"),
            lambda row: [f"{1e4 * _median(row, 'mse'):.3g}", f"{_median(row, 'rho_ag'):.4f}"],
        ),
        "ct": (
            "Tomography, 100 views, 1,000 steps, median (best .. worst) of seeds; SSIM of range 1:",
            ("model and slice", "parameters", "PSNR (dB)", "oracle-best", "SSIM", "of range 2"),
            _similarities,
        ),
        "picture": (
            "Pictures, 2,000 passes, median (best .. worst) of seeds; SSIM of range 1:",
            ("model and picture", "parameters", "PSNR (dB)", "oracle-best", "SSIM", "of range 2"),
            _similarities,
        ),
        "solid": (
            "Occupancy, 3,000 steps of 5,000 voxels, median (best .. worst) of seeds:",
            ("model and solid", "parameters", "IoU", "oracle-best"),
            lambda row: [],
        ),
    }
    texts = []
    for stage, (caption, header, scores) in tables.items():
        own = [row for row in rows if row["stage"] == stage]
        lines = [[*_cells(row), *scores(row), f"{_median(row, 'seconds'):.0f}"] for row in own]
        if own:
            texts.append(f"{caption}\n\n{timing.markdown((*header, 'seconds a run'), lines)}")
    return "\n\n".join(texts)


def _median(row: Row, name: str) -> float:
    """Of the seeds that did not diverge, whose number `_cells` tells."""
    return statistics.median([value for value in row[name] if value is not None])


def _cells(row: Row) -> list[str]:
    final = row["final"]
    digits = 4 if row["stage"] == "solid" else 2
    ends = f" ({max(final):.{digits}f} .. {min(final):.{digits}f}), {len(final)}"
    diverged = sum(not math.isfinite(value) for value in final)
    told = f", {diverged} diverged" if diverged else ""
    return [
        row["name"],
        f"{row['parameters']:,}" if row["parameters"] else "",
        f"**{_median(row, 'final'):.{digits}f}**{ends if len(final) > 1 else ''}{told}",
        f"{_median(row, 'oracle'):.{digits}f}",
    ]


if __name__ == "__main__":
    sys.exit(main())
