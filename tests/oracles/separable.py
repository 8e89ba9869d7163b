"""Grids, and sums of products of functions of one coordinate, in float64."""

import itertools

import numpy as np
from scipy.interpolate import RegularGridInterpolator


def grid(model, params, x):
    """Multilinear interpolation on nodes from -1 to 1, constant beyond them."""
    values = np.asarray(params["values"], np.float64)
    axes = [np.linspace(-1, 1, count) for count in values.shape[:-1]]
    return RegularGridInterpolator(axes, values)(np.clip(np.asarray(x, np.float64), -1, 1))


def cp_tensor(model, params, x):
    """sum_l S[l, o] prod_a F_a(x_a)[l] + s[o]."""
    tables = _tables(model, params, x)
    weight = np.asarray(params["head"]["weight"], np.float64)
    y = np.tile(np.asarray(params["head"]["bias"], np.float64), (len(x), 1))
    for rank in range(model.rank):
        y += np.prod([table[:, rank] for table in tables], axis=0)[:, None] * weight[rank]
    return y


def tucker_tensor(model, params, x):
    """sum over l_1, ..., l_d of G[l_1, ..., l_d, o] prod_a F_a(x_a)[l_a]."""
    tables = _tables(model, params, x)
    core = np.asarray(params["core"], np.float64)
    y = np.zeros((len(x), model.out_dim))
    for index in itertools.product(*map(range, core.shape[:-1])):
        columns = [table[:, rank] for table, rank in zip(tables, index, strict=True)]
        y += np.prod(columns, axis=0)[:, None] * core[index]
    return y


def _tables(model, params, x):
    """F_a at coordinate a of every point, (n, rank) each."""
    tables = []
    for a in range(model.in_dim):
        factor = np.asarray(params[f"factor_{a}"], np.float64)
        nodes = np.linspace(-1, 1, len(factor))
        coordinate = np.asarray(x, np.float64)[:, a]
        tables.append(np.stack([np.interp(coordinate, nodes, f) for f in factor.T], axis=1))
    return tables


def spinn(model, params, x, sigma):
    """sum_l prod_a f_{a,l,o}(x_a): output l out_dim + o of the MLP of axis a is f_{a,l,o}."""
    y = np.zeros((len(x), model.out_dim))
    outputs = [
        _axis(model, params, np.asarray(x, np.float64)[:, a], a, sigma) for a in range(model.in_dim)
    ]
    for rank, o in itertools.product(range(model.rank), range(model.out_dim)):
        y[:, o] += np.prod([f[:, rank * model.out_dim + o] for f in outputs], axis=0)
    return y


def _axis(model, params, coordinate, a, sigma):
    h = coordinate[:, None]
    for name in [*(f"layer_{index}" for index in range(model.depth)), "head"]:
        p = params[name]
        h = h @ np.asarray(p["weight"][a], np.float64) + np.asarray(p["bias"][a])
        h = h if name == "head" else sigma(h)
    return h
