"""Weights in the layout of the PyTorch modules by the authors of the baselines.

`to_torch` gives a state dict of NumPy arrays that their modules load, and `from_torch` reads one.
PyTorch itself is not needed. The modules, and the commits whose names and layouts are used:

| model | module |
| --- | --- |
| `Siren` | `Siren` of vsitzmann/siren `explore_siren.ipynb` |
| `Siren`, `Finer`, `Gauss` | the same names in liuzhen0212/FINER `models.py` (51a9254) |
| `Wire`, `Wire2D` | `INR` of vishwa91/wire `modules/wire.py`, `wire2d.py` (bf95232) |
| `KAN` | `KAN` of pykan 0.2.8 |
"""

from collections.abc import Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from lrnn_jax.errors import InputError
from lrnn_jax.models import KAN, Finer, Gauss, Siren, Wire, Wire2D
from lrnn_jax.typing import Params

__all__ = ["from_torch", "to_torch"]

Chain = Siren | Finer | Gauss | Wire | Wire2D
"""Linear maps with an activation each, and a head."""
Exchanged = Chain | KAN
_WAVELETS = {"wave": "linear", "envelope": "scale_orth"}  # our name of a linear map: the authors'


def to_torch(model: Exchanged, params: Params) -> dict[str, np.ndarray]:
    """The state dict of the authors' PyTorch module with the same values.

    A linear map is stored as `weight` (out, in) and `bias` (out,), and is complex in all layers but
    the first of WIRE. The module is built with `hidden_layers = depth - 1`, the same frequencies,
    and the same width; the constructor of WIRE divides its argument by sqrt(2), or by 2 for
    `Wire2D`. A KAN is built with `KAN(width=[in_dim, width, ..., out_dim], grid=intervals,
    k=order)`, and loads the dict with `strict=False`, because it holds only the splines.

    Args:
      model: a `Siren`, `Finer`, `Gauss`, `Wire`, `Wire2D` or `KAN`.
      params: its parameters. Their dtype is kept.

    Returns:
      Arrays by the names of the module.

    Raises:
      InputError: another model, or the parameters of another model.

    Example:
      >>> import jax, lrnn_jax as lj
      >>> model = lj.Siren(in_dim=2, out_dim=1, width=8, depth=2)
      >>> list(to_torch(model, model.init(jax.random.key(0))))[:2]
      ['net.0.linear.weight', 'net.0.linear.bias']
    """
    _require_known(type(model))
    model.require_own(params)
    params = jax.tree.map(np.array, params)  # writable copies, which PyTorch wants
    if isinstance(model, KAN):
        return _kan_state(model, params)
    state: dict[str, np.ndarray] = {}
    for name, path in _linear_maps(model).items():
        entry = _at(params, path)
        for field in ("weight", "bias"):
            value = entry[field] if field in entry else _complex(entry, field)
            state[f"{name}.{field}"] = np.ascontiguousarray(value.T)
    return state | _constants(model, state["net.0.linear.weight"].dtype)


def from_torch(
    kind: type[Exchanged], state: Mapping[str, Any], **fields: Any
) -> tuple[Exchanged, Params]:
    """Read the state dict of an authors' PyTorch module.

    The numbers of inputs, outputs, neurons and layers follow from the shapes; so do the frequencies
    of WIRE and the knots of a KAN, which the state holds.

    Args:
      kind: the class of the model: `Siren`, `Finer`, `Gauss`, `Wire`, `Wire2D` or `KAN`.
      state: tensors or arrays by name, e.g. `module.state_dict()`. Read a file with
        `torch.load(path, weights_only=True)` or `safetensors.numpy.load_file(path)`.
      **fields: fields of the model that the state does not hold, e.g. `omega0=30`.

    Returns:
      The model, and its parameters with the dtypes of the state.

    Raises:
      InputError: another kind; a tensor is missing, unknown or of the wrong shape; the module has a
        structure that the model does not have, e.g. layers of several widths or, in a KAN, symbolic
        functions or scaled nodes.

    Example:
      >>> import jax, lrnn_jax as lj
      >>> model = lj.Siren(in_dim=2, out_dim=1, width=8, depth=2)
      >>> state = to_torch(model, model.init(jax.random.key(0)))
      >>> from_torch(lj.Siren, state)[0] == model
      True
    """
    _require_known(kind)
    arrays = {name: _array(value) for name, value in state.items()}
    if kind is KAN:
        return _kan_from(arrays, fields)
    return _chain_from(cast("type[Chain]", kind), arrays, fields)


