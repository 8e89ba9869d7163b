"""What a NestNet has learned: the shape of its activations, and whether one has collapsed.

Axis letters: n points, w width, g subnetworks, m knots.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import ArrayLike, Float

from lrnn_jax.diagnostics.variance import layer_outputs
from lrnn_jax.kernels.activations import Elementwise, activation
from lrnn_jax.kernels.nested import levels, subnetwork, unroll
from lrnn_jax.models.nestnet import NestNet
from lrnn_jax.typing import Params

__all__ = ["LearnedActivation", "collapsed", "input_quantiles", "learned_activations"]

CONSTANT = 0.01
LINEAR = 0.05
EQUAL = 0.01
MOVED = 0.1

_SAMPLED = (-3.0, 3.0, 601)  # where a subnetwork without a closed form is sampled
_QUANTILES = np.linspace(0.01, 0.99, 255)
_ROUNDING = 1e-6


@dataclasses.dataclass(frozen=True)
class LearnedActivation:
    """A piecewise linear rho(z): slopes[i] left of knots[i], slopes[i + 1] right of it.

    Attributes:
      where: "layer_0", ..., or "network" where all layers share it.
      group: number of the subnetwork there.
      knots: z at the kinks, increasing; in a sampled curve, where it was sampled.
      values: rho at the knots.
      slopes: of every piece, one more than there are knots.
      at_zero: rho(0).
      exact: the closed form; False for a curve sampled on [-3, 3], a straight line beyond.
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
    """Every subnetwork of a NestNet, layer by layer, as the function that it is.

    With one hidden layer a subnetwork of any height is a sum of ReLUs, and its knots, values and
    slopes are exact: knots that coincide are one, and kinks that cancel are none. With
    `sub_depth` > 1, or another activation than ReLU, it is sampled instead, which `exact` says.
    Height 1 has none.

    Args:
      model: the NestNet.
      params: its parameters.

    Raises:
      InputError: `params` are another model's.

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
    """The sets of subnetworks, by the layer that has them."""
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

    At its knot -shift/slope a term's slope grows by weight |slope|, whatever the sign of `slope`.
    """

    def rho(z: np.ndarray) -> np.ndarray:
        return constant + np.maximum(np.multiply.outer(z, slope) + shift, 0) @ weight

    bent = slope != 0
    where, change = -shift[bent] / slope[bent], weight[bent] * np.abs(slope[bent])
    order = np.argsort(where, kind="stable")
    where, change = where[order], change[order]
    first = np.diff(where, prepend=-np.inf) > _ROUNDING * (1 + np.abs(where))
    knots = where[first] + 0.0  # no -0.0
    kinks = np.bincount(np.cumsum(first) - 1, change, len(knots)) if len(knots) else knots
    kept = np.abs(kinks) > _ROUNDING * np.sum(np.abs(change))
    slopes = np.sum((weight * slope)[slope < 0]) + np.cumsum([0.0, *kinks[kept]])
    return knots[kept], rho(knots[kept]), slopes, float(rho(np.zeros(())))


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
    """rho of each group at its row of `z`."""
    groups = len(nest["level_1"]["outer_bias"])
    z = np.broadcast_to(z, (groups, z.shape[-1]))
    return np.asarray(_evaluate(nest, z, sigma), dtype=float)


# Collapse ----------------------------------------------------------------------------------------


def input_quantiles(
    model: NestNet, params: Params, x: Float[ArrayLike, "n i"]
) -> dict[str, Float[np.ndarray, "g 255"]]:
    """The inputs that each subnetwork meets: quantiles 1 % to 99 % of z = W h + b.

    They are taken over the points and the neurons that the subnetwork activates, in every layer
    that has it. Keys as in `LearnedActivation.where`.
    """
    states = layer_outputs(model, params, x)[-model.depth - 2 : -2]
    met: list[np.ndarray] = []
    for index, h in enumerate(states):
        weight, bias = (np.asarray(params[f"layer_{index}"][name]) for name in ("weight", "bias"))
        met.append((np.asarray(h) @ weight + bias)[:, : model.nested])
    names = list(_subnetworks(params))
    if names == ["network"]:
        met = [np.concatenate(met)]
    number = np.arange(model.nested) * model.groups // model.nested
    return {
        name: np.stack(
            [np.quantile(z[:, number == group], _QUANTILES) for group in range(model.groups)]
        )
        for name, z in zip(names, met, strict=False)
    }


