"""Signals of both papers: the papers' models and the baselines, each at the best of its sweep.

    python benchmarks/signals.py audio --source gt_bach.wav --begin 2 --seconds 0.5
    python benchmarks/signals.py audio --source gt_bach.wav --begin 2 --seconds 0.5 --time 300
    python benchmarks/signals.py ct --source chest.png --side 128
    python benchmarks/signals.py ct --source chest.png --side 256 --omega0 20 --tv 1e-5
    python benchmarks/signals.py image --source kodim05.png --side 144
    python benchmarks/signals.py image --source kodim05.png --half --unswept
    python benchmarks/signals.py solid --source thai_statue.mat --side 128
    python benchmarks/signals.py table

Sizes: the papers' models have 195,571 parameters for the 308,207 samples of `bach`, about 180k for
a slice of 256 x 256 pixels and 153k for an image of 768 x 512. For a part of a sound, a smaller
slice or the centre of an image, the number of parameters is reduced in proportion. The scripts
that NestNet's paper builds on halve one of their two images; `--half` does so, and keeps 153k. A
solid is subsampled and keeps 153k.

Steps: 1,000 on all points for sounds and slices; 2,000 passes in batches for images, where a
batch is 65,536 pixels of the full image or the same share of a smaller one; 3,000 of 5,000 voxels
for solids. A solid's run takes a quarter of an hour, so only the first setting of its sweep is run.

Fairness: the settings to sweep were narrowed on smaller pieces, with more trials for LRNN than for
the baselines, and for images on the same part, with more trials for NestNet than for the
baselines. LRNN needs learning rates of 5e-3 to 1e-2, not its authors' 1e-3. The weight of total
variation is the one that is best for the ground truth (an oracle), which is unknown in practice.

With `--record`, rows are added to benchmarks/results/signals.json as they are measured; `--only`
and `--seeds` run a part of a stage.
"""

import argparse
import dataclasses
import functools
import itertools
import math
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import common
import numpy as np
import skimage.transform
import sweeps
from common import FOLDER, Results, Row
from sweeps import Case, Study, at_rates, cases, study_parser, trials

import lrnn_jax as lj
from lrnn_jax import inverse
from lrnn_jax.io import read_volume, write_png
from lrnn_jax.metrics import psnr, ssim

RESULTS = Results(FOLDER / "signals.json")
SCORES = {"audio": "snr", "ct": "psnr", "image": "psnr", "solid": "iou"}
STEPS = {"audio": 1000, "ct": 1000, "image": 2000, "solid": 3000}
SAMPLES_PER_PARAMETER = 308_207 / 195_571  # of the papers' audio
PIXELS_PER_PARAMETER = 256**2 / 180_000
BATCHES_PER_PASS = math.ceil(768 * 512 / 256**2)  # of NestNet's images
NESTNET_PARAMETERS = 153_000
VALUES_PER_PARAMETER = 3 * 768 * 512 / NESTNET_PARAMETERS
TV_WEIGHTS = (0.0003, 0.001, 0.003, 0.01, 0.03)
VIEWS = 100


def main() -> None:
    parser = study_parser(__doc__, SCORES)
    parser.add_argument("--source", help="a file; required for a solid")
    parser.add_argument("--begin", type=float, default=0.0, help="start of the part of a sound, s")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of the part of a sound")
    parser.add_argument("--time", type=float, default=100.0, help="end of a complete sound's time")
    parser.add_argument("--side", type=int, default=128, help="pixels or voxels of a side")
    parser.add_argument("--half", action="store_true", help="the full image at half its size")
    parser.add_argument("--tv", type=float, default=0.0, help="weight of a slice's total variation")
    parser.add_argument("--omega0", type=float, help="restrict the sweeps to this omega0")
    parser.add_argument("--steps", type=int, help="default: as above; passes for an image")
    parser.add_argument("--unswept", action="store_true", help="only the first setting of a sweep")
    options = common.parse(parser, RESULTS, table)
    if options.stage == "solid" and not options.source:
        parser.error("solid: expected --source, a volume")
    options.steps = options.steps or STEPS[options.stage]
    if options.stage == "ct" and options.only in "classical baselines":
        classical(ct_problem(options))
    study = Study(RESULTS, SCORES[options.stage], larger=True)
    for case in CASES[options.stage](options):
        if options.only in case.name:
            study.run(_restricted(options, case), options.seeds)


def _restricted(options: argparse.Namespace, case: Case) -> Case:
    """The case with the settings that the options allow, and the number of steps in its name."""
    unit = "passes" if options.stage == "image" else "steps"
    label = "" if options.steps == STEPS[options.stage] else f", {options.steps} {unit}"
    omega0 = options.omega0
    choices = [c for c in case.choices if omega0 in (None, getattr(c[0], "omega0", None))]
    choices = choices[:1] if options.unswept else choices
    return dataclasses.replace(case, name=case.name + label, choices=tuple(choices))