def _require_known(kind: type) -> None:
    if kind not in (Siren, Finer, Gauss, Wire, Wire2D, KAN):
        raise InputError(
            f"{kind.__name__} has no layout of PyTorch: expected a Siren, Finer, Gauss, Wire, "
            "Wire2D or KAN"
        )


def _chain_from(
    kind: type[Chain], state: dict[str, np.ndarray], fields: dict[str, Any]
) -> tuple[Chain, Params]:
    sizes = _sizes(state, "net.{}.linear.weight", 0)
    depth = len(sizes) - 1
    if issubclass(kind, Wire | Wire2D):
        fields = _frequencies(state, depth) | fields
    model = kind(
        in_dim=sizes[0],
        out_dim=_required(state, f"net.{depth}.weight").shape[0],
        width=sizes[1],
        depth=depth,
        **fields,
    )
    maps = {
        f"{name}.{field}": (path, field)
        for name, path in _linear_maps(model).items()
        for field in ("weight", "bias")
    }
    _refuse_unknown(state, {*maps, *_constants(model, np.dtype(np.float32))})
    params: dict[str, Any] = {}
    for name, (path, field) in maps.items():
        entry = params
        for key in path:
            entry = entry.setdefault(key, {})
        value = _required(state, name).T
        if isinstance(model, Wire | Wire2D) and path[0] != "layer_0":
            entry |= {f"{field}_real": np.real(value), f"{field}_imag": np.imag(value)}
        else:
            entry[field] = value
    return model, _checked(model, params)


def _linear_maps(model: Chain) -> dict[str, tuple[str, ...]]:
    """The authors' names of the linear maps, and the paths of ours."""
    maps = {"": "linear"}
    if isinstance(model, Wire | Wire2D):
        own = model.plan()["layer_0"]
        maps = {ours: theirs for ours, theirs in _WAVELETS.items() if ours in own}
    layers = {
        f"net.{index}.{theirs}": (f"layer_{index}", *filter(None, [ours]))
        for index in range(model.depth)
        for ours, theirs in maps.items()
    }
    return layers | {f"net.{model.depth}": ("head",)}


def _constants(model: Any, dtype: np.dtype) -> dict[str, np.ndarray]:
    """The frequencies and inverse widths that WIRE's modules store as parameters."""
    if not isinstance(model, Wire | Wire2D):
        return {}
    first = model.omega0 if model.first_omega0 is None else model.first_omega0
    constants: dict[str, np.ndarray] = {}
    for index in range(model.depth):
        constants[f"net.{index}.omega_0"] = np.full(1, model.omega0 if index else first, dtype)
        constants[f"net.{index}.scale_0"] = np.full(1, model.sigma0, dtype)
    return constants


def _frequencies(state: Mapping[str, np.ndarray], depth: int) -> dict[str, float]:
    """The fields of a WIRE that its state holds."""
    values = {
        field: [_required(state, f"net.{index}.{field}").item() for index in range(depth)]
        for field in ("omega_0", "scale_0")
    }
    first, *hidden = values["omega_0"]
    if len(set(hidden)) > 1 or len(set(values["scale_0"])) > 1:
        raise InputError(
            "omega_0 and scale_0: expected equal values in all layers, but for the first omega_0, "
            f"got {values['omega_0']} and {values['scale_0']}"
        )
    omega0 = hidden[0] if hidden else first
    other = {} if first == omega0 else {"first_omega0": first}
    return {"omega0": omega0, "sigma0": values["scale_0"][0]} | other


def _kan_state(model: KAN, params: Params) -> dict[str, np.ndarray]:
    state: dict[str, np.ndarray] = {}
    for index in range(model.depth + 1):
        layer = params[f"layer_{index}"]
        weight = layer["base_weight"]
        arrays = {
            "grid": model.extended_knots(index).astype(weight.dtype),
            "coef": np.ascontiguousarray(layer["coefficients"].transpose(0, 2, 1)),
            "mask": np.ones_like(weight),
            "scale_base": weight,
            "scale_sp": layer["spline_weight"],
        }
        state |= {f"act_fun.{index}.{name}": value for name, value in arrays.items()}
    return state


