"""MLPs with one activation, in float64."""

import numpy as np


def mlp(params, x, sigma, omega0=1.0):
    """y(x) for points (n, in_dim): sigma(omega0 (x W + b)) per layer, then a linear head."""
    h = np.asarray(x, np.float64)
    depth = len(params) - 1
    for index in range(depth):
        p = params[f"layer_{index}"]
        h = sigma(omega0 * (h @ np.asarray(p["weight"], np.float64) + np.asarray(p["bias"])))
    head = params["head"]
    return h @ np.asarray(head["weight"], np.float64) + np.asarray(head["bias"])
