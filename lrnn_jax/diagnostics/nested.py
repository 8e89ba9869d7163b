"""Diagnostics of a NestNet: the shape of its learned activations, and collapsed subnetworks.

Axis letters: n points, w width, g subnetworks, m knots.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import ArrayLike, Float

from lrnn_jax.diagnostics.variance import layer_outputs
from lrnn_jax.kernels.activations import Elementwise, activation
from lrnn_jax.kernels.nested import levels, subnetwork, unroll
from lrnn_jax.models.nestnet import NestNet
from lrnn_jax.typing import Params

_CONSTANT, _LINEAR, _EQUAL, _MOVED = 0.01, 0.05, 0.01, 0.1  # see `collapsed`
_SAMPLED = (-3.0, 3.0, 601)  # samples of a subnetwork without a closed form: low, high, count
_QUANTILES = np.linspace(0.01, 0.99, 255)
_ROUNDING = 1e-6


@dataclasses.dataclass(frozen=True)
class LearnedActivation:
    """A piecewise linear rho(z) with slope slopes[i] left and slopes[i + 1] right of knots[i].

    Attributes:
      where: "layer_0", ..., or "network" if all layers share the subnetworks.
      group: index of the subnetwork in the layer.
      knots: z at the kinks, increasing; for a sampled curve, the sample points.
      values: rho at the knots.
      slopes: slope of each piece; there is one more piece than knots.
      at_zero: rho(0).
      exact: True for the closed form; False for a curve sampled on [-3, 3] and extrapolated
        linearly.
    """

    where: str
    group: int
    knots: Float[np.ndarray, "m"]
    values: Float[np.ndarray, "m"]
    slopes: Float[np.ndarray, "m+1"]
    at_zero: float
    exact: bool

    def __call__(self, z: Float[ArrayLike, "..."]) -> Float[np.ndarray, "..."]:
        """rho(z)."""
        z = np.asarray(z, dtype=float)
        if not len(self.knots):
            return self.at_zero + self.slopes[0] * z
        inside = np.interp(z, self.knots, self.values)
        below, above = np.minimum(z - self.knots[0], 0), np.maximum(z - self.knots[-1], 0)
        return inside + self.slopes[0] * below + self.slopes[-1] * above


def learned_activations(model: NestNet, params: Params) -> list[LearnedActivation]:
    """The activation function that each subnetwork of a NestNet represents, layer by layer.

    With one hidden layer, a subnetwork of any height is a sum of ReLUs, and its knots, values and
    slopes are exact. Coinciding knots are merged, and kinks that cancel are removed. With
    `sub_depth` > 1, or an activation other than ReLU, the function is sampled, and `exact` is
    False. A NestNet of height 1 has no subnetworks.

    Example:
      >>> model = NestNet(in_dim=2, out_dim=1, width=4, depth=1, frequencies=1)
      >>> rho = learned_activations(model, model.init(jax.random.key(0)))[0]
      >>> rho.knots.round(3).tolist(), rho.slopes.round(3).tolist()
      ([0.0, 0.1, 0.2], [0.0, -1.0, 0.0, 1.0])
    """
    model.require_own(params)
    sigma = activation(model.activation)
    exact = model.sub_depth == 1 and sigma is jax.nn.relu
    return [
        LearnedActivation(where, group, *pieces, exact=exact)
        for where, nest in _subnetworks(params).items()
        for group, pieces in enumerate(_pieces(nest) if exact else _samples(nest, sigma))
    ]


def _subnetworks(params: Params) -> dict[str, Params]:
    """The parameters of the subnetworks of each layer."""
    if "subnetwork" in params:
        return {"network": params["subnetwork"]}
    return {
        name: params[name]["subnetwork"]
        for name in (f"layer_{index}" for index in range(len(params) - 1))
        if "subnetwork" in params[name]
    }


_unroll = jax.jit(unroll)
_Pieces = tuple[np.ndarray, np.ndarray, np.ndarray, float]


def _pieces(nest: Params) -> list[_Pieces]:
    form = [np.asarray(leaf, dtype=float) for leaf in _unroll(nest)]
    return [_pieces_of_one(*leaves) for leaves in zip(*form, strict=True)]


def _pieces_of_one(
    weight: np.ndarray, slope: np.ndarray, shift: np.ndarray, constant: np.ndarray
) -> _Pieces:
    """Knots, values, slopes and rho(0) of constant + sum_m weight_m relu(slope_m z + shift_m).

    At its knot -shift/slope, the slope of a term increases by weight |slope| for either sign of
    `slope`.
    """

    def rho(z: np.ndarray) -> np.ndarray:
        return constant + np.maximum(np.multiply.outer(z, slope) + shift, 0) @ weight

    bent = slope != 0
    where, change = -shift[bent] / slope[bent], weight[bent] * np.abs(slope[bent])
    order = np.argsort(where, kind="stable")
    where, change = where[order], change[order]
    first = np.diff(where, prepend=-np.inf) > _ROUNDING * (1 + np.abs(where))
    knots = where[first] + 0.0  # + 0.0 turns -0.0 into 0.0
    kinks = np.bincount(np.cumsum(first) - 1, change, len(knots)) if len(knots) else knots
    bends = np.abs(kinks) > _ROUNDING * np.sum(np.abs(change))
    slopes = np.sum((weight * slope)[slope < 0]) + np.cumsum([0.0, *kinks[bends]])
    return knots[bends], rho(knots[bends]), slopes, float(rho(np.zeros(())))


def _samples(nest: Params, sigma: Elementwise) -> list[_Pieces]:
    z = np.linspace(*_SAMPLED)
    pieces = []
    for values in _curves(nest, z[None], sigma):
        slopes = np.diff(values) / np.diff(z)
        outer = np.concatenate([slopes[:1], slopes, slopes[-1:]])
        pieces.append((z, values, outer, float(np.interp(0.0, z, values))))
    return pieces


@functools.partial(jax.jit, static_argnames="sigma")
def _evaluate(
    nest: Params, z: Float[jax.Array, "g n"], sigma: Elementwise
) -> Float[jax.Array, "g n"]:
    over_points = jax.vmap(lambda rho, z: subnetwork(levels(rho), z, sigma), in_axes=(None, 0))
    return jax.vmap(over_points)(nest, z)


def _curves(
    nest: Params, z: Float[np.ndarray, "#g n"], sigma: Elementwise
) -> Float[np.ndarray, "g n"]:
    """rho of each group, evaluated at its row of `z`."""
    groups = len(nest["level_1"]["outer_bias"])
    z = np.broadcast_to(z, (groups, z.shape[-1]))
    return np.asarray(_evaluate(nest, z, sigma), dtype=float)


# Collapse ----------------------------------------------------------------------------------------


def input_quantiles(
    model: NestNet, params: Params, x: Float[ArrayLike, "n i"]
) -> dict[str, Float[np.ndarray, "g 255"]]:
    """The input distribution of each subnetwork: quantiles 1 % to 99 % of z = W h + b.

    The quantiles are taken over the points, over the neurons that the subnetwork activates, and
    over all layers that share it. Keys are those of `LearnedActivation.where`.
    """
    states = layer_outputs(model, params, x)[-model.depth - 2 : -2]
    inputs: list[np.ndarray] = []
    for index, h in enumerate(states):
        weight, bias = (np.asarray(params[f"layer_{index}"][name]) for name in ("weight", "bias"))
        inputs.append((np.asarray(h) @ weight + bias)[:, : model.nested])
    names = list(_subnetworks(params))
    if names == ["network"]:
        inputs = [np.concatenate(inputs)]
    number = np.arange(model.nested) * model.groups // model.nested
    return {
        name: np.stack(
            [np.quantile(z[:, number == group], _QUANTILES) for group in range(model.groups)]
        )
        for name, z in zip(names, inputs, strict=False)
    }


def collapsed(
    model: NestNet,
    params: Params,
    x: Float[ArrayLike, "n i"],
    initial: Params | None = None,
) -> list[str]:
    """Finds subnetworks that have degenerated; returns one line per kind and layer.

    Each subnetwork is judged on z = `input_quantiles`, where s is the standard deviation of z:

      * constant: the standard deviation of rho(z) is at most 0.01 s; zero: so is its root mean
        square;
      * linear: the residual of the best straight line through rho(z) is at most 0.05 of the
        standard deviation of rho(z) (0.52 for ReLU on N(0, 1)); the identity: that line is z to
        within 0.05;
      * equal: two subnetworks differ by at most 0.01 of their standard deviation, as a root mean
        square over the inputs of all subnetworks. Because the prescribed initialisation makes all
        subnetworks equal, this is reported only if both differ from `initial` by more than 0.1 in
        the same measure.

    Args:
      x: points, shape (n, in_dim).
      initial: parameters before training; without them, equal subnetworks are not reported.
    """
    model.require_own(params)
    nests = _subnetworks(params)
    if not nests:
        return []
    inputs, sigma = input_quantiles(model, params, x), activation(model.activation)
    lines = []
    for where, nest in nests.items():
        kinds = list(map(_kind, inputs[where], _curves(nest, inputs[where], sigma)))
        for kind in ("zero", "constant", "the identity", "linear"):
            groups = [group for group, each in enumerate(kinds) if each == kind]
            if groups:
                lines.append(_line(where, groups, len(kinds), kind))
    if initial is not None:
        z = np.quantile(np.concatenate(list(inputs.values())), _QUANTILES)[None]
        now, start = (
            np.concatenate([_curves(nest, z, sigma) for nest in sets.values()])
            for sets in (nests, _subnetworks(initial))
        )
        lines += _equal(list(nests), now, start)
    return lines


def _kind(z: np.ndarray, rho: np.ndarray) -> str:
    s, spread = z.std(), rho.std()
    if spread <= _CONSTANT * s:
        return "zero" if np.sqrt(np.mean(rho**2)) <= _CONSTANT * s else "constant"
    slope = np.mean((z - z.mean()) * (rho - rho.mean())) / s**2
    height = rho.mean() - slope * z.mean()
    if np.std(rho - slope * z) > _LINEAR * spread:
        return "bent"
    identity = abs(slope - 1) <= _LINEAR and abs(height) <= _LINEAR * s
    return "the identity" if identity else "linear"


def _line(where: str, groups: Sequence[int], total: int, kind: str) -> str:
    """A warning such as "layer_0: 3 of 16 subnetworks are zero on their inputs (0, 4, 7)"."""
    if total == 1:
        return f"{where}: the subnetwork is {kind} on its inputs"
    listed = ", ".join(map(str, groups[:8])) + (", ..." if len(groups) > 8 else "")
    return f"{where}: {len(groups)} of {total} subnetworks are {kind} on their inputs ({listed})"


def _equal(layers: list[str], now: np.ndarray, start: np.ndarray) -> list[str]:
    """One line per set of equal subnetworks that differ from their start.

    `now` and `start` are their curves at the same points.
    """
    groups = len(now) // len(layers)
    names = [f"{where} group {group}" for where in layers for group in range(groups)]
    names = layers if groups == 1 else names
    spread = now.std(axis=1)
    left = list(np.flatnonzero(_distance(now - start) > _MOVED * spread))
    lines = []
    while left:
        first, *left = left
        away = _distance(now[left] - now[first])
        near = away <= _EQUAL * np.minimum(spread[left], spread[first])
        same = [names[first], *(names[i] for i, equal in zip(left, near, strict=True) if equal)]
        left = [i for i, equal in zip(left, near, strict=True) if not equal]
        if len(same) > 1:
            listed = ", ".join(same[:4]) + (f" and {len(same) - 4} more" if len(same) > 4 else "")
            lines.append(f"{listed}: these subnetworks have become equal to within 1 %")
    return lines


def _distance(difference: np.ndarray) -> np.ndarray:
    return np.sqrt(np.mean(difference**2, axis=-1))
