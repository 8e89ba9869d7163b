"""Choose the recipes of `lrnn_jax/experiments/recipes.toml`, and check them on other data.

    python benchmarks/recipes.py sweep image --models siren wire    # sweep some pairs
    python benchmarks/recipes.py sweep image audio                  # all models of these problems
    python benchmarks/recipes.py write                              # recipes.toml from the sweeps
    python benchmarks/recipes.py check image                        # the recipes on held-out data
    python benchmarks/recipes.py table > docs/recipes.md            # the page with all of them

A sweep of a pair has three rounds on two signals (three splits of one table for regression): the
learning rates with the first value of each other field, then the values of each other field in
turn, then the two neighbouring rates again. A trial is one fit with one seed; the score is the mean
over the signals. Sizes, steps and batches are those of the recipe and are not swept. Of the rates
within 1.5 % of the best score, the recipe has the smallest. The real sounds are not part of the
repository: `--data` is the folder that holds gt_bach.wav and gt_counting.wav.
"""

import argparse
import dataclasses
import math
import re
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import skimage
import tomli_w
from common import FOLDER, Results, Row

import lrnn_jax as lj
import lrnn_jax.experiments.recipes as recipes_module
from lrnn_jax.errors import InputError
from lrnn_jax.experiments.recipes import describe_recipes, has_recipe, recipe, recipes
from lrnn_jax.experiments.spec import MODELS, PROBLEMS, model_from
from lrnn_jax.io import as_source
from lrnn_jax.metrics import higher_is_better
from lrnn_jax.typing import Problem

RECIPES = Path(recipes_module.__file__).with_suffix(".toml")
HEAD = """# Recipes: what a model is fitted with unless the user sets it. The sweeps of
# `python benchmarks/recipes.py` chose the tables [*.models]; `... write` writes them here.

"""
RESULTS = Results(FOLDER / "recipes.json", ("stage", "problem", "model"))
RATES = (1e-4, 3e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 1e-1)
# The sweep of the learning rates takes place at the first value of each field, or at FIRST.
FIELDS: dict[str, dict[str, list[Any]]] = {
    "lrnn": {
        "omega0": [30.0, 45.0, 15.0, 8.0, 3.0, 1.0],
        "projection_init": ["siren", "fan_in"],
        "sigma_g": [0.5, 2.0],
    },
    "nestnet": {"frequencies": [8, 4, 2, 16], "depth": [2, 3]},
    "siren": {"omega0": [30.0, 15.0, 8.0, 3.0, 1.0, 60.0]},
    "spder": {"omega0": [30.0, 15.0, 8.0, 3.0, 1.0]},
    "finer": {"omega0": [30.0, 15.0, 8.0, 3.0, 1.0]},
    "gauss": {"scale": [10.0, 30.0, 5.0, 2.0, 1.0]},
    "wire": {"omega0": [10.0, 20.0, 5.0], "sigma0": [10.0, 5.0, 2.0]},
    "wire2d": {"omega0": [10.0, 20.0, 5.0], "sigma0": [10.0, 5.0, 2.0]},
    "fourier_net": {"input_scale": [64.0, 256.0, 16.0, 4.0]},
    "gabor_net": {"input_scale": [64.0, 256.0, 16.0, 4.0]},
    "relu_pe": {"frequencies": [6, 8, 4, 2]},
    "ffn": {"sigma": [5.0, 10.0, 2.0, 1.0, 0.3], "features": [32]},
    "mlp": {"activation": ["tanh", "relu", "sin"], "depth": [3, 2, 1]},
    "kan": {"intervals": [20, 10, 5]},
    "cheby_kan": {"degree": [8, 4, 16]},
    "grid": {},
    "spinn": {"activation": ["tanh", "sin"]},
    "cp": {},
    "tucker": {},
}
# Small networks for tables: few rows, and no frequencies of pictures.
TABLE_FIELDS: dict[str, dict[str, list[Any]]] = {
    "lrnn": {
        "omega0": [1.0, 3.0],
        "components": [4, 1],
        "norm": ["none", "layer"],
        "activation": ["spder", "tanh"],
    },
    "nestnet": {"frequencies": [0, 1], "depth": [1, 2]},
    **{name: {"omega0": [1.0, 3.0, 0.3]} for name in ("siren", "spder", "finer")},
}
# An LRNN for an equation has smooth components. Layer normalisation is left out, because its second
# derivatives take minutes to compile.
EQUATION_FIELDS: dict[str, dict[str, list[Any]]] = {
    "lrnn": {
        "activation": ["tanh", "sin"],
        "omega0": [1.0, 3.0],
        "norm": ["none"],
        "components": [4],
    },
}
TABLES = ("regression", "classification")
EQUATIONS = tuple(name for name, kind in PROBLEMS.items() if issubclass(kind, lj.pde.PDE))
_SMOOTH = {"omega0": 3.0, "sigma0": 2.0, "scale": 2.0, "input_scale": 4.0, "sigma": 1.0}
FIRST: dict[str, dict[str, Any]] = {
    **{name: _SMOOTH | {"omega0": 1.0} for name in TABLES},
    **dict.fromkeys(EQUATIONS, _SMOOTH),
    **{
        name: {"omega0": 8.0}
        for name in ("denoising", "ct", "occupancy", "signed_distance", "volume", "field")
    },
}
"""The values where the sweep of the learning rates takes place, if they are not the first ones."""
FIXED: dict[str, dict[str, Any]] = {
    "lrnn": {"components": 8},
    "siren": {"depth": 3},
    "spder": {"depth": 3},
    "finer": {"depth": 3},
}
TOLERANCE = 0.015  # half a decibel of 33 dB
NEAR = 0.5  # an error of one seed that is no larger than 1.5 times the best is as good
FIRST_RATES = (3e-4, 1e-3, 5e-3, 2e-2)


