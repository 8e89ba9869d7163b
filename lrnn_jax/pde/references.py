"""Reference solutions u(x, t) in float64 on the host, each with its measured accuracy.

Axis letters: `x` positions, `t` times, `k` Fourier modes 0, 1, ..., K of a real field of period P,

    u(x) = c_0 + 2 Re sum_{k >= 1} c_k exp(2 pi i k (x - low) / P),

`q` quadrature points. Every spectral reference evolves a fixed, fine set of modes, steps exactly to
each requested time and evaluates the trigonometric sum at each requested position. The values
therefore do not depend on the requested grid.

Every reference takes two or more positions x of its interval, in any order, and two or more
increasing times t, the first >= 0, and returns u at every position and time. The spectral ones also
take the number K of Fourier modes, `modes`, and the number of time steps per unit of t, `steps`.
They raise InputError if an argument is out of its range, or if the modes do not resolve the
solution at the last time: a small coefficient of the highest derivative needs more modes.
"""

import functools
import math
import numbers
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Complex, Float, Num

from lrnn_jax.errors import InputError

__all__ = [
    "allen_cahn",
    "burgers",
    "etdrk4",
    "evaluate",
    "korteweg_de_vries",
    "pointwise",
    "reaction_diffusion",
    "spectrum",
]

Coefficients = Complex[np.ndarray, " k"]
Profile = Callable[[np.ndarray], np.ndarray]

CONTOUR = 32  # points on the circle in `_phi`; with 32 the mean is exact to rounding
SAMPLES = 2**18  # samples of a profile; a slope jump of 1 then has an aliasing error of 1e-11
RESOLVED = 1e-9  # largest allowed size of the last eighth of the modes, relative to the largest


# Exponential integration --------------------------------------------------------------------------


def etdrk4(
    symbol: Num[ArrayLike, " k"],
    nonlinear: Callable[[Coefficients], Coefficients],
    initial: Num[ArrayLike, " k"],
    *,
    times: Float[ArrayLike, " t"],
    steps: int,
) -> Complex[np.ndarray, "t k"]:
    """Solves dc/dt = L c + N(c) with a diagonal L, at fourth order, for any stiffness of L.

    One step of length h, with z = h L, e = exp(z / 2) and phi_1(z) = (exp(z) - 1) / z,
    phi_2(z) = (phi_1(z) - 1) / z, phi_3(z) = (phi_2(z) - 1/2) / z:

        a = e c + h/2 phi_1(z/2) N(c)
        b = e c + h/2 phi_1(z/2) N(a)
        d = e a + h/2 phi_1(z/2) (2 N(b) - N(c))
        c <- exp(z) c + h ((phi_1 - 3 phi_2 + 4 phi_3) N(c)
                           + (2 phi_2 - 4 phi_3) (N(a) + N(b)) + (4 phi_3 - phi_2) N(d))

    It is exact if N = 0. The phi are computed as means over a circle around z, which avoids
    cancellation.

    Args:
      symbol: L for each mode: -nu k^2 for diffusion, i k^3 for -u_xxx.
      nonlinear: N, maps coefficients to coefficients; `pointwise` makes one without aliasing.
      initial: the coefficients at time 0, e.g. from `spectrum`.
      times: one or more increasing times, >= 0; the first may be 0.
      steps: number of steps from 0 to the last time. The interval before each time is divided into
        equal steps no longer than times[-1] / steps, so each time is reached exactly.

    Returns:
      The coefficients at each time.

    Raises:
      InputError: shapes differ, times are negative or not increasing, `steps` is not an integer
        >= 1, or the solution overflows.

    Example:
      >>> decay = etdrk4([-1.0], lambda c: 0 * c, [1.0], times=[0.0, 1.0], steps=1)
      >>> decay.real.round(6).ravel().tolist()
      [1.0, 0.367879]

    References: the scheme is from Cox and Matthews, "Exponential Time Differencing for Stiff
    Systems", J. Comput. Phys. 176 (2002); the circle is from Kassam and Trefethen, "Fourth-Order
    Time-Stepping for Stiff PDEs", SIAM J. Sci. Comput. 26 (2005).
    """
    rates, state = np.asarray(symbol), np.asarray(initial, np.complex128)
    if rates.ndim != 1 or rates.shape != state.shape:
        raise InputError(
            f"symbol, initial: expected two equal shapes (k,), got {rates.shape} and {state.shape}"
        )
    when = _require_times("times", times, least=1)
    _require_count("steps", steps)
    weights = functools.cache(lambda step: _weights(rates, step))
    states = []
    with np.errstate(over="ignore", invalid="ignore"):
        for gap in np.diff(when, prepend=0.0):
            count = math.ceil(gap / when[-1] * steps * (1 - 1e-12)) if gap else 0
            for _ in range(count):
                state = _step(state, nonlinear, *weights(float(gap) / count))
            states.append(state)
    if not np.isfinite(state).all():
        raise InputError(
            f"steps: the solution overflows with {steps} steps, take "
            "more of them or an equation that smooths more"
        )
    return np.stack(states)


