"""NestNet: networks whose activation functions are small trainable networks.

    h^(1) = rho^(1)(W gamma(x) + b), ..., y = V h^(L) + v
    rho(z) = w2 . relu(w1 z + b1) + b2                                       height 2
    rho_s(z) = w2 . rho_{s-1}(w1 z + b1) + b2,  rho_1 = sigma, relu          height s

The reference implementation consists of pure functions of one point: `subnetwork` of
`kernels.nested` (recursive in height) and `layer` (`subnetwork` under `jax.vmap` over neurons). The
`lean` implementation computes the same function, unrolled, on a batch; the tests compare it with
the reference.

Axis letters: n points, i inputs of a layer, o outputs, w width, g subnetworks, h hidden units of a
subnetwork.

References: Zhang, Shen and Yang, "Neural Network Architecture Beyond Width and Depth", NeurIPS 2022
(arXiv 2205.09459); "Unveiling the Potential of Superexpressive Networks in Implicit Neural
Representations" (arXiv 2503.21166). Every choice that they leave open is a field of `NestNet`.
"""

import dataclasses
import functools
import itertools
import math
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lrnn_jax.checks import check_types, require_at_least, require_positive
from lrnn_jax.errors import InputError
from lrnn_jax.kernels.activations import activation
from lrnn_jax.kernels.dense import affine
from lrnn_jax.kernels.features import harmonics
from lrnn_jax.kernels.initializers import Constant, Uniform, fan_in_limit, he_limit, linear
from lrnn_jax.kernels.nested import lean_subnetwork, levels, subnetwork
from lrnn_jax.models.network import DeepNetwork, Layer, Network, over_batch
from lrnn_jax.typing import Activation, Params

_MOST_TERMS = 3**8


