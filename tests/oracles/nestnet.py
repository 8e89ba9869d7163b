"""NestNets by the recursion of their definition, one scalar after another, in float64.

Zhang, Shen and Yang, NeurIPS 2022: a network of height s has networks of lower height as its
activations; sigma is of height 1. A subnetwork of this package is a fully connected network R -> R
of a given width and depth whose every hidden unit is activated by the subnetwork one level in.
"""

import math

import numpy as np

from oracles.features import harmonics
from oracles.lrnn import SIGMA


def rho(nested, z, sigma=SIGMA["relu"]):
    """A subnetwork at a number `z`; `nested` are the levels, outermost first, of one subnetwork."""
    if not nested:
        return float(sigma(z))
    level, inner = nested[0], nested[1:]
    a, c, v = (level[name] for name in ("inner_weight", "inner_bias", "outer_weight"))
    units = [rho(inner, a[h] * z + c[h], sigma) for h in range(len(a))]
    for matrix, shift in zip(
        level.get("hidden_weight", ()), level.get("hidden_bias", ()), strict=True
    ):
        units = [
            rho(inner, sum(matrix[o, h] * units[h] for h in range(len(units))) + shift[o], sigma)
            for o in range(len(units))
        ]
    return sum(v[h] * units[h] for h in range(len(units))) + level["outer_bias"]


def nested_of(params, group):
    """The levels of subnetwork `group`, outermost first."""
    return [
        {name: np.asarray(leaf, np.float64)[group] for name, leaf in params[f"level_{k}"].items()}
        for k in range(1, len(params) + 1)
    ]


def activate(model, params, z):
    """rho of the first round(fraction width) neurons, in `groups` runs, and sigma of the others."""
    count = round(model.fraction * model.width)
    sigma = SIGMA[model.activation]
    values = np.array(sigma(z))
    if not params:
        return values
    subnetworks = [nested_of(params, group) for group in range(model.groups)]
    for n in range(len(z)):
        for j in range(count):
            group = math.floor(j * model.groups / count)
            values[n, j] = rho(subnetworks[group], float(z[n, j]), sigma)
    return values


def nested_activation(model, params, x):
    return activate(model, params, np.asarray(x, np.float64))


def nestnet(model, params, x):
    """y(x) for points (n, in_dim)."""
    x = np.asarray(x, np.float64)
    features = [x] if model.raw or not model.frequencies else []
    if model.frequencies:
        features.append(harmonics(x, model.frequencies, model.period))
    h = np.concatenate(features, axis=1)
    for index in range(model.depth):
        p = params[f"layer_{index}"]
        z = h @ np.asarray(p["weight"], np.float64) + np.asarray(p["bias"])
        common = params.get("subnetwork", {})
        h = activate(model, p.get("subnetwork", common), z)
    head = params["head"]
    return h @ np.asarray(head["weight"], np.float64) + np.asarray(head["bias"])