def _step(c: Coefficients, nonlinear, decay, half, slope, first, middle, last) -> Coefficients:
    """One step of `etdrk4`, in its notation; the last six arguments come from `_weights`."""
    n_c = nonlinear(c)
    a = half * c + slope * n_c
    n_a = nonlinear(a)
    b = half * c + slope * n_a
    n_b = nonlinear(b)
    n_d = nonlinear(half * a + slope * (2 * n_b - n_c))
    return decay * c + first * n_c + middle * (n_a + n_b) + last * n_d


def _weights(rates: np.ndarray, step: float) -> tuple[np.ndarray, ...]:
    """exp(z), exp(z/2), and the factors of N in the stages and the sum; z = step * rates."""
    z = step * rates
    phi_1, phi_2, phi_3 = _phi(z)
    sums = (phi_1 - 3 * phi_2 + 4 * phi_3, 2 * phi_2 - 4 * phi_3, 4 * phi_3 - phi_2)
    slope = step / 2 * _phi(z / 2)[0]
    return (np.exp(z), np.exp(z / 2), slope, *(step * weight for weight in sums))


def _phi(z: np.ndarray) -> list[np.ndarray]:
    """phi_1, phi_2, phi_3 as means over the circle |w - z| = 1; its points avoid both axes."""
    turns = (np.arange(CONTOUR) + 0.5) / CONTOUR
    w = z[:, None] + np.exp(2j * np.pi * turns)
    values, phi = [], np.exp(w)
    for limit in (1, 1, 1 / 2):
        phi = (phi - limit) / w
        values.append(phi.mean(axis=1))
    return values if np.iscomplexobj(z) else [value.real for value in values]


# Fourier series of real fields --------------------------------------------------------------------


def spectrum(profile: Profile, low: float, period: float, modes: int) -> Coefficients:
    """The coefficients c_0, ..., c_K of a profile on [low, low + period), K = `modes`.

    They are sums over 2^18 samples, truncated after mode K. A profile whose slope jumps by 1 has an
    aliasing error of only 1e-11.

    Args:
      profile: an elementwise function of position.
      low: lower end of the interval.
      period: length of the interval.
      modes: K, less than 2^17.

    Example:
      >>> spectrum(lambda x: 1 + np.cos(x), 0.0, 2 * np.pi, 2).real.round(6).tolist()
      [1.0, 0.5, 0.0]
    """
    _require_count("modes", modes)
    places = low + period * (np.arange(SAMPLES) / SAMPLES)
    return np.fft.rfft(profile(places), norm="forward")[: modes + 1]


def pointwise(
    function: Profile, *, degree: int, modes: int
) -> Callable[[Coefficients], Coefficients]:
    """The map c -> coefficients of function(u), free of aliasing for a polynomial of u.

    A product of `degree` fields with modes up to K has modes up to degree * K. On more than
    (degree + 1) K grid points, none of them is aliased to the first K modes. For degree 2 this is
    the 2/3 rule.

    Args:
      function: an elementwise polynomial of u.
      degree: its degree, >= 1.
      modes: K.

    Example:
      >>> square = pointwise(lambda u: u**2, degree=2, modes=2)
      >>> square(np.array([0, 0.5, 0])).real.tolist()  # cos^2 = 1/2 + 1/2 cos(2 x)
      [0.5, 0.0, 0.25]

    References: Orszag, "On the Elimination of Aliasing in Finite-Difference Schemes by Filtering
    High-Wavenumber Components", J. Atmos. Sci. 28 (1971).
    """
    _require_count("degree", degree)
    _require_count("modes", modes)
    places = _fast_length((degree + 1) * modes + 1)

    def apply(c: Coefficients) -> Coefficients:
        u = np.fft.irfft(c, places, norm="forward")
        return np.fft.rfft(function(u), norm="forward")[: modes + 1]

    return apply


