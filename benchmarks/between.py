"""The field between the samples: what it costs to decode a photograph at four times its size.

    python benchmarks/between.py            # every variant of every model
    python benchmarks/between.py table

Photographs of scikit-image are reduced to 96 x 96 pixels (the means of 4 x 4 blocks of 384 x 384),
fitted, and decoded at 384 x 384. A row has the PSNR on the 96 x 96 pixels that were fitted and on
the 384 x 384 pixels that were not, medians over the photographs. The reference is bicubic
interpolation. Models have at most 10,000 parameters and take 400 steps with all pixels and a cosine
schedule; the learning rates are those of the sweeps.

Jitter moves every point by U(-a/2, a/2) pixels along each axis in each step; its colour stays.
"""

import statistics
import time
from pathlib import Path
from typing import Any

import common
import jax
import jax.numpy as jnp
import numpy as np
import optax
import skimage
import skimage.transform
from common import FOLDER, Results, Row

import lrnn_jax as lj
from lrnn_jax.experiments.recipes import sized
from lrnn_jax.experiments.spec import model_from
from lrnn_jax.io import as_source, read_picture, resize
from lrnn_jax.signals.picture import pixel_centres

RESULTS = Results(FOLDER / "between.json", identity=("model", "variant", "machine"))
PHOTOGRAPHS = ("astronaut.png", "camera.png", "chelsea.png", "coffee.png")
SIDE, FACTOR, STEPS, PARAMETERS = 96, 4, 400, 10_000
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "siren": [
        {"omega0": 30.0},
        *({"omega0": omega} for omega in (20.0, 15.0, 10.0, 8.0, 5.0)),
        *({"omega0": 30.0, "jitter": jitter} for jitter in (0.5, 1.0)),
        {"omega0": 30.0, "weight_decay": 1e-2},
        {"omega0": 15.0, "jitter": 1.0},
    ],
    "lrnn": [
        {"omega0": 30.0},
        *({"omega0": omega} for omega in (15.0, 8.0, 4.0)),
        {"projection_init": "siren"},
        {"projection_init": "siren", "sigma_g": 1.0},
        {"projection_init": "siren", "sigma_g": 2.0},
        *({"projection_init": "siren", "omega0": omega} for omega in (20.0, 45.0, 60.0)),
        *({"omega0": 30.0, "jitter": jitter} for jitter in (0.5, 1.0)),
        {"omega0": 30.0, "weight_decay": 1e-2},
        {"omega0": 8.0, "jitter": 1.0},
    ],
}
FIXED = {"siren": {"depth": 3}, "lrnn": {"components": 8}}
RATES = {"siren": 2e-3, "lrnn": 4e-3}


def main() -> None:
    options = common.parse(common.stage_parser(__doc__, ("all",), default="all"), RESULTS, table)
    del options
    pairs = [photograph(name) for name in PHOTOGRAPHS]
    large = statistics.median(map(bicubic, pairs))
    RESULTS.add({"model": "bicubic", "variant": "", "fitted": None, "between": round(large, 2)})
    for model, variants in VARIANTS.items():
        for variant in variants:
            begun = time.perf_counter()
            scores = [fit(model, variant, *pair) for pair in pairs]
            fitted, between = (statistics.median(side) for side in zip(*scores, strict=True))
            RESULTS.add(
                {
                    "model": model,
                    "variant": describe(variant),
                    "fitted": round(fitted, 2),
                    "between": round(between, 2),
                    "each": [[round(value, 2) for value in pair] for pair in scores],
                    "seconds": round(time.perf_counter() - begun, 1),
                }
            )


def describe(variant: dict[str, Any]) -> str:
    """A variant in words."""
    return ", ".join(f"{name} {value}" for name, value in variant.items())


def photograph(name: str) -> tuple[np.ndarray, np.ndarray]:
    """A photograph in grey at 96 x 96 and at 384 x 384 pixels."""
    pixels = read_picture(str(Path(skimage.data_dir) / name)).pixels[..., :3].mean(axis=-1)
    side = min(pixels.shape)
    large = np.clip(resize(pixels[:side, :side], (SIDE * FACTOR, SIDE * FACTOR)), 0, 1)
    small = large.reshape(SIDE, FACTOR, SIDE, FACTOR).mean(axis=(1, 3))
    return small, large


def bicubic(pair: tuple[np.ndarray, np.ndarray]) -> float:
    """PSNR of bicubic interpolation at the pixels of the large photograph."""
    small, large = pair
    enlarged: Any = skimage.transform.resize(small, large.shape, order=3)
    return lj.metrics.psnr(np.clip(enlarged, 0, 1), large)


def fit(
    model: str, variant: dict[str, Any], small: np.ndarray, large: np.ndarray
) -> tuple[float, float]:
    """PSNR at the fitted pixels and at all pixels of the large photograph."""
    fields = dict(variant)
    jitter, decay = fields.pop("jitter", 0.0), fields.pop("weight_decay", 0.0)
    section = {"kind": model, "in_dim": 2, "out_dim": 1} | FIXED[model] | fields
    network = model_from(sized(section, PARAMETERS))
    data = lj.Image(as_source(small)).load()
    width = jitter * 2 / SIDE

    def loss(u, data, key):
        x, y = data
        moved = x + width * (jax.random.uniform(key, x.shape) - 0.5)
        return jnp.mean((u(moved) - y) ** 2)

    rate = optax.cosine_decay_schedule(RATES[model], STEPS)
    optimizer = optax.adamw(rate, weight_decay=decay)
    pair = (jnp.asarray(data.x), jnp.asarray(data.y))
    params, _ = lj.fit(network, loss, pair, optimizer, steps=STEPS, chunk=512)
    field = lj.BoundModel(network, params)
    fitted, between = (
        lj.metrics.psnr(np.clip(values(field, truth.shape), 0, 1), truth)
        for truth in (small, large)
    )
    return fitted, between


def values(field: lj.BoundModel, shape: tuple[int, int]) -> np.ndarray:
    """The field at the pixel centres, mapped to [0, 1]."""
    return (lj.predict(field, pixel_centres(shape)).reshape(shape).astype(np.float64) + 1) / 2


def table(rows: list[Row]) -> str:
    """A Markdown table, in the order of VARIANTS."""
    order = [("bicubic", "")]
    order += [(model, describe(one)) for model, variants in VARIANTS.items() for one in variants]
    rows = sorted(rows, key=lambda row: order.index((row["model"], row["variant"])))
    lines = ["| model | variant | fitted pixels | between them |", "|---|---|---|---|"]
    for row in rows:
        fitted = "" if row["fitted"] is None else f"{row['fitted']:.1f}"
        cells = (row["model"], row["variant"], fitted, f"{row['between']:.1f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