@dataclasses.dataclass(frozen=True, kw_only=True)
class _NestedNetwork(Network):
    """Base class of the networks whose activation functions are subnetworks.

    Args:
      height: s >= 1; the activation has s - 1 levels of subnetworks.
      activation: rho_1, the innermost activation of the subnetworks and the activation of neurons
        without a subnetwork. The papers use 'relu'; a smooth activation, such as 'tanh', has the
        derivatives that a differential equation needs.
      groups: number of subnetworks in a set, 1..m for m nested neurons; neuron j uses number
        j groups // m.
      fraction: share of the neurons of a layer, in (0, 1], that have a subnetwork as activation:
        the first round(fraction width); the activation of the others is rho_1.
      sub_width: hidden units of a subnetwork; >= 3 with the prescribed initialisation.
      sub_depth: hidden layers of a subnetwork.
      sub_init: 'prescribed', w1 = (1, 1, 1), b1 = (-0.2, -0.1, 0), w2 = (1, 1, -1), b2 = 0, see
        `prescribed_start`; with `sub_depth` > 1 or recursion 'C' it needs the activation 'relu'.
        'random', for ablations, U(+-1 / sqrt(fan-in)) for all parameters.
      recursion: variant of the prescribed initialisation for height > 2. 'A', the same constants in
        every level; 'B', outer levels that pass the inner levels through unchanged, so that the
        network starts as one of height 2; 'C', as 'A' with w2 scaled so that E[rho(z)^2] = 1/2 for
        z ~ N(0, 1), as for ReLU.
    """

    width: int
    height: int = 2
    activation: Activation = "relu"
    groups: int = 1
    fraction: float = 1.0
    sub_width: int = 3
    sub_depth: int = 1
    sub_init: Literal["prescribed", "random"] = "prescribed"
    recursion: Literal["A", "B", "C"] = "A"

    @property
    def nested(self) -> int:
        """The number of neurons of a layer whose activation is a subnetwork."""
        return round(self.fraction * self.width)

    def _check_subnetwork(self) -> None:
        require_at_least(self, 1, "height", "groups", "sub_width", "sub_depth")
        check_types(self, "sub_init", "recursion")
        require_positive(self, "fraction")
        if self.fraction > 1 or self.nested < 1:
            raise InputError(
                f"fraction: expected a share in (0, 1] that is a neuron or more of {self.width}, "
                f"got {self.fraction!r}"
            )
        if self.groups > self.nested:
            raise InputError(
                f"groups: expected 1 to {self.nested}, the nested neurons of a layer, "
                f"got {self.groups}"
            )
        if self.sub_init == "prescribed" and self.sub_width < 3:
            raise InputError(
                "sub_width: the prescribed start has 3 units or more: expected an integer >= 3, or "
                f"sub_init 'random', got {self.sub_width}"
            )
        needs_relu = self.sub_depth > 1 or self.recursion == "C"
        is_relu = activation(self.activation) is jax.nn.relu
        if self.height > 1 and self.sub_init == "prescribed" and needs_relu and not is_relu:
            raise InputError(
                "sub_init: the prescribed start of sub_depth > 1 and of recursion 'C' is that of "
                f"ReLU: expected 'random' with activation {self.activation!r}"
            )
        terms = (self.sub_width * self.sub_depth) ** (self.height - 1)
        if terms > _MOST_TERMS:
            raise InputError(
                f"height: expected (sub_width sub_depth)^(height - 1) <= {_MOST_TERMS}, the terms "
                f"of a subnetwork, got {terms} at height {self.height}"
            )

    def _subnetwork_plan(self) -> dict[str, Any]:
        h, extra, groups = self.sub_width, self.sub_depth - 1, self.groups
        shapes = {"inner_weight": (h,), "inner_bias": (h,), "outer_weight": (h,), "outer_bias": ()}
        if extra:
            shapes |= {"hidden_weight": (extra, h, h), "hidden_bias": (extra, h)}
        if self.sub_init == "prescribed":
            start = prescribed_start(self.height, self.recursion, h, self.sub_depth)
            return {
                level: {name: Constant((groups, *shapes[name]), values[name]) for name in shapes}
                for level, values in start.items()
            }
        limits = {name: fan_in_limit(1 if name.startswith("inner") else h) for name in shapes}
        return {
            f"level_{number}": {
                name: Uniform((groups, *shapes[name]), limits[name]) for name in shapes
            }
            for number in range(1, self.height)
        }

    def _activate(self, rho: Params, z: Float[Array, "*n w"]) -> Float[Array, "*n w"]:
        """The activation of every neuron, by the `lean` implementation."""
        sigma = activation(self.activation)
        if not rho:
            return sigma(z)
        nested, rest = jnp.split(z, [self.nested], axis=-1)
        if not rest.shape[-1]:
            return lean_subnetwork(rho, z, sigma)
        return jnp.concatenate([lean_subnetwork(rho, nested, sigma), sigma(rest)], axis=-1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NestNet(_NestedNetwork, DeepNetwork):
    """A NestNet R^in_dim -> R^out_dim; `height=1` is an MLP on the same features.

    Parameters: `{"layer_0": {weight (i, w), bias (w,), "subnetwork": rho}, ..., "head": {weight
    (w, o), bias (o,)}}`, with the levels of rho as in `kernels.nested`. With `sharing="net"` there
    is a single "subnetwork" at the top level of the dict. The default network has 153,121
    parameters for 2 -> 3.

    Args:
      depth: number of hidden layers, including the first: the papers' "2 hidden layers" are 3 here.
      frequencies: number of integer Fourier features per axis, cos and sin of 2 pi m u for
        m = 1..frequencies with u = (x + period / 2) / period; 0 uses the coordinates without an
        encoding. The papers do not state the number; 20 gives their 153 thousand parameters.
      period: length of the domain of x; 2 is [-1, 1), where u covers [0, 1). With Fourier features
        of integer frequency the field is periodic outside.
      raw: True appends the features to the coordinates instead of replacing them.
      sharing: 'layer', a separate set of subnetworks for every layer; 'net', one set for all
        layers.
      weight_init: initialisation of the layers. 'fan_in', U(+-1 / sqrt(i)), PyTorch's default;
        'he', U(+-sqrt(6 / i)) with biases U(+-1 / sqrt(i)).
      implementation: 'lean', batched and fast; 'reference', the formula as nested vmap; 'auto',
        currently 'lean'.

    Example:
      >>> model = NestNet(in_dim=2, out_dim=3)
      >>> model.parameter_count
      153121
    """

    citation: ClassVar[str] = (
        "Zhang, Shen, Yang: Neural Network Architecture Beyond Width and Depth. NeurIPS 2022, "
        "arXiv 2205.09459. As a neural representation: Unveiling the Potential of Superexpressive "
        "Networks in Implicit Neural Representations, arXiv 2503.21166."
    )

    width: int = 256
    frequencies: int = 20
    period: float = 2.0
    raw: bool = False
    sharing: Literal["layer", "net"] = "layer"
    weight_init: Literal["fan_in", "he"] = "fan_in"
    implementation: Literal["auto", "lean", "reference"] = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 0, "frequencies")
        require_positive(self, "period")
        check_types(self, "raw", "sharing", "weight_init", "implementation")
        self._check_subnetwork()

    def plan(self) -> dict[str, Any]:
        """The initialisation selected by `weight_init`, `sub_init` and `recursion`."""
        features = 2 * self.in_dim * self.frequencies
        features += self.in_dim * (self.raw or not self.frequencies)
        widths = (features, *(self.width,) * self.depth, self.out_dim)
        limit = fan_in_limit if self.weight_init == "fan_in" else he_limit
        *hidden, head = [linear(i, o, limit(i)) for i, o in itertools.pairwise(widths)]
        rho = {"subnetwork": self._subnetwork_plan()} if self.height > 1 else {}
        by_layer, shared = (rho, {}) if self.sharing == "layer" else ({}, rho)
        layers = {f"layer_{index}": plan | by_layer for index, plan in enumerate(hidden)}
        return layers | {"head": head} | shared

    def layers(self, params: Params, x: Float[Array, "*n i"]) -> list[Layer]:
        """The features, the nested layers, as selected by `implementation`, and the linear head."""
        layer_form = _literal_layer if self.implementation == "reference" else _lean_layer

        def hidden(index: int) -> Layer:
            layer_params = params[f"layer_{index}"]
            rho = layer_params.get("subnetwork", params.get("subnetwork", {}))
            return functools.partial(layer_form, self, layer_params | {"subnetwork": rho})

        head = params["head"]
        return [
            self._encode,
            *map(hidden, range(self.depth)),
            lambda h: affine(h, head["weight"], head["bias"]),
        ]

    def _encode(self, x: Float[Array, "*n i"]) -> Float[Array, "*n f"]:
        if not self.frequencies:
            return x
        features = harmonics(x, self.frequencies, self.period)
        return jnp.concatenate([x, features], axis=-1) if self.raw else features


