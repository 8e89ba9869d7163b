"""Differential operators of fields: callables in, callables out."""

from lrnn_jax.operators.derivatives import (
    biharmonic,
    curl,
    divergence,
    grad,
    jacobian,
    material_derivative,
    partial,
    time_derivative,
)
from lrnn_jax.operators.laplacians import Method, laplacian

__all__ = [
    "Method",
    "biharmonic",
    "curl",
    "divergence",
    "grad",
    "jacobian",
    "laplacian",
    "material_derivative",
    "partial",
    "time_derivative",
]
