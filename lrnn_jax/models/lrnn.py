"""LRNN: deep low-rank separated neural networks; each neuron is a product of learned functions.

    z^l     = W^l x + b^l                                      projection to k components
    phi^l   = prod_{j=1..k} (1 + gamma g_j^l(z_j^l))           one neuron, l = 1..r
    g_j^l   = sum_h v_h sigma(omega0 (a_h z + c_h))            one component function
    y(x)    = S LayerNorm(phi^(L)) o ... o LayerNorm(phi^(1)) (x) + s

The reference implementation consists of three pure functions of one point: `component`, `neuron`
(`component` under `jax.vmap` over k) and `layer` (`neuron` under `jax.vmap` over r). The `lean`
implementation does the same arithmetic on a batch; the tests compare it with the reference.

Axis letters: n points, i inputs of a layer, o outputs, r rank, k components, h hidden units.

References: Maharaj and Nair, "Deep Learning with Learnable Product-Structured Activations",
ICLR 2026. Every choice that the paper's slides leave open is a field of `LRNN` with a documented
default.
"""

import dataclasses
import functools
import math
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lrnn_jax.checks import check_types, require_at_least, require_positive
from lrnn_jax.errors import InputError
from lrnn_jax.kernels.activations import activation, exact, in_half_turns, root_mean_square
from lrnn_jax.kernels.dense import affine, dot, layer_norm
from lrnn_jax.kernels.initializers import Constant, Uniform, fan_in_limit, siren_limit
from lrnn_jax.kernels.neurons import Neurons, lean_neurons
from lrnn_jax.kernels.univariate import univariate
from lrnn_jax.models.network import FieldNetwork, Layer, Network, over_batch, repeated
from lrnn_jax.typing import Activation, Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class LRNN(FieldNetwork):
    """A deep LRNN R^in_dim -> R^out_dim; `depth=1` is the shallow LRNN.

    Parameters: a nested dict `{"layer_0": {"projection": {weight (i, k, r), bias (k, r)},
    "component": {inner_weight, inner_bias, outer_weight (h, k, r)}, "norm": {scale, shift (r,)}},
    ..., "head": {weight (r, o), bias (o,)}}`. With `sharing="shared"` the arrays of "component"
    have no axis r.

    "Open" below marks a choice that the paper's slides do not specify.

    Args:
      depth: number of product layers L, >= 1.
      rank: separation rank r, the number of neurons of a layer; one number for all layers or one
        for each layer.
      components: number of factors k of each neuron.
      hidden: number of hidden units h of each component function.
      activation: sigma: 'spder' (images), 'sin' (PDEs), 'sin_arctan' (sound), or any function.
      omega0: frequency inside the component functions; it also scales their bias, as in SIREN.
      sharing: 'flex', a separate function for every (neuron, component); 'shared', one function for
        every component of a layer, shared by all its neurons (the paper's "SA").
      gamma: factor of g; None is the paper's components ** -0.5.
      norm: 'layer', LayerNorm of the output of each layer; 'none', no normalisation.
      norm_affine: LayerNorm has a learned scale and shift (open).
      norm_epsilon: constant added to LayerNorm's variance (open; default of PyTorch).
      norm_last: apply LayerNorm after the last layer too (open; "each phi" suggests yes).
      inner_bias: component functions have the bias c (open).
      outer_bias: component functions have an output bias (open; without it, 197,267 parameters).
      head_bias: the linear head has a bias (open).
      projection_init: distribution of W: 'fan_in', U(+-1/sqrt(i)), as in PyTorch's linear layers,
        fits pixels fastest; 'siren', U(+-1/i) in the first layer and U(+-sqrt(6/i)/omega0) in the
        others, has 10 times lower frequencies in deeper layers and is smoother between pixels;
        b ~ U(+-1/sqrt(i)) in both, never zero (open).
      inner_init: 'ones', a = 1; 'uniform', a ~ U(+-1); c ~ U(+-1) in both, if present (open).
      sigma_g: standard deviation of g at initialisation, set through the limit of v ~ U (open). It
        is exact where z = 0, and up to 1.2 times sigma_g at the corners of [-1, 1]^i.
      compute_dtype: 'full', the dtype of points and parameters; 'bfloat16', for accelerators:
        rounds the projections after the first layer and their operands to bfloat16. The
        coordinates, the head and all other arithmetic are never rounded.
      implementation: 'reference', the paper's formula as nested vmap with XLA's sine; 'lean',
        batched and fast; 'pallas', one fused forward kernel and one fused backward kernel, for GPUs
        and for TPUs, without forward-mode derivatives; 'auto', currently 'lean'.

    Example:
      >>> model = LRNN(in_dim=2, out_dim=1, rank=4, components=2)
      >>> params = model.init(jax.random.key(0))
      >>> model.apply(params, jnp.zeros((5, 2))).shape
      (5, 1)
    """

    citation: ClassVar[str] = (
        "Maharaj, Nair: Deep Learning with Learnable Product-Structured Activations. ICLR 2026."
    )

    depth: int = 2
    rank: int | tuple[int, ...] = 106
    components: int = 16
    hidden: int = 1
    activation: Activation = "spder"
    omega0: float = 30.0
    sharing: Literal["flex", "shared"] = "flex"
    gamma: float | None = None
    norm: Literal["layer", "none"] = "layer"
    norm_affine: bool = True
    norm_epsilon: float = 1e-5
    norm_last: bool = True
    inner_bias: bool = True
    outer_bias: bool = False
    head_bias: bool = True
    projection_init: Literal["fan_in", "siren"] = "fan_in"
    inner_init: Literal["ones", "uniform"] = "ones"
    sigma_g: float = 0.5
    compute_dtype: Literal["full", "bfloat16"] = "full"
    implementation: Literal["auto", "reference", "lean", "pallas"] = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "depth", "rank", "components", "hidden")
        require_positive(self, "omega0", "norm_epsilon", "sigma_g", "gamma")
        activation(self.activation)
        check_types(self)
        if self.compute_dtype != "full" and self.depth == 1:
            raise InputError(
                f"compute_dtype: expected 'full' with depth 1, whose only layer takes coordinates, "
                f"which are never rounded, got {self.compute_dtype!r}"
            )
        if self.compute_dtype != "full" and self.implementation == "reference":
            raise InputError(
                f"compute_dtype: {self.compute_dtype!r} needs the implementation 'auto', 'lean' or "
                f"'pallas', got {self.implementation!r}"
            )
        if isinstance(self.rank, tuple) and len(self.rank) != self.depth:
            raise InputError(
                f"rank: expected one rank or {self.depth} of them (depth), got {len(self.rank)}"
            )

    @property
    def ranks(self) -> tuple[int, ...]:
        """The separation rank of each layer."""
        return repeated(self.rank, self.depth)

    @property
    def scale(self) -> float:
        """The value of gamma, the factor of every component function."""
        return self.components**-0.5 if self.gamma is None else self.gamma

    def plan(self) -> dict[str, Any]:
        """Uniform distributions; LayerNorm starts with scale 1 and shift 0."""
        widths = (self.in_dim, *self.ranks)
        plan = {
            f"layer_{index}": _layer_plan(self, widths[index], widths[index + 1], index)
            for index in range(self.depth)
        }
        limit = fan_in_limit(widths[-1])
        plan["head"] = {"weight": Uniform((widths[-1], self.out_dim), limit)}
        if self.head_bias:
            plan["head"]["bias"] = Uniform((self.out_dim,), limit)
        return plan

    def layers(self, params: Params, x: Float[Array, "*n i"]) -> list[Layer]:
        """The product layers, as selected by `implementation`, and the linear head."""
        layer_form = _literal_layer if self.implementation == "reference" else _batched_layer
        layers: list[Layer] = [
            functools.partial(layer_form, self, params[f"layer_{index}"], index=index)
            for index in range(self.depth)
        ]
        head = params["head"]
        return [*layers, lambda h: affine(h, head["weight"], head.get("bias"))]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LRNNLayer(Network):
    """One product layer without a head, for use inside another network; out_dim is the rank.

    y_l = LayerNorm(prod_{j=1..k} (1 + k^(-1/2) g_j^l(w_j^l . x + b_j^l))). Parameters: as one layer
    of `LRNN`. The layer uses the implementation 'lean' and full precision.

    Args:
      in_dim: inputs, >= 1.
      rank: number of neurons, >= 1.
      components: number of factors k of each neuron.
      activation: as in `LRNN`; 'sin' by default, which is smooth.
      omega0: as in `LRNN`; 1 by default, for inputs that are features instead of coordinates.
      hidden, sharing, norm, sigma_g: as in `LRNN`.

    Example:
      >>> model = LRNNLayer(in_dim=64, rank=32)
      >>> params = model.init(jax.random.key(0))
      >>> model.apply(params, jnp.ones((5, 64))).shape
      (5, 32)
    """

    citation: ClassVar[str] = LRNN.citation

    in_dim: int
    rank: int
    components: int = 4
    hidden: int = 1
    activation: Activation = "sin"
    omega0: float = 1.0
    sharing: Literal["flex", "shared"] = "flex"
    norm: Literal["layer", "none"] = "layer"
    sigma_g: float = 0.5

    def __post_init__(self) -> None:
        require_at_least(self, 1, "rank")
        _ = self._network

    @property
    def out_dim(self) -> int:
        """The rank."""
        return self.rank

    @property
    def _network(self) -> LRNN:
        """An `LRNN` that consists of this layer and a head."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return LRNN(out_dim=1, depth=1, **fields)

    def plan(self) -> dict[str, Any]:
        """As one layer of `LRNN`."""
        return _layer_plan(self._network, self.in_dim, self.rank, 0)

    def layers(self, params: Params, x: Float[Array, "*n i"]) -> list[Layer]:
        return [functools.partial(_batched_layer, self._network, params, index=0)]


# The reference implementation, on one point ------------------------------------------------------


def component(model: LRNN, params: Params, x: Float[Array, "i"]) -> Float[Array, ""]:
    """g_j(w_j . x + b_j) of one component; projection weight (i,), arrays of the function (h,)."""
    projection = params["projection"]
    z = dot(x, projection["weight"]) + projection["bias"]
    return univariate(params["component"], z, exact(model.activation), model.omega0)


def neuron(model: LRNN, params: Params, x: Float[Array, "i"]) -> Float[Array, ""]:
    """phi = prod_j (1 + gamma g_j(z_j)) of one neuron; all parameters have shape (..., k)."""
    g = jax.vmap(functools.partial(component, model), in_axes=(-1, None))(params, x)
    return jnp.prod(1 + model.scale * g)


def layer(model: LRNN, params: Params, x: Float[Array, "i"], index: int) -> Float[Array, "r"]:
    """LayerNorm of all neurons of layer `index`.

    The parameters have shape (..., k, r); those of shared component functions have shape (h, k).
    """
    neurons = {name: params[name] for name in ("projection", "component")}
    axes = {"projection": -1, "component": -1 if model.sharing == "flex" else None}
    phi = jax.vmap(functools.partial(neuron, model), in_axes=(axes, None))(neurons, x)
    return _normalise(model, params, phi, index)


def _literal_layer(model: LRNN, params: Params, x: Float[Array, "*n i"], index: int) -> jax.Array:
    return over_batch(functools.partial(layer, model, params, index=index), x)


# The same arithmetic on a batch ------------------------------------------------------------------


def _batched_layer(model: LRNN, params: Params, x: Float[Array, "*n i"], index: int) -> jax.Array:
    tau, unit = in_half_turns(model.activation)
    neurons = _neurons(model, params, unit)
    # Never round the coordinates, the input of the first layer: with eight bits, neighbouring
    # pixels of a photograph would be the same point.
    bf16_operands = model.compute_dtype == "bfloat16" and index > 0
    if model.implementation == "pallas":
        from lrnn_jax.kernels.pallas import pallas_neurons  # takes half a second; few users need it

        phi = pallas_neurons(neurons, x, tau, bf16_operands)
    else:
        phi = lean_neurons(neurons, x, tau, bf16_operands)
    return _normalise(model, params, phi, index)


def _neurons(model: LRNN, params: Params, unit: float) -> Neurons:
    """The parameters of a layer, with omega0, gamma and the unit of the argument folded in."""
    projection, units = params["projection"], params["component"]
    _, k, r = projection["weight"].shape

    def full(leaf: jax.Array) -> Float[Array, "*h k r"]:
        shared = model.sharing == "shared"
        return jnp.broadcast_to(leaf[..., None], (*leaf.shape, r)) if shared else leaf

    # The fast sines take half turns: dividing omega0 by pi here costs nothing per point.
    frequency = model.omega0 / unit
    slope = frequency * full(units["inner_weight"])
    base = jnp.ones((k, r), slope.dtype)
    return Neurons(
        weight=projection["weight"],
        bias=projection["bias"],
        slope=slope,
        shift=frequency * full(units["inner_bias"]) if model.inner_bias else jnp.zeros_like(slope),
        amplitude=model.scale * full(units["outer_weight"]),
        base=base + model.scale * full(units["outer_bias"]) if model.outer_bias else base,
    )


def _normalise(model: LRNN, params: Params, phi: jax.Array, index: int) -> jax.Array:
    if not _has_norm(model, index):
        return phi
    y = layer_norm(phi, model.norm_epsilon)
    if "norm" not in params:
        return y
    return y * params["norm"]["scale"] + params["norm"]["shift"]


def _has_norm(model: LRNN, index: int) -> bool:
    return model.norm == "layer" and (model.norm_last or index < model.depth - 1)


# Initialisation ----------------------------------------------------------------------------------


def _layer_plan(model: LRNN, fan_in: int, rank: int, index: int) -> dict[str, Any]:
    if model.projection_init == "siren":
        limit = siren_limit(fan_in, model.omega0, first=index == 0)
    else:
        limit = fan_in_limit(fan_in)
    units = (model.components, rank)
    plan: dict[str, Any] = {
        "projection": {
            "weight": Uniform((fan_in, *units), limit),
            "bias": Uniform(units, fan_in_limit(fan_in)),
        },
        "component": _component_plan(model, units if model.sharing == "flex" else units[:1]),
    }
    if _has_norm(model, index) and model.norm_affine:
        plan["norm"] = {"scale": Constant((rank,), 1.0), "shift": Constant((rank,), 0.0)}
    return plan


def _component_plan(model: LRNN, units: tuple[int, ...]) -> dict[str, Any]:
    """v ~ U with h E[v^2] E[sigma(u)^2] = sigma_g^2, where u is uniform on (-omega0, omega0)."""
    shape = (model.hidden, *units)
    rms = root_mean_square(model.activation, model.omega0)
    plan: dict[str, Any] = {
        "inner_weight": Constant(shape, 1.0) if model.inner_init == "ones" else Uniform(shape, 1.0),
        "outer_weight": Uniform(shape, math.sqrt(3 / model.hidden) * model.sigma_g / rms),
    }
    if model.inner_bias:
        plan["inner_bias"] = Uniform(shape, 1.0)
    if model.outer_bias:
        plan["outer_bias"] = Constant(units, 0.0)
    return plan
