"""Partial differential equations as training problems for physics-informed networks."""

from lrnn_jax.domains import Box
from lrnn_jax.pde.conditions import (
    Condition,
    dirichlet,
    initial,
    initial_velocity,
    measured,
    neumann,
    periodic,
)
from lrnn_jax.pde.custom import Equation
from lrnn_jax.pde.elliptic import Helmholtz, Poisson
from lrnn_jax.pde.equation import PDE, TestPoints
from lrnn_jax.pde.evolution import (
    AllenCahn,
    Burgers,
    Convection,
    Heat,
    KortewegDeVries,
    ReactionDiffusion,
    Wave,
)
from lrnn_jax.pde.flow import Kovasznay, TaylorGreen

__all__ = [
    "PDE",
    "AllenCahn",
    "Box",
    "Burgers",
    "Condition",
    "Convection",
    "Equation",
    "Heat",
    "Helmholtz",
    "KortewegDeVries",
    "Kovasznay",
    "Poisson",
    "ReactionDiffusion",
    "TaylorGreen",
    "TestPoints",
    "Wave",
    "dirichlet",
    "initial",
    "initial_velocity",
    "measured",
    "neumann",
    "periodic",
]