def evaluate(
    coefficients: Complex[np.ndarray, "t k"], angles: Float[ArrayLike, " x"]
) -> Float[np.ndarray, "x t"]:
    """u at the angles 2 pi (x - low) / P, by the sum in the docstring of this module.

    Example:
      >>> evaluate(np.array([[1, 0.5j]]), [np.pi / 2])
      array([[0.]])
    """
    waves = np.exp(1j * np.asarray(angles)[:, None] * np.arange(coefficients.shape[1]))
    twice = np.where(np.arange(coefficients.shape[1]), 2.0, 1.0)
    return (waves @ (twice * coefficients).T).real


def _fast_length(least: int) -> int:
    """The smallest even 2^a 3^b 5^c that is >= least."""
    length = least + least % 2
    while 30**20 % length:
        length += 2
    return length


# Equations ----------------------------------------------------------------------------------------


def allen_cahn(
    x: Float[ArrayLike, " x"],
    t: Float[ArrayLike, " t"],
    *,
    diffusion: float,
    reaction: float,
    modes: int = 1024,
    steps: int = 800,
) -> Float[np.ndarray, "x t"]:
    """u_t = D u_xx + r (u - u^3) on [-1, 1], periodic, from u(x, 0) = x^2 cos(pi x).

    The profile is periodic, but its slope jumps at x = 1 from -2 to 2. Diffusion smooths this
    corner: mode k decays in the time 1 / (D pi^2 k^2). The truncated modes cause an error near
    x = 1 until they have decayed.

    Accuracy of the defaults, found by quadrupling the modes and the steps: 4e-10 at every position
    for t in [0.01, 1]. At earlier times the error is larger, but only within 0.01 of x = 1: 3e-5 at
    t = 0.001 and 3e-4 at 1e-5; 2048 modes reduce these to 3e-7 and 1e-4. At t = 0 the profile
    itself is returned.

    Args:
      diffusion: D > 0.
      reaction: r > 0.

    Example:
      >>> allen_cahn([0.0, 1.0], [0.0, 1.0], diffusion=1e-4, reaction=5.0).round(6)
      array([[ 0.      ,  0.02958 ],
             [-1.      , -0.999999]])

    References: Raissi, Perdikaris and Karniadakis, "Physics-Informed Neural Networks", J. Comput.
    Phys. 378 (2019).
    """
    _require_positive(diffusion=diffusion, reaction=reaction)
    return _evolve(
        _require_grid(x, t, -1.0, 1.0),
        _Interval(-1.0, 2.0, lambda places: places**2 * np.cos(np.pi * places)),
        symbol=lambda k: reaction - diffusion * k**2,
        nonlinear=lambda k: pointwise(lambda u: -reaction * u * u * u, degree=3, modes=modes),
        modes=modes,
        steps=steps,
    )


def korteweg_de_vries(
    x: Float[ArrayLike, " x"],
    t: Float[ArrayLike, " t"],
    *,
    eta: float,
    mu: float,
    modes: int = 192,
    steps: int = 12_000,
) -> Float[np.ndarray, "x t"]:
    """u_t + eta u u_x + mu^2 u_xxx = 0 on [-1, 1], periodic, from u(x, 0) = cos(pi x).

    The wave steepens and breaks up into solitons. The mass, the integral of u, is conserved
    exactly. The momentum, the integral of u^2, is conserved to the accuracy of the solution.

    Accuracy of the defaults for t in [0, 1], found by taking twice the modes and 5 times the
    steps: 2e-13 up to t = 0.1, while the wave is smooth, 1e-10 at 0.5 and 5e-10 at 1. With 32,000
    steps per unit of t the error is 4e-11, limited by rounding of the phases of the fast modes.

    Args:
      eta: coefficient of the advection term, > 0.
      mu: square root of the dispersion coefficient, > 0.

    Example:
      >>> korteweg_de_vries([-1.0, 0.0], [0.0, 1.0], eta=1.0, mu=0.022).round(6)
      array([[-1.      , -0.315736],
             [ 1.      , -0.65159 ]])

    References: Zabusky and Kruskal, "Interaction of Solitons in a Collisionless Plasma and the
    Recurrence of Initial States", Phys. Rev. Lett. 15 (1965); their period is [0, 2).
    """
    _require_positive(eta=eta, mu=mu)

    def advection(k: np.ndarray) -> Callable[[Coefficients], Coefficients]:
        square = pointwise(lambda u: u * u, degree=2, modes=modes)
        return lambda c: (-0.5j * eta * k) * square(c)

    return _evolve(
        _require_grid(x, t, -1.0, 1.0),
        _Interval(-1.0, 2.0, lambda places: np.cos(np.pi * places)),
        symbol=lambda k: 1j * mu**2 * k**3,
        nonlinear=advection,
        modes=modes,
        steps=steps,
    )


