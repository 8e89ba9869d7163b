"""WIRE and WIRE-2D in complex arithmetic, complex128.

Saragadam et al., CVPR 2023: psi(z) = exp(j omega0 z) exp(-|sigma0 z|^2) of complex z = W h + b,
real in the first layer; in 2-D the Gaussian is of |z|^2 + |z'|^2 of two such maps.
"""

import numpy as np


def _affine(params, h):
    if "weight" in params:
        weight, bias = params["weight"], params["bias"]
        return h @ np.asarray(weight, np.complex128) + np.asarray(bias)
    weight = np.asarray(params["weight_real"]) + 1j * np.asarray(params["weight_imag"])
    bias = np.asarray(params["bias_real"]) + 1j * np.asarray(params["bias_imag"])
    return h @ weight.astype(np.complex128) + bias


def wire(model, params, x):
    """y(x) for points (n, in_dim); "envelope" is the second map of WIRE-2D."""
    h = np.asarray(x, np.complex128)
    for index in range(model.depth):
        p = params[f"layer_{index}"]
        z = _affine(p["wave"], h)
        orthogonal = _affine(p["envelope"], h) if "envelope" in p else 0
        gaussian = np.exp(-(model.sigma0**2) * (np.abs(z) ** 2 + np.abs(orthogonal) ** 2))
        omega0 = model.first_omega0 if index == 0 and model.first_omega0 else model.omega0
        h = np.exp(1j * omega0 * z) * gaussian
    return _affine(params["head"], h).real
