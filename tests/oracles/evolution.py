"""Equations in time solved another way: other bases in space, SciPy's integrators in time."""

import numpy as np
import scipy.fft
from scipy.integrate import solve_ivp

PRECISE = {"method": "DOP853", "rtol": 1e-11, "atol": 1e-12, "first_step": 1e-4}


def burgers(t, viscosity, count=128):
    """Chebyshev collocation on [-1, 1], its ends held at 0: nodes (n,) and u (n, t)."""
    slope, nodes = chebyshev(count)
    curvature = (slope @ slope)[1:-1, 1:-1]

    def rate(_, u):
        return viscosity * curvature @ u - u * (slope[1:-1, 1:-1] @ u)

    start = -np.sin(np.pi * nodes[1:-1])
    stiff = {"method": "Radau", "rtol": 1e-9, "atol": 1e-11}
    u = solve_ivp(rate, (0, t[-1]), start, t_eval=t, **stiff).y
    return nodes, np.pad(u, ((1, 1), (0, 0)))


def chebyshev(count):
    """The differentiation matrix and the points cos(pi j / n), j = 0..n."""
    nodes = np.cos(np.pi * np.arange(count + 1) / count)
    scale = np.r_[2.0, np.ones(count - 1), 2.0] * (-1.0) ** np.arange(count + 1)
    matrix = np.outer(scale, 1 / scale) / (nodes[:, None] - nodes + np.eye(count + 1))
    return matrix - np.diag(matrix.sum(axis=1)), nodes


def burgers_by_hermite(x, t, viscosity, count=100):
    """Cole-Hopf with Gauss-Hermite quadrature at one time, as Basdevant et al. (1986)."""
    nodes, weights = np.polynomial.hermite.hermgauss(count)
    angles = np.pi * (x[:, None] - np.sqrt(4 * viscosity * t) * nodes)
    mass = weights * np.exp(-(np.cos(angles) + 1) / (2 * np.pi * viscosity))
    return -np.sum(np.sin(angles) * mass, axis=1) / np.sum(mass, axis=1)


def allen_cahn(t, diffusion, reaction, count):
    """Cosines on [0, 1], where the even solution lives: places (n + 1,) and u (n + 1, t).

    They start from the exact cosine coefficients of x^2 cos(pi x).
    """
    k = np.arange(count + 1)
    moments = np.r_[1 / 3, 2 * (-1.0) ** k[1:] / (np.pi * k[1:]) ** 2]  # of x^2 cos(k pi x)
    start = np.r_[moments[1], moments[np.abs(k[1:-1] - 1)] + moments[2:]]
    start = np.r_[start, 0.0]

    def values(c):
        return scipy.fft.dct(np.r_[c[0], c[1:-1] / 2, c[-1]], type=1)

    def rate(_, c):
        u = values(c)
        cube = scipy.fft.dct(u * u * u, type=1) / count
        cube[[0, -1]] /= 2
        return (reaction - diffusion * (np.pi * k) ** 2) * c - reaction * cube

    c = solve_ivp(rate, (0, t[-1]), start, t_eval=t, **PRECISE).y
    return k / count, np.stack([values(column) for column in c.T], axis=1)


def korteweg_de_vries(t, eta, mu, count=48):
    """Collocation with differentiation matrices at n places of [-1, 1): places and u (n, t)."""
    places = -1 + 2 * np.arange(count) / count
    k = np.pi * np.fft.fftfreq(count, 1 / count)
    k[count // 2] = 0
    wave = np.exp(1j * np.outer(places, k)) / count
    slope = (wave @ np.diag(1j * k) @ wave.conj().T * count).real
    third = slope @ slope @ slope

    def rate(_, u):
        return -eta * u * (slope @ u) - mu**2 * (third @ u)

    return places, solve_ivp(rate, (0, t[-1]), np.cos(np.pi * places), t_eval=t, **PRECISE).y


def reaction_diffusion(t, diffusion, rate, steps, count=2048):
    """Strang's splitting, extrapolated: half a logistic step, heat, half a logistic step."""
    places = 2 * np.pi * np.arange(count) / count
    k = np.fft.rfftfreq(count, 1 / count)

    def split(steps):
        u, found, step = np.exp(-8 * (places / np.pi - 1) ** 2), [], t[-1] / steps
        heat, grow = np.exp(-diffusion * k**2 * step), np.exp(rate * step / 2)
        for index in range(steps + 1):
            if np.isclose(t, index * step, atol=step / 4).any():
                found.append(u)
            u = u * grow / (1 + u * (grow - 1))
            u = np.fft.irfft(np.fft.rfft(u) * heat, count)
            u = u * grow / (1 + u * (grow - 1))
        return np.stack(found, axis=1)

    return places, (4 * split(2 * steps) - split(steps)) / 3