def reaction_diffusion(
    x: Float[ArrayLike, " x"],
    t: Float[ArrayLike, " t"],
    *,
    diffusion: float,
    rate: float,
    modes: int = 128,
    steps: int = 2000,
) -> Float[np.ndarray, "x t"]:
    """u_t = nu u_xx + rho u (1 - u) on [0, 2 pi], periodic, from a Gaussian of width pi / 4.

    u(x, 0) = exp(-(x - pi)^2 / (2 (pi / 4)^2)), whose slope jumps by 0.003 at x = 0.

    Accuracy of the defaults for t >= 0.001, found by taking 16 times the modes and 4 times the
    steps: 2e-12; near x = 0 it is 1e-10 at t = 1e-4 and 1e-6 at 1e-5.

    Args:
      diffusion: nu > 0.
      rate: rho > 0.

    Example:
      >>> reaction_diffusion([0.0, np.pi], [0.0, 0.5], diffusion=5.0, rate=5.0).round(6)
      array([[3.35000e-04, 7.79875e-01],
             [1.00000e+00, 8.35728e-01]])

    References: Krishnapriyan et al., "Characterizing Possible Failure Modes in Physics-Informed
    Neural Networks", NeurIPS 2021. They use operator splitting. Here the
    full equation is integrated, so there is no splitting error.
    """
    _require_positive(diffusion=diffusion, rate=rate)
    width = np.pi / 4
    return _evolve(
        _require_grid(x, t, 0.0, 2 * np.pi),
        _Interval(0.0, 2 * np.pi, lambda places: np.exp(-(((places - np.pi) / width) ** 2) / 2)),
        symbol=lambda k: rate - diffusion * k**2,
        nonlinear=lambda k: pointwise(lambda u: -rate * u * u, degree=2, modes=modes),
        modes=modes,
        steps=steps,
    )


def burgers(
    x: Float[ArrayLike, " x"], t: Float[ArrayLike, " t"], *, viscosity: float
) -> Float[np.ndarray, "x t"]:
    """u_t + u u_x = nu u_xx on [-1, 1], u(-1) = u(1) = 0, from u(x, 0) = -sin(pi x).

    By the Cole-Hopf transform, u is the mean of -sin(pi (x - y)) over y with the weight

        exp(-cos(pi (x - y)) / (2 pi nu) - y^2 / (4 nu t)),

    computed here as a sum over equally spaced y. There is no cancellation, so the accuracy at small
    t and in the shock is the same as elsewhere.

    Accuracy, found by halving the spacing: 1e-13 for nu in [1e-6, 10] and t in [1e-8, 20].

    Args:
      viscosity: nu > 0; the cost grows as nu^(-1/2).

    Example:
      >>> burgers([-0.5, 0.5], [0.0, 1.0], viscosity=0.01 / math.pi).round(6)
      array([[ 1.      ,  0.376181],
             [-1.      , -0.376181]])

    References: Basdevant et al., "Spectral and Finite Difference Solutions of the Burgers
    Equation", Computers & Fluids 14 (1986). They use Gauss-Hermite quadrature around y = 0,
    but the weight peaks at y = u t, and in the shock at two values of y. With 100 points their
    error is 0.3 for nu = 0.001 / pi at t = 1. Equal steps over the full support of the weight avoid
    this; see Trefethen and Weideman, "The Exponentially Convergent Trapezoidal Rule", SIAM Review
    56 (2014).
    """
    places, times = _require_grid(x, t, -1.0, 1.0)
    _require_positive(viscosity=viscosity)
    return np.stack([_cole_hopf(places, time, viscosity) for time in times], axis=1)