def sample(name: str) -> str:
    """The path of an image that is installed with scikit-image."""
    return str(Path(skimage.data_dir) / name)


def signals(kind: str, held_out: bool, data: Path | None) -> dict[str, Problem]:
    """The signals of a sweep, or of its check, by name.

    No image, part of a sound or classification table is in both. Where there is only one source,
    the check takes another split (regression), other points (solids) or fewer frames (video).
    """
    seed = int(held_out)
    images = ("chelsea.png", "moon.png") if held_out else ("astronaut.png", "camera.png")
    builders: dict[str, Callable[[], dict[str, Problem]]] = {
        "image": lambda: {n: lj.Image(sample(n), size=(96, 96)) for n in images},
        "audio": lambda: _sounds(held_out, data),
    }
    for name in ("denoising", "inpainting", "super_resolution", "multi_frame_super_resolution"):
        cls = PROBLEMS[name]
        extra = {"shift": 8.0} if name.startswith("multi") else {}
        builders[name] = lambda cls=cls, extra=extra: {
            n: cls(source=sample(n), size=(96, 96), **extra) for n in images
        }
    builders["ct"] = lambda: {
        n: PROBLEMS["ct"](source=n if n == "phantom" else sample(n), size=64, views=40)
        for n in (("camera.png",) if held_out else ("phantom", "moon.png"))
    }
    builders["regression"] = lambda: {
        f"diabetes, split {n}": lj.Regression(split_seed=n)
        for n in ((1, 4) if held_out else (0, 2, 3))
    }
    builders["classification"] = lambda: {
        n: lj.Classification(source=n, split_seed=seed)
        for n in (("iris", "breast_cancer") if held_out else ("digits", "wine"))
    }
    builders["video"] = lambda: {"pan": lj.Video(frames=8 if held_out else 12, size=(48, 48))}
    for name in ("occupancy", "signed_distance"):
        builders[name] = lambda name=name: {
            "torus": PROBLEMS[name](points=20_000, point_seed=int(held_out))
        }
    builders["field"] = lambda: {"franke": lj.SampledField(hold_out_seed=seed, hold_out=0.5)}
    builders["volume"] = lambda: {"solid": lj.Volume(as_source(_bells(seed=int(held_out))))}
    for name in EQUATIONS:
        fields = recipes()[name]["problem"] | {"point_seed": int(held_out)}
        builders[name] = lambda name=name, fields=fields: {name: PROBLEMS[name](**fields)}
    return builders[kind]()