class _Seen(NamedTuple):
    """A subnetwork on the inputs that it meets."""

    where: str
    group: int
    z: np.ndarray
    rho: np.ndarray


def collapsed(
    model: NestNet,
    params: Params,
    x: Float[ArrayLike, "n i"],
    initial: Params | None = None,
) -> list[str]:
    """Subnetworks that do less than an activation should, one line for each kind and layer.

    Judged on what they meet, `input_quantiles` z, where s is the standard deviation of z:

      * zero: the root mean square of rho(z) is below 0.01 s; constant: its standard deviation is;
      * linear: what the best straight line leaves of rho(z) is below 0.05 of its standard
        deviation (ReLU on N(0, 1) leaves 0.52); the identity, if that line is z to within 0.05;
      * equal: two subnetworks differ by less than 0.01 of their standard deviation, as a root
        mean square over what all of them meet. The prescribed start makes them equal, so that this
        is a finding only where both have moved 0.1 away from `initial`, by the same measure.

    Args:
      model: the NestNet.
      params: its parameters.
      x: points, shape (n, in_dim).
      initial: the parameters that the training started from; without them, none are called equal.

    Raises:
      InputError: `x` has another number of coordinates, or `params` are another model's.
    """
    model.require_own(params)
    nests = _subnetworks(params)
    if not nests:
        return []
    met, sigma = input_quantiles(model, params, x), activation(model.activation)
    seen = [
        _Seen(where, group, z, rho)
        for where, nest in nests.items()
        for group, (z, rho) in enumerate(
            zip(met[where], _curves(nest, met[where], sigma), strict=True)
        )
    ]
    lines = []
    for where in nests:
        here = [subnet for subnet in seen if subnet.where == where]
        for kind in ("zero", "constant", "the identity", "linear"):
            groups = [subnet.group for subnet in here if _kind(subnet) == kind]
            if groups:
                lines.append(_line(where, groups, len(here), kind))
    if initial is not None:
        z = np.quantile(np.stack([subnet.z for subnet in seen]), _QUANTILES)[None]
        now, start = (
            np.concatenate([_curves(nest, z, sigma) for nest in sets.values()])
            for sets in (nests, _subnetworks(initial))
        )
        lines += _equal(list(nests), now, start)
    return lines


def _kind(subnet: _Seen) -> str:
    z, rho = subnet.z, subnet.rho
    s, spread = z.std(), rho.std()
    if spread <= CONSTANT * s:
        return "zero" if np.sqrt(np.mean(rho**2)) <= CONSTANT * s else "constant"
    slope = np.mean((z - z.mean()) * (rho - rho.mean())) / s**2
    height = rho.mean() - slope * z.mean()
    if np.std(rho - slope * z) > LINEAR * spread:
        return "bent"
    identity = abs(slope - 1) <= LINEAR and abs(height) <= LINEAR * s
    return "the identity" if identity else "linear"


def _line(where: str, groups: Sequence[int], total: int, kind: str) -> str:
    """A warning such as "layer_0: 3 of 16 subnetworks are zero on what they meet (0, 4, 7)"."""
    if total == 1:
        return f"{where}: the subnetwork is {kind} on what it meets"
    listed = ", ".join(map(str, groups[:8])) + (", ..." if len(groups) > 8 else "")
    return f"{where}: {len(groups)} of {total} subnetworks are {kind} on what they meet ({listed})"


def _equal(layers: list[str], now: np.ndarray, start: np.ndarray) -> list[str]:
    """A line for each set of subnetworks, curves of the same points, that moved and are equal."""
    groups = len(now) // len(layers)
    names = [f"{where} group {group}" for where in layers for group in range(groups)]
    names = layers if groups == 1 else names
    spread = now.std(axis=1)
    left = list(np.flatnonzero(_distance(now - start) > MOVED * spread))
    lines = []
    while left:
        first, *left = left
        away = _distance(now[left] - now[first])
        near = away <= EQUAL * np.minimum(spread[left], spread[first])
        same = [names[first], *(names[i] for i, equal in zip(left, near, strict=True) if equal)]
        left = [i for i, equal in zip(left, near, strict=True) if not equal]
        if len(same) > 1:
            listed = ", ".join(same[:4]) + (f" and {len(same) - 4} more" if len(same) > 4 else "")
            lines.append(f"{listed}: these subnetworks have become equal to within 1 %")
    return lines


def _distance(difference: np.ndarray) -> np.ndarray:
    return np.sqrt(np.mean(difference**2, axis=-1))
