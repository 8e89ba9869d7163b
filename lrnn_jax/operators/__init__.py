"""Differential operators: each takes a field and returns a function of one point."""

from lrnn_jax.operators.derivatives import (
    biharmonic,
    curl,
    derivative,
    divergence,
    grad,
    jacobian,
    material_derivative,
    time_derivative,
)
from lrnn_jax.operators.laplacians import Method, laplacian

__all__ = [
    "Method",
    "biharmonic",
    "curl",
    "derivative",
    "divergence",
    "grad",
    "jacobian",
    "laplacian",
    "material_derivative",
    "time_derivative",
]