def rates(steps: int, *values: float) -> list[lj.Training]:
    """Adam at each of the rates, which are multiplied by 0.8 every tenth of the steps (papers)."""
    return at_rates(lj.Training(steps=steps, decay_every=max(1, steps // 10)), *values)


def audio_cases(options: argparse.Namespace) -> Iterator[Case]:
    """t in [-100, 100], or `--time`, for a complete sound; a part has as many samples per unit."""
    source = options.source or "chord"
    sound = lj.Audio(source=source).load()
    length, channels = np.shape(sound.y)
    begin = round(options.begin * sound.rate)
    samples = min(round(options.seconds * sound.rate), length - begin)
    problem = lj.Audio(
        source=source,
        start=begin / sound.rate,
        seconds=samples / sound.rate,
        extent=options.time * samples / length,
    )
    size = round(samples / SAMPLES_PER_PARAMETER)
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
    label = f"{Path(source).stem}, {samples / sound.rate:g} s from {begin / sound.rate:g} s"
    label += "" if options.time == 100 else f", time to {options.time:g}"
    yield from cases("audio", label, problem, models)


def ct_problem(options: argparse.Namespace) -> inverse.CT:
    """Tomography of a slice from 100 views without noise."""
    source = options.source or "phantom"
    return inverse.CT(source=source, size=options.side, views=VIEWS, tv_weight=options.tv)


def ct_cases(options: argparse.Namespace) -> Iterator[Case]:
    """Every model without and with the ramp filter; pixels per parameter as in the papers."""
    problem = ct_problem(options)
    size = round(options.side**2 / PIXELS_PER_PARAMETER)
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
    variation = f", variation {options.tv:g}" if options.tv else ""
    for name, residual_filter in itertools.product(models, ("none", "ramp")):
        filtered = dataclasses.replace(problem, residual_filter=residual_filter)
        label = f"filter '{residual_filter}', {_label(problem)}{variation}"
        yield from cases("ct", label, filtered, {name: models[name]})


def image_cases(options: argparse.Namespace) -> Iterator[Case]:
    """The centre of an image, or the full image at half its size, with 153k parameters."""
    source = options.source or "astronaut"
    with tempfile.TemporaryDirectory() as folder:
        part, problem = _part(options, source, folder)
        high, wide, channels = problem.picture().pixels.shape
        batches, size = math.ceil(wide * high / 256**2), NESTNET_PARAMETERS
        if not options.half:
            batches, size = BATCHES_PER_PASS, round(wide * high * channels / VALUES_PER_PARAMETER)
        training = lj.Training(
            steps=batches * options.steps, batch=math.ceil(wide * high / batches), schedule="cosine"
        )
        family = functools.partial(sweeps.family, size=size, in_dim=2, out_dim=channels)
        nestnets = family(lj.NestNet, "width", frequencies=[20, 10])
        models = {"NestNet": trials(nestnets, *at_rates(training, 1e-2, 2e-2))}
        models |= _baselines(2, channels, size, training)
        label = f"{Path(source).stem}, {part} {wide} x {high}"
        yield from cases("image", label, problem, models)


def _part(options: argparse.Namespace, source: str, folder: str) -> tuple[str, lj.Image]:
    """Label and problem of the pixels to fit. `--half` averages 2 x 2 pixels, as the scripts do."""
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
    """A subsampled volume, in batches of 5,000 voxels."""
    inside = read_volume(options.source)
    every = max(1, round(max(inside.shape) / options.side))
    part = inside[every // 2 :: every, every // 2 :: every, every // 2 :: every]
    label = f"{Path(options.source).stem}, {' x '.join(map(str, part.shape))}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, Path(options.source).stem + ".npy")
        np.save(path, part)
        problem = lj.Occupancy(source=str(path))
        nestnets = sweeps.family(lj.NestNet, "width", NESTNET_PARAMETERS, in_dim=3, out_dim=1)
        training = dataclasses.replace(rates(options.steps, 5e-3)[0], batch=5000)
        models = {"NestNet": trials(nestnets, dataclasses.replace(training, subnetwork_rate=0.2))}
        models |= _baselines(3, 1, NESTNET_PARAMETERS, training)
        first = {name: choices[:1] for name, choices in models.items()}
        yield from cases("solid", label, problem, first)


def _baselines(
    in_dim: int, out_dim: int, size: int, training: lj.Training
) -> dict[str, tuple[sweeps.Choice, ...]]:
    """The baselines of NestNet: four settings of each, at their authors' rates and higher ones."""
    family = functools.partial(sweeps.family, size=size, in_dim=in_dim, out_dim=out_dim)
    at = functools.partial(at_rates, training)
    return {
        "SIREN": trials(family(lj.Siren, "width", depth=3, omega0=[30.0, 60.0]), *at(1e-3, 2e-3)),
        "WIRE": trials(family(lj.Wire, "width", omega0=[20.0, 10.0], sigma0=10.0), *at(5e-3, 1e-2)),
        "LRNN": trials(
            family(lj.LRNN, "rank", components=16, omega0=[30.0, 15.0]), *at(3e-3, 1e-2)
        ),
    }


CASES = {"audio": audio_cases, "ct": ct_cases, "image": image_cases, "solid": solid_cases}


def classical(problem: inverse.CT) -> None:
    """Add rows for filtered back-projection, and for total variation at its best weight."""
    truth, data = problem.slice(), problem.load()
    rows = problem.size * np.asarray(data.y, np.float64)
    methods = {"filtered back-projection": (problem.back_projection(data), {}, 0.0)}
    for weight in TV_WEIGHTS:
        begun = time.perf_counter()
        value = np.asarray(inverse.total_variation(rows, problem.angles, weight, steps=500))
        seconds = round(time.perf_counter() - begun, 1)
        best = methods.get("total variation")
        if best is None or psnr(value, truth) > psnr(best[0], truth):
            methods["total variation"] = value, {"weight": weight, "among": TV_WEIGHTS}, seconds
    for name, (value, settings, seconds) in methods.items():
        images = value[..., None], truth[..., None]
        score = {"final": [psnr(value, truth)], "ssim": [ssim(*images)]}
        # Published values probably have this data range, scikit-image's former default for floats.
        score["ssim_range_2"] = [ssim(*images, peak=2)]
        row = {"stage": "ct", "name": f"{name}, {_label(problem)}", "parameters": 0}
        row |= settings | score
        RESULTS.add(row | {"oracle": score["final"], "seconds": [seconds]})


def _similarities(row: Row) -> list[str]:
    """SSIM with data range 1, and with data range 2 if the row has it."""
    measured = [name for name in ("ssim", "ssim_range_2") if name in row]
    return [*(f"{_median(row, name):.4f}" for name in measured), *[""] * (2 - len(measured))]


def _label(problem: inverse.CT) -> str:
    return f"{Path(str(problem.source)).stem}, {problem.size} x {problem.size}"


# Stage: caption, header, cells of the scores.
TABLES = {
    "audio": (
        "Sound, 1,000 steps, median (best .. worst) of seeds:",
        "model and sound | parameters | SNR (dB) | oracle-best | MSE x 1e-4 | rho_AG",
        lambda row: [f"{1e4 * _median(row, 'mse'):.3g}", f"{_median(row, 'rho_ag'):.4f}"],
    ),
    "ct": (
        "Tomography, 100 views, 1,000 steps, median (best .. worst) of seeds; SSIM of range 1:",
        "model and slice | parameters | PSNR (dB) | oracle-best | SSIM | of range 2",
        _similarities,
    ),
    "image": (
        "Images, 2,000 passes, median (best .. worst) of seeds; SSIM of range 1:",
        "model and image | parameters | PSNR (dB) | oracle-best | SSIM | of range 2",
        _similarities,
    ),
    "solid": (
        "Occupancy, 3,000 steps of 5,000 voxels, median (best .. worst) of seeds:",
        "model and solid | parameters | IoU | oracle-best",
        lambda row: [],
    ),
}


def table(rows: list[Row]) -> str:
    """A table for each stage."""
    texts = []
    for stage, (caption, header, scores) in TABLES.items():
        chosen = [row for row in rows if row["stage"] == stage]
        lines = [[*_cells(row), *scores(row), f"{_median(row, 'seconds'):.0f}"] for row in chosen]
        if chosen:
            texts.append(f"{caption}\n\n{common.markdown(f'{header} | seconds per run', lines)}")
    return "\n\n".join(texts)


def _median(row: Row, name: str) -> float:
    """Median over the seeds that did not diverge; `_cells` states how many did."""
    return statistics.median([value for value in row[name] if value is not None])


def _cells(row: Row) -> list[str]:
    final = row["final"]
    digits = 4 if row["stage"] == "solid" else 2
    ends = f" ({max(final):.{digits}f} .. {min(final):.{digits}f}), {len(final)}"
    diverged = sum(not math.isfinite(value) for value in final)
    failures = f", {diverged} diverged" if diverged else ""
    return [
        row["name"],
        f"{row['parameters']:,}" if row["parameters"] else "",
        f"**{_median(row, 'final'):.{digits}f}**{ends if len(final) > 1 else ''}{failures}",
        f"{_median(row, 'oracle'):.{digits}f}",
    ]


if __name__ == "__main__":
    main()
