"""Optimizers that optax lacks, as optax transformations: second-order ones, SOAP and phases.

Each is called with what it needs, and ignores the rest:

    updates, state = opt.update(
        grads, state, params, value=loss, value_fn=value_fn, linearise_fn=linearise_fn
    )
    params = optax.apply_updates(params, updates)

`value_fn(params)` is the loss, `value` the loss at `params`, and `linearise_fn(params)` the
residuals r, shape (N,), whose squares sum to the loss, and their Jacobian J, shape (N, P), by the
parameters in the order of `jax.flatten_util.ravel_pytree`. The loss may change between two calls.
A state is a tree of arrays whose shapes and dtypes never change; those of the second-order
optimizers have a field `result`, see `Result`.
"""

from lrnn_jax.optimizers.factorization import FactorizedState, factorize_weights
from lrnn_jax.optimizers.gauss_newton import (
    GaussNewtonState,
    LevenbergMarquardtState,
    levenberg_marquardt,
    natural_gradient,
)
from lrnn_jax.optimizers.phases import SwitchState, switch
from lrnn_jax.optimizers.quasi_newton import (
    LBFGSState,
    SSBroydenState,
    lbfgs,
    ssbroyden,
)
from lrnn_jax.optimizers.soap import SoapState, soap
from lrnn_jax.optimizers.stopping import Result, result_of

__all__ = [
    "FactorizedState",
    "GaussNewtonState",
    "LBFGSState",
    "LevenbergMarquardtState",
    "Result",
    "SSBroydenState",
    "SoapState",
    "SwitchState",
    "factorize_weights",
    "lbfgs",
    "levenberg_marquardt",
    "natural_gradient",
    "result_of",
    "soap",
    "ssbroyden",
    "switch",
]
