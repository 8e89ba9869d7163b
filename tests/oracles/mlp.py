"""MLPs with one activation, in float64."""

import numpy as np

from oracles.features import gaussian_features, positional_encoding


def mlp(params, x, sigma, omega0=1.0, first_omega0=None):
    """y(x) for points (n, in_dim): sigma(omega0 (x W + b)) per layer, then a linear head."""
    h = np.asarray(x, np.float64)
    depth = len(params) - 1
    for index in range(depth):
        p = params[f"layer_{index}"]
        frequency = first_omega0 if index == 0 and first_omega0 else omega0
        h = sigma(frequency * (h @ np.asarray(p["weight"], np.float64) + np.asarray(p["bias"])))
    head = params["head"]
    return h @ np.asarray(head["weight"], np.float64) + np.asarray(head["bias"])


def relu(z):
    return np.where(z > 0, z, 0.0)


def finer(model, params, x):
    """Liu et al., CVPR 2024: sin(omega0 (|z| + 1) z), not linear in omega0 z."""
    h = np.asarray(x, np.float64)
    for index in range(model.depth):
        p = params[f"layer_{index}"]
        omega0 = model.first_omega0 if index == 0 and model.first_omega0 else model.omega0
        z = h @ np.asarray(p["weight"], np.float64) + np.asarray(p["bias"])
        h = np.sin(omega0 * (np.abs(z) + 1) * z)
    return h @ np.asarray(params["head"]["weight"], np.float64) + np.asarray(params["head"]["bias"])


def gauss(model, params, x):
    """Ramasinghe and Lucey, ECCV 2022: exp(-(s z)^2)."""
    return mlp(params, x, lambda z: np.exp(-((model.scale * z) ** 2)))


def relu_pe(model, params, x):
    """Mildenhall et al., ECCV 2020."""
    return mlp(params, positional_encoding(x, model.frequencies), relu)


def ffn(model, params, x):
    """Tancik et al., NeurIPS 2020; B is the draw of `np.random.default_rng(seed)`, by inputs."""
    normal = np.random.default_rng(model.seed).standard_normal((model.in_dim, model.features))
    return mlp(params, gaussian_features(x, model.sigma * normal.T), relu)