def _kan_from(state: dict[str, np.ndarray], fields: dict[str, Any]) -> tuple[KAN, Params]:
    sizes = _sizes(state, "act_fun.{}.coef", 1)
    own = ("grid", "coef", "mask", "scale_base", "scale_sp")
    _refuse_unknown(
        {name: value for name, value in state.items() if not _is_neutral(name, value)},
        {f"act_fun.{index}.{name}" for index in range(len(sizes)) for name in own},
    )
    params, knots = {}, []
    for index in range(len(sizes)):
        layer = (_required(state, f"act_fun.{index}.{name}") for name in own)
        grid, coef, mask, base, spline = layer
        order = grid.shape[1] - coef.shape[2] - 1
        knots.append(tuple(tuple(row[order : len(row) - order].tolist()) for row in grid))
        params[f"layer_{index}"] = {
            "base_weight": base * mask,
            "spline_weight": spline * mask,
            "coefficients": coef.transpose(0, 2, 1),
        }
    model = KAN(
        in_dim=sizes[0],
        out_dim=params[f"layer_{len(sizes) - 1}"]["base_weight"].shape[1],
        width=sizes[-1] if len(sizes) > 1 else KAN.width,
        depth=len(sizes) - 1,
        intervals=len(knots[0][0]) - 1,
        order=order,
        knots=tuple(knots),
        **fields,
    )
    return model, _checked(model, params)


def _is_neutral(name: str, value: np.ndarray) -> bool:
    """Whether pykan stores an affine map or a symbolic function that changes nothing."""
    kind = name.split(".")[0].rstrip("0123456789_")
    if kind in ("node_bias", "subnode_bias") or (kind == "symbolic_fun" and name.endswith(".mask")):
        return not value.any()
    if kind in ("node_scale", "subnode_scale"):
        return bool(np.all(value == 1))
    return kind == "symbolic_fun"  # its functions are switched off by the mask


def _sizes(state: Mapping[str, np.ndarray], pattern: str, axis: int) -> list[int]:
    """The inputs and the width of layers that are named by consecutive numbers.

    Args:
      state: arrays by name.
      pattern: the name of a layer's weight.
      axis: its axis of outputs, 0 or 1; the other one of the first two has the inputs.

    Returns:
      The number of inputs, then that of the outputs of each layer; the last one is left out if the
      head is one of the layers (axis 1).
    """
    names = []
    while (name := pattern.format(len(names))) in state:
        names.append(name)
    if not names:
        raise InputError(f"the state has no {pattern.format(0)}: it belongs to another module")
    shapes = [np.shape(state[name]) for name in names]
    if any(len(shape) < 2 for shape in shapes):
        raise InputError(f"{names[0]}: expected an array with at least two axes")
    outputs = [shape[axis] for shape in shapes]
    hidden = outputs[:-1] if axis else outputs
    if len(set(hidden)) > 1:
        raise InputError(f"expected hidden layers of one width, got {hidden}")
    return [shapes[0][1 - axis], *hidden]


def _array(value: Any) -> np.ndarray:
    """A tensor of PyTorch, on any device, or an array, as a NumPy array."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().resolve_conj().numpy()
    return np.asarray(value)


def _required(state: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    if name not in state:
        raise InputError(f"the state has no {name}")
    return state[name]


def _refuse_unknown(state: Mapping[str, np.ndarray], known: set[str]) -> None:
    unknown = [name for name in state if name not in known]
    if unknown:
        raise InputError(f"the state has {unknown[0]}, which the model does not have")


def _checked(model: Exchanged, params: dict[str, Any]) -> Params:
    """The parameters as JAX arrays of their own dtypes, if they fit the model."""
    model.require_own(params)
    with jax.enable_x64(True):  # keeps float64
        return jax.tree.map(lambda leaf: jnp.asarray(np.ascontiguousarray(leaf)), params)


def _at(params: Params, path: tuple[str, ...]) -> dict[str, np.ndarray]:
    for key in path:
        params = params[key]
    return cast("dict[str, np.ndarray]", params)


def _complex(entry: Mapping[str, np.ndarray], field: str) -> np.ndarray:
    return entry[f"{field}_real"] + 1j * entry[f"{field}_imag"]
