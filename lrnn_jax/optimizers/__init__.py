"""Optax transformations that optax does not provide: second-order methods, SOAP, `switch`.

All are called in the same way. Each uses the arguments that it needs and ignores the others:

    updates, state = opt.update(
        grads, state, params, value=loss, value_fn=value_fn, linearise_fn=linearise_fn
    )
    params = optax.apply_updates(params, updates)

* `value_fn(params)` returns the loss, and `value` is the loss at `params`.
* `linearise_fn(params)` returns the residuals r, shape (N,), whose squares sum to the loss, and
  their Jacobian J, shape (N, P), with respect to the parameters in the order of
  `jax.flatten_util.ravel_pytree`.

The loss may change between two calls. The state is a pytree of arrays whose shapes and dtypes never
change. The states of the second-order optimizers have a field `result`, see `Result`. They stop

* if no entry of the gradient of the loss is larger in absolute value than `gradient_tolerance`,
  >= 0; None is the machine epsilon of the parameters' dtype: 2.2e-16 in float64, 1.2e-7 in float32;
* if the loss is not larger than `loss_tolerance`, >= 0;
* for the other reasons that `Result` lists.

A constructor raises `InputError` if an argument has the wrong type or is out of its range, `init`
if a parameter is not real, and `update` if an argument that the optimizer needs is missing.
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