@dataclasses.dataclass(frozen=True, kw_only=True)
class NestedActivation(_NestedNetwork):
    """The learned activation of a NestNet as a separate layer: y_j = rho(x_j).

    Parameters: `{"level_1": {inner_weight, inner_bias, outer_weight (g, h), outer_bias (g,)}, ...}`
    with height - 1 levels.

    Args:
      width: number of inputs, which is also the number of outputs.
      height: >= 2; the activation has height - 1 levels of subnetworks.

    Example:
      >>> model = NestedActivation(width=2)
      >>> params = model.init(jax.random.key(0))
      >>> y = model.apply(params, jnp.array([-1.0, 1.5]))
      >>> [round(float(value), 2) for value in y]  # 0 below 0, z - 0.3 from 0.2 on
      [0.0, 1.2]
    """

    citation: ClassVar[str] = NestNet.citation

    def __post_init__(self) -> None:
        require_at_least(self, 1, "width")
        require_at_least(self, 2, "height")
        self._check_subnetwork()

    @property
    def in_dim(self) -> int:
        """The width."""
        return self.width

    @property
    def out_dim(self) -> int:
        """The width."""
        return self.width

    def plan(self) -> dict[str, Any]:
        """The initialisation selected by `sub_init` and `recursion`."""
        return self._subnetwork_plan()

    def layers(self, params: Params, x: Float[Array, "*n i"]) -> list[Layer]:
        """The activation, as the only layer."""
        return [functools.partial(self._activate, params)]


# The reference implementation, on one point ------------------------------------------------------


def layer(model: NestNet, params: Params, x: Float[Array, "i"]) -> Float[Array, "w"]:
    """rho(w_j . x + b_j) of all neurons j of a layer; rho_1 for neurons without a subnetwork."""
    z, sigma = affine(x, params["weight"], params["bias"]), activation(model.activation)
    nested, rest = z[: model.nested], z[model.nested :]
    if not params["subnetwork"]:
        return sigma(z)
    number = np.arange(model.nested) * model.groups // model.nested
    rhos = jax.tree.map(lambda leaf: leaf[number], levels(params["subnetwork"]))
    rho = jax.vmap(functools.partial(subnetwork, sigma=sigma))
    return jnp.concatenate([rho(rhos, nested), sigma(rest)])