def _bells(seed: int) -> np.ndarray:
    """A volume of 32^3 values: a sum of 30 random Gaussian bells."""
    rng = np.random.default_rng(seed)
    x = np.stack(np.meshgrid(*(np.linspace(-1, 1, 32),) * 3, indexing="ij"), axis=-1)
    bells = zip(rng.uniform(-0.8, 0.8, (30, 3)), rng.uniform(0.08, 0.4, 30), strict=True)
    return np.sum([np.exp(-((x - c) ** 2).sum(axis=-1) / w**2) for c, w in bells], axis=0)


def _sounds(held_out: bool, data: Path | None) -> dict[str, Problem]:
    if data is None:
        raise SystemExit("audio: give the folder of the sounds with --data")
    begin = 4.0 if held_out else 1.0
    names = ("gt_bach.wav", "gt_counting.wav")
    return {n: lj.Audio(source=str(data / n), start=begin, seconds=0.25) for n in names}


@dataclasses.dataclass(frozen=True)
class Setting:
    """Values of the swept fields of a model, and a learning rate, if the optimizer has one."""

    fields: tuple[tuple[str, Any], ...]
    rate: float | None


class Sweep:
    """The trials of one pair."""

    def __init__(self, kind: str, model: str, problems: dict[str, Problem]) -> None:
        self.kind, self.model, self.problems = kind, model, problems
        first = next(iter(problems.values()))
        self.score = first.validation_score or first.main_score or "loss"
        self.larger = higher_is_better(self.score)
        self.worst = -math.inf if self.larger else math.inf
        self.trials: dict[Setting, float] = {}

    @property
    def best(self) -> Setting:
        choose = max if self.larger else min
        return choose(self.trials, key=self.trials.__getitem__)

    def run(self) -> None:
        fields = fields_of(self.kind, self.model)
        first = FIRST.get(self.kind, {})
        start = tuple((name, first.get(name, values[0])) for name, values in fields.items())
        rated = recipes()[self.kind]["training"].get("optimizer", "adam") in ("adam", "soap")
        for rate in FIRST_RATES if rated else (None,):
            self.trial(Setting(start, rate))
        for name, values in fields.items():
            for value in values:
                best = self.best
                changed = tuple((n, value if n == name else v) for n, v in best.fields)
                self.trial(Setting(changed, best.rate))
        if self.best.rate is None:
            return
        index = RATES.index(self.best.rate)
        near = [RATES[i] for i in (index - 1, index + 1) if 0 <= i < len(RATES)]
        fields_of_best = self.best.fields
        for rate in near:
            self.trial(Setting(fields_of_best, rate))

    def trial(self, setting: Setting) -> None:
        """Fit every signal with a setting, and store the mean score."""
        if setting in self.trials:
            return
        scores = [
            fitted(self.kind, self.model, problem, dict(setting.fields), setting.rate)
            for problem in self.problems.values()
        ]
        values = [self.worst if s is None else s[self.score] for s in scores]
        value = float(np.mean(values))
        self.trials[setting] = value if math.isfinite(value) else self.worst
        print(self.kind, self.model, setting, values, flush=True)


def fixed(kind: str, model: str) -> dict[str, Any]:
    """The fields of a model that are not swept."""
    if kind in TABLES and model in TABLE_FIELDS:
        return {} if "depth" in TABLE_FIELDS[model] else {"depth": 1}
    return FIXED.get(model, {})


