"""Fitted fields as programs that run without this package: StableHLO and ONNX."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import export

from lrnn_jax.errors import InputError
from lrnn_jax.fields import BoundModel, precision_of
from lrnn_jax.io import extra
from lrnn_jax.kernels.activations import without_bit_operations

__all__ = ["to_onnx", "to_stablehlo"]

_PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def to_stablehlo(field: BoundModel, platforms: Sequence[str] = ("cpu", "cuda", "tpu")) -> bytes:
    """Serialise u(x) with `jax.export`, for any number of points.

    The program takes points (n, in_dim) and returns values (n, out_dim), in the dtype of the
    parameters, which are constants of it. It needs JAX and flatbuffers alone:
    `jax.export.deserialize(content).call(x)`. JAX promises that a program can be loaded by
    releases up to six months younger than the one that wrote it.

    Args:
      field: the model with its parameters, e.g. `lj.load_run(folder).field`.
      platforms: what the program is compiled for: 'cpu', 'cuda', 'rocm' or 'tpu'.

    Returns:
      The serialised program.

    Raises:
      InputError: an unknown platform, or flatbuffers is not installed.

    Example:
      >>> import lrnn_jax as lj
      >>> model = lj.Siren(in_dim=2, out_dim=1, width=8)
      >>> field = lj.BoundModel(model, model.init(jax.random.key(0)))
      >>> program = export.deserialize(bytearray(to_stablehlo(field)))
      >>> program.call(jnp.zeros((5, 2))).shape
      (5, 1)
    """
    unknown = [name for name in platforms if name not in _PLATFORMS]
    if unknown or not platforms:
        raise InputError(f"platforms: expected some of {list(_PLATFORMS)}, got {list(platforms)}")
    extra("flatbuffers", "stablehlo")  # of `serialize`
    with precision_of(field):
        points = jax.ShapeDtypeStruct(
            export.symbolic_shape(f"n, {_model(field).in_dim}"), _dtype(field)
        )
        return bytes(export.export(jax.jit(field), platforms=platforms)(points).serialize())


def to_onnx(field: BoundModel) -> bytes:
    """Convert u(x) to an ONNX model, for any number of points.

    The model takes points (n, in_dim) and returns values (n, out_dim) in the dtype of the
    parameters. Values agree with those of JAX up to rounding: to 1e-5 of the largest value in
    float32. The conversion is that of jax2onnx: `pip install 'lrnn-jax[onnx]'`.

    Args:
      field: the model with its parameters, e.g. `lj.load_run(folder).field`.

    Returns:
      The content of an `.onnx` file.

    Raises:
      InputError: jax2onnx is not installed, does not work with this release of JAX, or cannot
        convert an operation of the model.
    """
    convert = extra("jax2onnx", "onnx").to_onnx

    def values(x: jax.Array) -> jax.Array:
        return field(x)

    double = _dtype(field) == jnp.float64
    try:
        with precision_of(field), without_bit_operations():
            content: Any = convert(
                values,
                [("n", _model(field).in_dim)],
                input_names=["x"],
                output_names=["u"],
                enable_double_precision=double,
            )
    except (AttributeError, ImportError, NotImplementedError, TypeError) as error:
        raise InputError(
            f"jax2onnx cannot convert {type(field.model).__name__} with jax {jax.__version__}: "
            f"{error}; pip install 'lrnn-jax[onnx]' takes releases that work together"
        ) from error
    return content.SerializeToString()


def _model(field: BoundModel) -> Any:
    if not hasattr(field.model, "in_dim"):
        raise InputError("the model has no in_dim, so the shape of its points is not known")
    return field.model


def _dtype(field: BoundModel) -> Any:
    return jnp.result_type(*jax.tree.leaves(field.params))
