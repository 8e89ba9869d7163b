"""LRNN by loops over points, neurons and components, in float64."""

import dataclasses
import math
import types

import numpy as np

SIGMA = {
    "sin": np.sin,
    "spder": lambda u: np.sin(u) * np.sqrt(np.abs(u)),
    "sin_arctan": lambda u: np.sin(u) * np.arctan(u),
    "tanh": np.tanh,
    "relu": lambda u: np.maximum(u, 0),
}


def lrnn(model, params, x):
    """y(x) for points (n, in_dim), from the formulas of the slides."""
    sigma = SIGMA[model.activation]
    gamma = 1 / math.sqrt(model.components) if model.gamma is None else model.gamma
    out = []
    for h in np.asarray(x, np.float64):
        for index in range(model.depth):
            p = params[f"layer_{index}"]
            h = _layer(model, p, h, sigma, gamma, index)
        head = params["head"]
        out.append(h @ np.asarray(head["weight"], np.float64) + np.asarray(head.get("bias", 0)))
    return np.array(out)


def lrnn_layer(model, params, x):
    """One layer without a head; what it has no field for is as in an LRNN of default fields."""
    rest = {"norm_last": True, "norm_affine": True, "norm_epsilon": 1e-5, "depth": 1}
    biases = {"inner_bias": True, "outer_bias": False}
    spec = types.SimpleNamespace(**dataclasses.asdict(model), **rest, **biases)
    sigma, gamma = SIGMA[model.activation], 1 / math.sqrt(model.components)
    return np.array([_layer(spec, params, h, sigma, gamma, 0) for h in np.asarray(x, np.float64)])


def _layer(model, p, h, sigma, gamma, index):
    weight = np.asarray(p["projection"]["weight"], np.float64)
    bias = np.asarray(p["projection"]["bias"], np.float64)
    phi = np.ones(weight.shape[2])
    for r in range(weight.shape[2]):
        for k in range(weight.shape[1]):
            z = sum(weight[i, k, r] * h[i] for i in range(len(h))) + bias[k, r]
            phi[r] *= 1 + gamma * _component(model, p["component"], z, k, r, sigma)
    if model.norm == "none" or (index == model.depth - 1 and not model.norm_last):
        return phi
    phi = (phi - phi.mean()) / math.sqrt(phi.var() + model.norm_epsilon)
    if model.norm_affine:
        phi = phi * np.asarray(p["norm"]["scale"]) + np.asarray(p["norm"]["shift"])
    return phi


def _component(model, p, z, k, r, sigma):
    where = (k, r) if model.sharing == "flex" else (k,)
    g = float(p["outer_bias"][where]) if model.outer_bias else 0.0
    for h in range(model.hidden):
        a, v = float(p["inner_weight"][(h, *where)]), float(p["outer_weight"][(h, *where)])
        c = float(p["inner_bias"][(h, *where)]) if model.inner_bias else 0.0
        g += v * sigma(model.omega0 * (a * z + c))
    return g