def _cole_hopf(x: np.ndarray, t: float, viscosity: float) -> np.ndarray:
    """The Cole-Hopf mean in `burgers` at one time.

    The weight is nowhere narrower than a Gaussian of standard deviation `width`. Beyond `reach` it
    is below exp(-40) of its maximum, because characteristics start at most a distance t away.
    """
    if t == 0:
        return -np.sin(np.pi * x)
    width = math.sqrt(2 * viscosity * t / (1 + math.pi * t))
    reach = t + math.sqrt(160 * viscosity * t)
    count = math.ceil(reach / min(0.6 * width, 0.1))
    y = reach * (np.arange(-count, count + 1) / count)
    angles = np.pi * (x[:, None] - y)
    exponent = -np.cos(angles) / (2 * np.pi * viscosity) - y**2 / (4 * viscosity * t)
    weight = np.exp(exponent - exponent.max(axis=1, keepdims=True))
    return -np.sum(np.sin(angles) * weight, axis=1) / np.sum(weight, axis=1)


class _Interval(NamedTuple):
    """A periodic interval and the initial profile on it."""

    low: float
    period: float
    profile: Profile


def _evolve(
    grid: tuple[np.ndarray, np.ndarray],
    interval: _Interval,
    *,
    symbol: Callable[[np.ndarray], np.ndarray],
    nonlinear: Callable[[np.ndarray], Callable[[Coefficients], Coefficients]],
    modes: int,
    steps: int,
) -> np.ndarray:
    """u on the grid; `symbol` and `nonlinear` receive the wavenumbers 2 pi k / P."""
    x, t = grid
    _require_count("modes", modes)
    _require_count("steps", steps)
    low, period, profile = interval
    k = 2 * np.pi / period * np.arange(modes + 1)
    start = spectrum(profile, low, period, modes)
    total = math.ceil(steps * t[-1])
    c = etdrk4(symbol(k), nonlinear(k), start, times=t, steps=total)
    sizes = np.abs(c[-1])
    if sizes[-(modes // 8 + 1) :].max() > RESOLVED * sizes.max():
        raise InputError(
            f"modes: {modes} do not resolve the solution at t = {t[-1]}, take "
            "more of them or an equation that smooths more"
        )
    u = evaluate(c, 2 * np.pi / period * (x - low))
    return np.where(t == 0, profile(x)[:, None], u)


# Checks -------------------------------------------------------------------------------------------


def _require_count(name: str, value: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError(f"{name}: expected an integer >= 1, got {value!r}")


def _require_positive(**values: float) -> None:
    for name, value in values.items():
        real = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if not real or not math.isfinite(value) or value <= 0:
            raise InputError(f"{name}: expected a finite number > 0, got {value!r}")


def _require_line(name: str, values: ArrayLike, least: int) -> np.ndarray:
    """Checks and returns a 1-D float64 array of at least `least` finite numbers."""
    try:
        line = np.asarray(values).astype(np.float64, casting="same_kind")
    except (TypeError, ValueError):
        raise InputError(f"{name}: expected real numbers, got {values!r:.50}") from None
    if line.ndim != 1 or len(line) < least:
        raise InputError(f"{name}: expected {least} or more along one axis, got {line.shape}")
    if not np.isfinite(line).all():
        raise InputError(f"{name}: expected finite numbers, got {line[~np.isfinite(line)][0]}")
    return line


def _require_times(name: str, values: ArrayLike, least: int) -> np.ndarray:
    line = _require_line(name, values, least)
    if line[0] < 0 or (np.diff(line) <= 0).any():
        raise InputError(f"{name}: expected increasing times >= 0, got {line[0]} to {line[-1]}")
    return line


def _require_grid(
    x: ArrayLike, t: ArrayLike, low: float, high: float
) -> tuple[np.ndarray, np.ndarray]:
    """Checks and returns positions in [low, high], with float32 tolerance, and times."""
    places = _require_line("x", x, least=2)
    slack = 1e-6 * (high - low)
    outside = places[(places < low - slack) | (places > high + slack)]
    if len(outside):
        raise InputError(f"x: expected places in [{low:g}, {high:g}], got {outside[0]:g}")
    return places, _require_times("t", t, least=2)