def _literal_layer(model: NestNet, params: Params, x: Float[Array, "*n i"]) -> jax.Array:
    return over_batch(functools.partial(layer, model, params), x)


# The same function on a batch --------------------------------------------------------------------


def _lean_layer(model: NestNet, params: Params, x: Float[Array, "*n i"]) -> Float[Array, "*n w"]:
    return model._activate(params["subnetwork"], affine(x, params["weight"], params["bias"]))


# Initialisation ----------------------------------------------------------------------------------


@functools.cache
def prescribed_start(
    height: int, recursion: str = "A", sub_width: int = 3, sub_depth: int = 1
) -> dict[str, dict[str, np.ndarray]]:
    """The initial values of a subnetwork that the papers prescribe: its levels, outermost first.

    w1 = (1, 1, 1), b1 = (-0.2, -0.1, 0), w2 = (1, 1, -1), b2 = 0: rho(z) is 0 for z < 0, falls to
    -0.1 at z = 0.1, stays -0.1 up to z = 0.2, and is z - 0.3 above. The papers define height 2,
    width 3 and one hidden layer; the extensions are choices of this package:

      * height > 2: see `recursion` of `NestNet`;
      * units after the third start with outer weight 0 and knots at 0.3, 0.4, ...;
      * additional hidden layers start with weights that undo the activation between the layers, so
        that they do not change the function.

    Args:
      height: >= 2.
      recursion: 'A', 'B' or 'C'.
      sub_width: number of hidden units, >= 3.
      sub_depth: number of hidden layers, >= 1.
    """
    # Additional hidden layers do not start as rho after rho: that network would not train, because
    # rho of the small numbers that reach it is 0 or negative.
    paper = np.array([0.2, 0.1, 0.0, *(0.1 * np.arange(3, sub_width))])
    passing = np.array([0.0, 0.1, 0.2, *paper[3:]])
    falling = np.array([1.0, 1.0, -1.0, *np.zeros(sub_width - 3)])
    nested: list[dict[str, np.ndarray]] = []  # outermost first; grows outwards
    for number in range(height - 1):
        if recursion == "B" and number:
            level = _level(passing, np.eye(sub_width)[0], sub_depth, nested)
        else:
            level = _level(paper, falling, sub_depth, nested)
        if recursion == "C":
            level = _with_unit_gain(level, nested)
        nested = [level, *nested]
    return {f"level_{number}": level for number, level in enumerate(nested, start=1)}


def _level(
    knots: np.ndarray, weight: np.ndarray, sub_depth: int, inner: list[dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """The initial values of one level.

    The inner activation is the line gain z + offset for large z; additional hidden layers undo it.
    """
    h, extra = len(knots), sub_depth - 1
    level = {
        "inner_weight": np.ones(h),
        "inner_bias": -knots,
        "outer_weight": weight,
        "outer_bias": np.zeros(()),
    }
    if extra:
        at = _evaluate(inner, np.array([100.0, 101.0]))
        gain = at[1] - at[0]
        offset = at[0] - 100 * gain
        level |= {
            "hidden_weight": np.tile(np.eye(h) / gain, (extra, 1, 1)),
            "hidden_bias": np.full((extra, h), -offset / gain),
        }
    return level


def _with_unit_gain(
    level: dict[str, np.ndarray], inner: list[dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """The level with w2 scaled so that E[rho(z)^2] = 1/2 for z ~ N(0, 1)."""
    z = np.linspace(-8, 8, 16001)
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    square = np.sum(density * _evaluate([level, *inner], z) ** 2)
    return level | {"outer_weight": level["outer_weight"] / math.sqrt(2 * square)}


def _evaluate(nested: list[dict[str, np.ndarray]], z: np.ndarray) -> np.ndarray:
    if not nested:
        return np.maximum(z, 0)
    level, rest = nested[0], nested[1:]
    units = _evaluate(rest, z[..., None] * level["inner_weight"] + level["inner_bias"])
    hidden = level.get("hidden_weight", ()), level.get("hidden_bias", ())
    for weight, bias in zip(*hidden, strict=True):
        units = _evaluate(rest, units @ weight.T + bias)
    return units @ level["outer_weight"] + level["outer_bias"]