def fields_of(kind: str, model: str) -> dict[str, list[Any]]:
    """The fields of a model that are swept, with their values."""
    own = TABLE_FIELDS if kind in TABLES else EQUATION_FIELDS if kind in EQUATIONS else {}
    return own.get(model, FIELDS[model])


def fitted(
    kind: str, model: str, problem: Problem, fields: dict[str, Any], rate: float | None
) -> dict[str, float] | None:
    """The scores of one fit; None if it diverges."""
    training = {} if rate is None else {"learning_rate": rate}
    changes = {"model": fixed(kind, model) | fields, "training": training}
    table = recipe(problem, kind, model, changes)
    return scores_of(model_from(table["model"]), problem, lj.Training(**table["training"]))


def scores_of(model: Any, problem: Problem, training: lj.Training) -> dict[str, float] | None:
    """The scores of one fit; None if it diverges, or if the model is not smooth enough."""
    try:
        return lj.solve(model, problem, training).scores
    except InputError as error:
        if not re.search("the loss became|continuous derivatives", str(error)):
            raise
        return None


def sweep(kind: str, models: list[str], data: Path | None) -> None:
    """Sweep pairs and store a row for each."""
    problems = signals(kind, False, data)
    for model in models:
        begun = time.perf_counter()
        pair = Sweep(kind, model, problems)
        pair.run()
        best = pair.best
        RESULTS.add(
            {
                "stage": "sweep",
                "problem": kind,
                "model": model,
                "signals": list(problems),
                "fields": fixed(kind, model) | dict(best.fields),
                "learning_rate": best.rate,
                "score": _finite(pair.trials[best]),
                "trials": [
                    {**dict(s.fields), "learning_rate": s.rate, "score": _finite(value)}
                    for s, value in pair.trials.items()
                ],
                "seconds": round(time.perf_counter() - begun, 1),
            }
        )


def _finite(value: float) -> float | None:
    return float(f"{value:.5g}") if math.isfinite(value) else None


def rate_of(row: Row) -> float | None:
    """The smallest learning rate whose score is within TOLERANCE of the best of a sweep.

    A rate just below the one that diverges is no recipe for larger models and other signals.
    """
    best = row["score"]
    if row["learning_rate"] is None:
        return None
    return min(
        trial["learning_rate"]
        for trial in row["trials"]
        if all(trial.get(name, value) == value for name, value in row["fields"].items())
        and trial["score"] is not None
        and abs(trial["score"] - best) <= TOLERANCE * abs(best)
    )


def write() -> None:
    """Write recipes.toml: its common settings as they are, its models from the stored sweeps.

    The default model of a problem is the one with the best score, or remains what it is if its
    score is within TOLERANCE, or NEAR for errors, of that.
    """
    table = tomllib.loads(RECIPES.read_text(encoding="utf-8"))
    sweeps = [row for row in RESULTS.read() if row["stage"] == "sweep" and not _diverged(row)]
    for kind, common_settings in table.items():
        scores = {
            row["model"]: row["score"]
            for row in sweeps
            if row["problem"] == kind and row["score"] is not None
        }
        if scores:
            score = PROBLEMS[kind].validation_score or PROBLEMS[kind].main_score
            best = (max if higher_is_better(score) else min)(scores, key=scores.__getitem__)
            present = scores.get(common_settings["default"])
            share = TOLERANCE if higher_is_better(score) else NEAR
            if present is None or abs(present - scores[best]) > share * abs(scores[best]):
                common_settings["default"] = best
        common_settings["models"] = {
            row["model"]: {
                "model": row["fields"],
                "training": {} if rate_of(row) is None else {"learning_rate": rate_of(row)},
            }
            for row in sweeps
            if row["problem"] == kind and row["score"] is not None
        }
    RECIPES.write_text(HEAD + tomli_w.dumps(table), encoding="utf-8")


