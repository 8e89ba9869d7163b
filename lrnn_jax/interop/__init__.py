"""Exchange of fitted fields with other tools: StableHLO, ONNX, PyTorch, xarray, VTK."""

from lrnn_jax.grids import to_xarray, write_vti
from lrnn_jax.interop.programs import to_onnx, to_stablehlo
from lrnn_jax.interop.torch import from_torch, to_torch

__all__ = ["from_torch", "to_onnx", "to_stablehlo", "to_torch", "to_xarray", "write_vti"]
