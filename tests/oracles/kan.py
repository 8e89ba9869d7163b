"""Kolmogorov-Arnold networks edge by edge, in float64, on SciPy's and NumPy's bases."""

import numpy as np
from numpy.polynomial import chebyshev
from scipy.interpolate import BSpline


def kan(model, params, x):
    """Liu et al., ICLR 2025, eqs. 2.10 and 2.11: phi(x) = w_b silu(x) + w_s sum_m c_m B_m(x)."""
    h = np.asarray(x, np.float64)
    for index in range(model.depth + 1):
        p = params[f"layer_{index}"]
        base, scale, c = (
            np.asarray(p[name], np.float64)
            for name in ("base_weight", "spline_weight", "coefficients")
        )
        y = np.zeros((len(h), base.shape[1]))
        for i in range(base.shape[0]):
            basis = splines(extended(knots_of(model, index, i), model.order), model.order, h[:, i])
            for o in range(base.shape[1]):
                spline = sum(c[i, m, o] * basis[m] for m in range(len(basis)))
                silu = h[:, i] / (1 + np.exp(-h[:, i]))
                y[:, o] += base[i, o] * silu + scale[i, o] * spline
        h = y
    return h


def knots_of(model, layer, i):
    """The inner knots of input `i` of a layer."""
    if model.knots is None:
        return [-1 + 2 * m / model.intervals for m in range(model.intervals + 1)]
    return list(model.knots[layer][i])


def extended(knots, order):
    """`order` more knots on each side, at the mean spacing of the inner ones."""
    step = (knots[-1] - knots[0]) / (len(knots) - 1)
    left = [knots[0] - step * m for m in range(order, 0, -1)]
    return np.array([*left, *knots, *(knots[-1] + step * m for m in range(1, order + 1))])


def splines(knots, order, x):
    """Every B-spline of degree `order` at `x`, 0 outside its own order + 2 knots."""
    count = len(knots) - order - 1
    elements = (
        BSpline.basis_element(knots[m : m + order + 2], extrapolate=False) for m in range(count)
    )
    return [np.nan_to_num(element(x), nan=0.0) for element in elements]


def splines_at_knots(model, params, layer):
    """Of each spline (i, o) its values (G + 1,) at the inner knots, and the least coefficients
    (m,) with these values: of all solutions of B c = values that of the smallest norm."""
    c = np.asarray(params[f"layer_{layer}"]["coefficients"], np.float64)
    values, least = [], []
    for i in range(c.shape[0]):
        knots = np.array(knots_of(model, layer, i))
        basis = splines(extended(knots, model.order), model.order, knots)
        values.append(np.stack(basis, axis=1) @ c[i])
        least.append(np.linalg.lstsq(np.stack(basis, axis=1), values[-1], rcond=None)[0])
    return np.stack(values), np.stack(least)


def cheby_kan(model, params, x):
    """Sidharth et al., arXiv 2405.07200: phi(x) = sum_m c_m T_m(tanh x)."""
    h = np.asarray(x, np.float64)
    for index in range(model.depth + 1):
        c = np.asarray(params[f"layer_{index}"]["coefficients"], np.float64)
        u = np.tanh(h)
        h = sum(chebyshev.chebval(u[:, i], c[i]) for i in range(c.shape[0])).T
    return h