def _diverged(row: Row) -> bool:
    """Whether the check of a pair diverged; such a pair gets no recipe."""
    pair = ("check", row["problem"], row["model"])
    checks = [r for r in RESULTS.read() if (r["stage"], r["problem"], r["model"]) == pair]
    return any(None in r["scores"].values() for r in checks)


def check(kind: str, models: list[str], data: Path | None) -> None:
    """Fit held-out signals with the recipes, and store the scores beside the trivial ones."""
    for model in (model for model in models if has_recipe(kind, model)):
        scores, trivial = {}, {}
        for name, problem in signals(kind, True, data).items():
            table = recipe(problem, kind, model)
            spec, training = model_from(table["model"]), lj.Training(**table["training"])
            scores[name] = scores_of(spec, problem, training)
            trivial[name] = problem.trivial_scores(problem.load())
        RESULTS.add(
            {"stage": "check", "problem": kind, "model": model, "scores": scores}
            | {"trivial": trivial}
        )


INTRODUCTION = """# Recipes

What `lrnn-jax fit` and `lj.solve` take for a model and a problem unless you set it. `python
benchmarks/recipes.py` writes this page from the sweeps that chose the settings; `lrnn-jax list
PROBLEM` shows the same in the terminal.

Every trial fits the signals of the sweep with one seed. The score of the sweep is the mean over
these signals, with the best setting; that of the check is the mean over signals that the sweep
did not use. The last column is the mean score of a trivial predictor on the signals of the check:
the mean of the data, the most frequent class, the noisy or enlarged image, or filtered back-
projection. The score of a default model in its sweep is within 1.5 % of the best or, for errors, at
most 1.5 times the best. Of the learning rates within 1.5 % of the best score, the recipe has the
smallest. The size of a model follows the number of values of the data, and is not swept. A pair
whose check diverges has no recipe.
"""


def table(rows: list[Row]) -> str:
    """The page docs/recipes.md: one table for each kind of problem."""
    lines = [INTRODUCTION]
    swept = {(r["problem"], r["model"]): r for r in rows if r["stage"] == "sweep"}
    checks = {(r["problem"], r["model"]): r for r in rows if r["stage"] == "check"}
    for kind, common_settings in recipes().items():
        if not common_settings["models"]:
            continue
        shared = describe_recipes(kind)[0]
        score = PROBLEMS[kind].main_score
        head = ("model", "settings", "trials", f"{score}, sweep", f"{score}, check", "trivial")
        lines += [f"## {kind}", "", f"{shared}.", "", f"| {' | '.join(head)} |", "|---" * 6 + "|"]
        for model, entry in common_settings["models"].items():
            row, checked = swept[kind, model], checks.get((kind, model))
            settings = ", ".join(
                f"`{name} = {value}`"
                for name, value in (entry["model"] | entry["training"]).items()
            )
            cells = [f"`{model}`", settings, str(len(row["trials"])), f"{row['score']:.4g}"]
            cells += ["", ""] if checked is None else _means(checked, score)
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines).rstrip()


def _means(row: Row, score: str) -> list[str]:
    """Mean scores over the signals of a check: of the model, and of the trivial predictor."""
    return [
        "diverged" if None in row[part].values() else f"{mean:.4g}"
        for part in ("scores", "trivial")
        for mean in [np.mean([s[score] for s in row[part].values() if s is not None])]
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=["sweep", "write", "check", "table"])
    parser.add_argument("problems", nargs="*", metavar="PROBLEM")
    parser.add_argument("--models", nargs="+", default=list(MODELS), metavar="MODEL")
    parser.add_argument("--data", type=Path, help="folder of the real sounds")
    options = parser.parse_args()
    if options.stage == "write":
        write()
    if options.stage == "table":
        print(table(RESULTS.read()))
    for kind in options.problems:
        stage = sweep if options.stage == "sweep" else check
        stage(kind, options.models, options.data)


if __name__ == "__main__":
    main()
