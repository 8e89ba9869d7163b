"""Multiplicative filter networks by the recursion of their paper, in float64.

Fathony et al., ICLR 2021: z_1 = g_1(x); z_{i+1} = (W_i z_i + b_i) * g_{i+1}(x); y = W_k z_k + b_k;
g(x) = sin(omega x + phi), times exp(-gamma/2 |x - mu|^2) for Gabor filters.
"""

import numpy as np


def mfn(model, params, x):
    """y(x) for points (n, in_dim)."""
    return np.array([_point(model, params, point) for point in np.asarray(x, np.float64)])


def _point(model, params, x):
    z = _filter(params["filter_0"], x)
    for index in range(1, model.depth):
        z = _affine(params[f"layer_{index}"], z) * _filter(params[f"filter_{index}"], x)
    return _affine(params["head"], z)


def _affine(p, z):
    return np.asarray(p["weight"], np.float64).T @ z + np.asarray(p["bias"])


def _filter(p, x):
    g = np.sin(_affine(p, x))
    if "centre" not in p:
        return g
    for j in range(len(g)):
        squared = sum((x[i] - float(p["centre"][i, j])) ** 2 for i in range(len(x)))
        g[j] *= np.exp(-float(p["precision"][j]) / 2 * squared)
    return g
