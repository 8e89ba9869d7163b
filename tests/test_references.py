"""Reference solutions against other methods, and closed ones against their equations."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import evolution, fronts

from lrnn_jax import InputError
from lrnn_jax.pde import references, solutions
from lrnn_jax.pde.references import etdrk4, evaluate, pointwise, spectrum

# The constants that the accuracies in the docstrings are stated for.
allen_cahn = functools.partial(references.allen_cahn, diffusion=1e-4, reaction=5.0)
burgers = functools.partial(references.burgers, viscosity=0.01 / np.pi)
korteweg_de_vries = functools.partial(references.korteweg_de_vries, eta=1.0, mu=0.022)
reaction_diffusion = functools.partial(references.reaction_diffusion, diffusion=5.0, rate=5.0)

TIMES = np.array([0.0, 0.01, 0.1, 0.5, 1.0])
REFERENCES = {
    "allen_cahn": (allen_cahn, -1.0, 1.0, lambda x: x**2 * np.cos(np.pi * x)),
    "burgers": (burgers, -1.0, 1.0, lambda x: -np.sin(np.pi * x)),
    "korteweg_de_vries": (korteweg_de_vries, -1.0, 1.0, lambda x: np.cos(np.pi * x)),
    "reaction_diffusion": (
        reaction_diffusion,
        0.0,
        2 * np.pi,
        lambda x: np.exp(-((x - np.pi) ** 2) / (np.pi**2 / 8)),
    ),
}
each_reference = pytest.mark.parametrize("name", REFERENCES)


def still(c):
    """No nonlinear part."""
    return np.zeros_like(c)


def advection(k, modes, eta=1.0):
    """-eta u u_x on coefficients."""
    square = pointwise(np.square, degree=2, modes=modes)
    return lambda c: -0.5j * eta * k * square(c)


# The integrator -----------------------------------------------------------------------------------


def burgers_error(steps, modes=96, viscosity=0.05):
    """Diffusion is stiff: h L reaches -450 with 10 steps, where an explicit scheme asks for -3."""
    k = np.pi * np.arange(modes + 1)
    start = spectrum(lambda x: -np.sin(np.pi * x), -1.0, 2.0, modes)
    c = etdrk4(-viscosity * k**2, advection(k, modes), start, times=[0.5], steps=steps)
    x = np.linspace(-1, 1, 101)
    exact = burgers(x, [0.0, 0.5], viscosity=viscosity)[:, 1]
    return np.abs(evaluate(c, np.pi * (x + 1))[:, 0] - exact).max()


def soliton_error(steps, modes=160, mu=0.022, height=1.5, end=0.5):
    """Dispersion is stiff: h L reaches 77 i with 400 steps."""
    exact = functools.partial(fronts.korteweg_de_vries_soliton, mu=mu, height=height)
    k = np.pi * np.arange(modes + 1)
    start = spectrum(lambda x: exact(np.stack([x, 0 * x], -1))[:, 0], -1.0, 2.0, modes)
    c = etdrk4(1j * mu**2 * k**3, advection(k, modes), start, times=[end], steps=steps)
    x = np.linspace(-0.75, 1, 201)  # one period later the top stands at 1/4
    values = evaluate(c, np.pi * (x + 1))[:, 0]
    return np.abs(values - exact(np.stack([x, np.full_like(x, end)], -1))[:, 0]).max()


@pytest.mark.parametrize(
    ("error", "steps"),
    [(burgers_error, [80, 160, 320, 640]), (soliton_error, [400, 800, 1600, 3200])],
    ids=["diffusion", "dispersion"],
)
def test_the_order_is_four(error, steps):
    slope, _ = np.polyfit(np.log(steps), np.log([error(n) for n in steps]), 1)
    assert slope == pytest.approx(-4, abs=0.2)


def test_a_soliton_travels_unchanged():
    assert soliton_error(6400) < 1e-8


@pytest.mark.parametrize(
    "symbol",
    [lambda k: -0.3 * k**2, lambda k: 0.1j * k**3, lambda k: 2 - 1j * k - k**2],
    ids=["heat", "airy", "mixed"],
)
@pytest.mark.parametrize("steps", [1, 7])
def test_a_linear_equation_is_solved_exactly(symbol, steps):
    modes, times = 40, [0.0, 1e-3, 0.5, 0.51, 2.0]
    start = spectrum(lambda x: 1 / (1.5 + np.sin(x)), 0.0, 2 * np.pi, modes)
    rates = symbol(np.arange(modes + 1))
    found = etdrk4(rates, still, start, times=times, steps=steps)
    exact = np.exp(np.outer(times, rates)) * start
    np.testing.assert_allclose(found, exact, atol=1e-12 * np.abs(exact).max())


@pytest.mark.parametrize("turn", [1, -1j], ids=["decay", "wave"])
def test_a_constant_source_is_integrated_exactly(turn):
    """c(t) = phi_1(L t) t from nothing: the weights add up to phi_1, for any z and next to 0.

    With h = 1, the circles around -1 and -2 / 2 go through 0.
    """
    rates = -turn * np.array([0.0, 1e-9, 1.0, 2.0, 30.0, 1e4])
    found = etdrk4(rates, np.ones_like, np.zeros(6), times=[1.0, 2.0], steps=2)
    for row, time in zip(found, [1.0, 2.0], strict=True):
        z = rates * time
        exact = time * np.append(1 + z[:2] / 2, np.expm1(z[2:]) / z[2:])
        np.testing.assert_allclose(row, exact, rtol=1e-12, atol=1e-15)


def test_times_are_hit_exactly_whatever_is_asked_between():
    rates, times = np.array([-1.0, 2j]), np.array([0.1, 0.123456789, 0.7])
    found = etdrk4(rates, lambda c: -(c**3), [0.5, 0.25], times=times, steps=1000)
    for row, time in zip(found, times, strict=True):
        alone = etdrk4(rates, lambda c: -(c**3), [0.5, 0.25], times=[time], steps=1000)
        np.testing.assert_allclose(row, alone[0], atol=1e-12)
    # c' = -c - c^3 has 1 / c^2 = (1 / c_0^2 + 1) exp(2 t) - 1.
    np.testing.assert_allclose(found[:, 0], (5 * np.exp(2 * times) - 1) ** -0.5, atol=1e-12)


# Series -------------------------------------------------------------------------------------------


def test_a_spectrum_holds_the_integrals_of_the_profile():
    """Of x^2 cos(pi x) on [-1, 1]: c_k = (-1)^k <x^2 cos(pi x) cos(k pi x)>, with its corner."""
    k = np.arange(2, 1000)
    moment = [2 * (-1.0) ** m / (np.pi * m) ** 2 for m in (k - 1, k + 1)]
    found = spectrum(lambda x: x**2 * np.cos(np.pi * x), -1.0, 2.0, 999)
    np.testing.assert_allclose(found[2:], (-1.0) ** k * sum(moment) / 2, atol=1e-11)
    assert found[0] == pytest.approx(-2 / np.pi**2, abs=1e-11)


def test_a_series_is_evaluated_between_its_points():
    def profile(x):
        return 3 + np.cos(x - 1) + 0.5 * np.sin(4 * x)

    x = np.array([-3.0, 0.1, 7.0])
    c = spectrum(profile, -1.0, 2 * np.pi, 5)
    np.testing.assert_allclose(evaluate(c[None], x + 1)[:, 0], profile(x), atol=1e-12)


@pytest.mark.parametrize("degree", [1, 2, 3, 5])
@pytest.mark.parametrize("modes", [1, 6, 37])
def test_products_are_free_of_aliasing(degree, modes):
    rng = np.random.default_rng(degree)
    c = rng.normal(size=modes + 1) + 1j * rng.normal(size=modes + 1)
    c[0] = c[0].real
    both = full = np.concatenate([c[:0:-1].conj(), c])
    for _ in range(degree - 1):
        full = np.convolve(full, both)
    expected = full[len(full) // 2 :][: modes + 1]
    found = pointwise(lambda u: u**degree, degree=degree, modes=modes)(c)
    np.testing.assert_allclose(found, expected, atol=1e-12 * np.abs(full).max())


# References against other methods -----------------------------------------------------------------


@pytest.mark.parametrize(("viscosity", "tolerance"), [(0.05, 1e-7), (0.5, 1e-7)])
def test_burgers_agrees_with_collocation(viscosity, tolerance):
    x, u = evolution.burgers(TIMES, viscosity)
    np.testing.assert_allclose(burgers(x, TIMES, viscosity=viscosity), u, atol=tolerance)


@pytest.mark.parametrize("time", [1e-6, 0.1, 0.5, 1.0])
def test_burgers_agrees_with_gauss_hermite_quadrature(time):
    x = np.r_[np.linspace(-1, 1, 101), np.linspace(-0.02, 0.02, 41)]
    expected = evolution.burgers_by_hermite(x, time, 0.01 / np.pi)
    np.testing.assert_allclose(burgers(x, [0.0, time])[:, 1], expected, atol=1e-13)


def test_burgers_has_the_published_slope_in_the_shock():
    """The slope at 0 is steepest at t = 1.6037 / pi: -152.00516 (Basdevant et al. 1986)."""
    h, times = 1e-4, np.array([1.60, 1.6037, 1.61]) / np.pi
    far, near = burgers([-2 * h, -h], times)
    slopes = (far - 8 * near) / (6 * h)  # fourth order; u is odd
    assert slopes[1] == pytest.approx(-152.00516, abs=1e-4)
    assert slopes[1] == slopes.min()


@pytest.mark.parametrize("viscosity", [1e-6, 1e-4, 0.01 / np.pi, 0.03, 1.0, 10.0])
def test_burgers_holds_for_any_viscosity_and_time(viscosity, monkeypatch):
    """Halving the spacing of the quadrature changes nothing."""
    x, times = np.linspace(-1, 1, 21), [1e-8, 1e-4, 0.3, 1.0, 20.0]
    u = burgers(x, times, viscosity=viscosity)
    ceil = math.ceil
    monkeypatch.setattr(references.math, "ceil", lambda value: 2 * ceil(value))
    np.testing.assert_allclose(burgers(x, times, viscosity=viscosity), u, atol=2e-13)
    assert np.abs(u[[0, 10, 20]]).max() < 1e-13  # odd and periodic: 0 at -1, 0, 1
    assert np.abs(u).max() <= 1


@pytest.mark.parametrize(
    ("arguments", "count"),
    [({}, 1024), ({"diffusion": 1e-2, "reaction": 2.0, "modes": 256}, 256)],
    ids=["default", "smooth"],
)
def test_allen_cahn_agrees_with_cosines_and_another_integrator(arguments, count):
    equation = {"diffusion": 1e-4, "reaction": 5.0} | arguments
    x, u = evolution.allen_cahn(TIMES, equation["diffusion"], equation["reaction"], count)
    found = allen_cahn(x, TIMES, **arguments)
    np.testing.assert_allclose(found[:, 1:], u[:, 1:], atol=1e-8)
    np.testing.assert_allclose(found[:, 2:], u[:, 2:], atol=1e-9)


@pytest.mark.parametrize(("eta", "mu"), [(1.0, 0.2), (1.4, 0.15)])
def test_korteweg_de_vries_agrees_with_collocation(eta, mu):
    times = TIMES[:-1]
    x, u = evolution.korteweg_de_vries(times, eta, mu)
    found = korteweg_de_vries(x, times, eta=eta, mu=mu, modes=96)
    np.testing.assert_allclose(found, u, atol=1e-8)


def test_korteweg_de_vries_keeps_mass_and_momentum():
    """Sums over 1024 places are exact integrals: u^2 has 384 modes."""
    x = -1 + 2 * np.arange(1024) / 1024
    u = korteweg_de_vries(x, TIMES)
    assert np.abs(u.mean(axis=0)).max() < 1e-14
    np.testing.assert_allclose((u**2).mean(axis=0), 0.5, atol=1e-9)
    assert u.max() > 2  # solitons have grown out of a wave of height 1


@pytest.mark.parametrize(("diffusion", "rate"), [(5.0, 5.0), (1.0, 3.0)])
def test_reaction_diffusion_agrees_with_splitting(diffusion, rate):
    x, u = evolution.reaction_diffusion(TIMES, diffusion, rate, 500)
    found = reaction_diffusion(x, TIMES, diffusion=diffusion, rate=rate)
    np.testing.assert_allclose(found, u, atol=2e-8)


@pytest.mark.parametrize(
    ("name", "times", "finer", "tolerance"),
    [
        ("allen_cahn", [0.01, 0.03], {"modes": 2048, "steps": 1600}, 4e-10),
        ("allen_cahn", [0.1, 0.4], {"steps": 1600}, 1e-10),
        ("korteweg_de_vries", [0.5, 1.0], {"modes": 256, "steps": 18_000}, 6e-10),
        ("reaction_diffusion", [0.001, 1.0], {"modes": 512, "steps": 4000}, 2e-12),
    ],
)
def test_accuracy_is_what_the_docstring_says(name, times, finer, tolerance):
    solve, low, high, _ = REFERENCES[name]
    x = np.linspace(low, high, 101)
    np.testing.assert_allclose(solve(x, times), solve(x, times, **finer), rtol=0, atol=tolerance)


# References, any grid -----------------------------------------------------------------------------


@each_reference
def test_time_0_is_the_profile_itself(name):
    solve, low, high, profile = REFERENCES[name]
    x = np.linspace(low, high, 17)
    np.testing.assert_allclose(solve(x, [0.0, 0.02])[:, 0], profile(x), atol=1e-15)


@each_reference
def test_the_grid_that_is_asked_for_changes_nothing(name):
    solve, low, high, _ = REFERENCES[name]
    x, t = np.random.default_rng(0).uniform(low, high, 9), np.array([0.011, 0.02, 0.0333])
    u = solve(x, t)
    assert u.shape == (9, 3)
    assert u.dtype == np.float64
    np.testing.assert_allclose(solve(x[::-2], t), u[::-2], atol=1e-13)
    np.testing.assert_allclose(solve(x, t[1:]), u[:, 1:], atol=1e-9)
    np.testing.assert_allclose(solve([low, high], t)[0], solve([low, high], t)[1], atol=1e-12)
    rounded = np.float32([low, high])
    np.testing.assert_allclose(solve(rounded, t), solve([low, high], t), atol=1e-5)


@each_reference
@pytest.mark.parametrize(
    ("x", "t", "message"),
    [
        ([0.5], [0.0, 1.0], r"x: expected 2 or more along one axis, got \(1,\)"),
        ([[0.5, 0.6]], [0.0, 1.0], r"x: expected 2 or more along one axis, got \(1, 2\)"),
        ([0.5, 7.0], [0.0, 1.0], r"x: expected places in \[.*\], got 7"),
        ([0.5, -1.1], [0.0, 1.0], r"x: expected places in \[.*\], got -1.1"),
        ([0.5, math.nan], [0.0, 1.0], "x: expected finite numbers, got nan"),
        (["a", "b"], [0.0, 1.0], "x: expected real numbers"),
        ([0.5, 0.6j], [0.0, 1.0], "x: expected real numbers"),
        ([0.5, 0.6], [1.0], r"t: expected 2 or more along one axis, got \(1,\)"),
        ([0.5, 0.6], [1.0, 0.5], "t: expected increasing times >= 0, got 1.0 to 0.5"),
        ([0.5, 0.6], [0.5, 0.5], "t: expected increasing times >= 0"),
        ([0.5, 0.6], [-0.1, 0.5], "t: expected increasing times >= 0, got -0.1 to 0.5"),
        ([0.5, 0.6], [0.1, math.inf], "t: expected finite numbers, got inf"),
    ],
)
def test_unusable_grids_are_refused(name, x, t, message):
    with pytest.raises(InputError, match=message) as caught:
        REFERENCES[name][0](x, t)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("allen_cahn", {"diffusion": 0.0}, "diffusion: expected a finite number > 0, got 0.0"),
        ("allen_cahn", {"reaction": math.nan}, "reaction: expected a finite number > 0"),
        ("allen_cahn", {"modes": 0}, "modes: expected an integer >= 1, got 0"),
        ("allen_cahn", {"steps": 2.5}, "steps: expected an integer >= 1, got 2.5"),
        ("allen_cahn", {"diffusion": 1e-8}, "modes: 1024 do not resolve the solution at t = 0.1"),
        ("burgers", {"viscosity": -1.0}, "viscosity: expected a finite number > 0"),
        ("korteweg_de_vries", {"mu": "a"}, "mu: expected a finite number > 0"),
        ("korteweg_de_vries", {"eta": math.inf}, "eta: expected a finite number > 0"),
        ("korteweg_de_vries", {"modes": 4}, "modes: 4 do not resolve the solution at t = 0.1"),
        ("korteweg_de_vries", {"eta": 1e4, "steps": 50}, "steps: the solution overflows with 5"),
        ("reaction_diffusion", {"diffusion": True}, "diffusion: expected a finite number > 0"),
        ("reaction_diffusion", {"rate": -1}, "rate: expected a finite number > 0"),
    ],
)
def test_unusable_numbers_are_refused(name, arguments, message):
    with pytest.raises(InputError, match=message):
        REFERENCES[name][0]([0.1, 0.2], [0.0, 0.1], **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"symbol": [1.0, 2.0]}, r"symbol, initial: expected two equal shapes"),
        ({"times": []}, "times: expected 1 or more"),
        ({"times": [0.2, 0.1]}, "times: expected increasing times"),
        ({"times": [-1.0]}, "times: expected increasing times >= 0"),
        ({"steps": 0}, "steps: expected an integer >= 1"),
    ],
)
def test_the_integrator_refuses_what_it_cannot_use(arguments, message):
    good = {"symbol": [-1.0], "nonlinear": still, "initial": [1.0], "times": [1.0], "steps": 1}
    arguments = good | arguments
    with pytest.raises(InputError, match=message):
        etdrk4(
            arguments.pop("symbol"),
            arguments.pop("nonlinear"),
            arguments.pop("initial"),
            **arguments,
        )


# Closed solutions ---------------------------------------------------------------------------------


def flow(viscosity):
    """Momentum and mass of a flow u = (w, p) of (x, y) or (x, y, t)."""

    def residual(u, x):
        w, first = u(x)[:2], jax.jacfwd(u)(x)
        second = jnp.trace(jax.hessian(u)(x)[:2, :2, :2], axis1=1, axis2=2)
        slopes, steady = first[:2, :2], len(x) == 2
        change = 0 if steady else first[:2, 2]
        return jnp.append(
            change + slopes @ w + first[2, :2] - viscosity * second, jnp.trace(slopes)
        )

    return residual


def laplacian(u, x):
    return jnp.trace(jax.hessian(u)(x), axis1=-2, axis2=-1)


def of_poisson(u, x, n):
    return laplacian(u, x) + len(x) * (n * jnp.pi) ** 2 * jnp.prod(jnp.sin(n * jnp.pi * x))


def of_chirp(u, x, n):
    rate, (a, b) = n * jnp.pi, x
    source = rate**2 * (1 + 4 * b**2) * jnp.sin(rate * b**2) - 2 * rate * jnp.cos(rate * b**2)
    return laplacian(u, x) + source * jnp.sin(rate * a)


def of_helmholtz(u, x, a, b):
    source = 1 - jnp.pi**2 * (a**2 + b**2)
    source *= jnp.sin(a * jnp.pi * x[0]) * jnp.sin(b * jnp.pi * x[1])
    return laplacian(u, x) + u(x) - source


def in_time(rest):
    """A residual written with u, u_x, u_t, u_xx, u_tt of points (x, t)."""

    def residual(u, x):
        first, second = jax.jacfwd(u)(x), jax.hessian(u)(x)
        return rest(u(x), first[:, 0], first[:, 1], second[:, 0, 0], second[:, 1, 1])

    return residual


def of_soliton(eta, mu):
    def residual(u, x):
        slope = jax.jacfwd(u)(x)
        third = jax.jacfwd(jax.jacfwd(jax.jacfwd(u)))(x)[:, 0, 0, 0]
        return slope[:, 1] + eta * u(x) * slope[:, 0] + mu**2 * third

    return residual


partial = functools.partial
# name: (solution, its residual, the box of the points, the values by another formula).
CLOSED = {
    "convection": (
        partial(solutions.convection, speed=7.0),
        in_time(lambda u, u_x, u_t, u_xx, u_tt: u_t + 7 * u_x),
        ([0, 0], [6, 1]),
        lambda x, t: np.sin(x) * np.cos(7 * t) - np.cos(x) * np.sin(7 * t),
    ),
    "heat": (
        partial(solutions.heat, diffusivity=0.4, frequency=2.0),
        in_time(lambda u, u_x, u_t, u_xx, u_tt: u_t - 0.4 * u_xx),
        ([0, 0], [1, 0.3]),
        lambda x, t: np.exp(-1.6 * np.pi**2 * t) * np.sin(2 * np.pi * x),
    ),
    "wave": (
        partial(solutions.wave, speed=2.0),
        in_time(lambda u, u_x, u_t, u_xx, u_tt: u_tt - 4 * u_xx),
        ([0, 0], [1, 1]),
        lambda x, t: (
            np.sin(np.pi * x) * np.cos(2 * np.pi * t)
            + 0.5 * np.sin(4 * np.pi * x) * np.cos(8 * np.pi * t)
        ),
    ),
    "poisson-1": (
        partial(solutions.poisson, frequency=3.0),
        partial(of_poisson, n=3.0),
        ([-1], [1]),
        lambda x: np.sin(3 * np.pi * x),
    ),
    "poisson-3": (
        partial(solutions.poisson, frequency=2.0),
        partial(of_poisson, n=2.0),
        ([-1, -1, -1], [1, 1, 1]),
        lambda x, y, z: np.sin(2 * np.pi * x) * np.sin(2 * np.pi * y) * np.sin(2 * np.pi * z),
    ),
    "poisson_chirp": (
        partial(solutions.poisson_chirp, frequency=2.0),
        partial(of_chirp, n=2.0),
        ([0, 0], [1, 1]),
        lambda x, y: np.sin(2 * np.pi * x) * np.sin(2 * np.pi * y**2),
    ),
    "helmholtz": (
        partial(solutions.helmholtz, frequencies=(1.0, 4.0)),
        partial(of_helmholtz, a=1.0, b=4.0),
        ([-1, -1], [1, 1]),
        lambda x, y: np.sin(np.pi * x) * np.sin(4 * np.pi * y),
    ),
    "kovasznay": (
        partial(solutions.kovasznay, reynolds=20.0),
        flow(1 / 20),
        ([-0.5, -0.5], [1, 1.5]),
        lambda x, y: np.stack(
            [
                1 - np.exp(KOVASZNAY * x) * np.cos(2 * np.pi * y),
                KOVASZNAY / (2 * np.pi) * np.exp(KOVASZNAY * x) * np.sin(2 * np.pi * y),
                (1 - np.exp(2 * KOVASZNAY * x)) / 2,
            ],
            axis=-1,
        ),
    ),
    "taylor_green": (
        partial(solutions.taylor_green, viscosity=0.3),
        flow(0.3),
        ([0, 0, 0], [6, 6, 1]),
        lambda x, y, t: np.stack(
            [
                (np.sin(x + y) + np.sin(x - y)) / 2 * np.exp(-0.6 * t),
                -(np.sin(x + y) - np.sin(x - y)) / 2 * np.exp(-0.6 * t),
                np.cos(x + y) * np.cos(x - y) / 2 * np.exp(-1.2 * t),
            ],
            axis=-1,
        ),
    ),
    "soliton": (
        partial(fronts.korteweg_de_vries_soliton, height=0.8, eta=1.5, mu=0.1, centre=0.1),
        of_soliton(1.5, 0.1),
        ([-1, 0], [1, 1]),
        lambda x, t: 0.8 / np.cosh(math.sqrt(10.0) * (x - 0.1 - 0.4 * t)) ** 2,
    ),
    "allen_cahn_front": (
        partial(fronts.allen_cahn_front, diffusion=0.01, reaction=5.0, centre=-0.2),
        in_time(lambda u, u_x, u_t, u_xx, u_tt: u_t - 0.01 * u_xx - 5 * (u - u**3)),
        ([-0.5, 0], [0.5, 0.5]),
        lambda x, t: 1 / (1 + np.exp(math.sqrt(250.0) * (x + 0.2 - 3 * math.sqrt(0.025) * t))),
    ),
    "burgers_front": (
        partial(fronts.burgers_front, viscosity=0.05, left=1.2, right=-0.4, centre=0.1),
        in_time(lambda u, u_x, u_t, u_xx, u_tt: u_t + u * u_x - 0.05 * u_xx),
        ([-0.5, 0], [0.5, 0.5]),
        lambda x, t: -0.4 + 1.6 / (1 + np.exp(16 * (x - 0.1 - 0.4 * t))),
    ),
}
SCALABLE = ("convection", "heat", "wave")  # linear without a source: any multiple is a solution
KOVASZNAY = 10 - math.sqrt(100 + 4 * math.pi**2)
each_solution = pytest.mark.parametrize("name", CLOSED)


def draw(name, count=50):
    low, high = CLOSED[name][2]
    return np.random.default_rng(0).uniform(low, high, (count, len(low)))


def largest_residual(name):
    """Of large * u(fast * x), as a function of the factors `fast` and `large`."""
    solution, residual, *_ = CLOSED[name]

    @jax.jit
    def largest(fast, large):
        perturbed = partial(residual, lambda x: large * solution(fast * x))
        return jnp.abs(jax.vmap(perturbed)(draw(name))).max()

    return largest


@each_solution
def test_a_closed_solution_satisfies_its_equation_and_a_perturbed_one_does_not(name, x64):
    """Perturbed: the last coordinate runs 1 % too fast, or one of the values is 1 % too large."""
    largest, points = largest_residual(name), draw(name)
    inputs, outputs = np.eye(points.shape[1]), np.eye(CLOSED[name][0](points).shape[1])
    right = (np.ones(len(inputs)), np.ones(len(outputs)))
    assert largest(*right) < 1e-8
    assert largest(right[0] + 0.01 * inputs[-1], right[1]) > 1e-4
    for output in () if name in SCALABLE else outputs:
        assert largest(right[0], right[1] + 0.01 * output) > 1e-4


@each_solution
def test_a_closed_solution_has_the_values_of_its_formula(name, x64):
    """The equation alone does not know phase and size of a wave."""
    u, _, _, formula = CLOSED[name]
    points = draw(name)
    expected = np.reshape(formula(*points.T), (len(points), -1))
    host = u(points)
    assert isinstance(host, np.ndarray)
    np.testing.assert_allclose(host, expected, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(u(jnp.asarray(points)), expected, rtol=1e-12, atol=1e-13)


@each_solution
def test_a_closed_solution_takes_points_and_batches(name):
    u, points = CLOSED[name][0], draw(name, 6).astype(np.float32)
    batch = u(jnp.asarray(points))
    assert isinstance(batch, jax.Array)
    assert batch.dtype == u(points).dtype == np.float32
    np.testing.assert_allclose(u(points[0]), batch[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(u(points.reshape(2, 3, -1)).reshape(6, -1), u(points), rtol=1e-6)
    np.testing.assert_allclose(jax.jit(jax.vmap(u))(points), batch, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in CLOSED if name in solutions.__all__])
@pytest.mark.parametrize("array", [np.zeros, jnp.zeros])
def test_points_of_another_dimension_are_refused(name, array):
    with pytest.raises(InputError, match=r"x: expected shape \(\.\.\., [23]\), got \(5, 4\)"):
        CLOSED[name][0](array((5, 4)))


def test_far_from_a_front_nothing_overflows():
    far = np.array([[-1e6, 0.0], [1e6, 0.0]])
    np.testing.assert_array_equal(fronts.allen_cahn_front(far), [[1], [0]])
    np.testing.assert_array_equal(fronts.burgers_front(far), [[1], [0]])
    np.testing.assert_array_equal(fronts.korteweg_de_vries_soliton(far), [[0], [0]])
    slopes = jax.jacfwd(fronts.korteweg_de_vries_soliton)(jnp.array([1e6, 0.0]))
    np.testing.assert_array_equal(slopes, [[0, 0]])


def test_kovasznay_keeps_its_digits_at_a_large_reynolds_number():
    """lambda = Re / 2 - (Re^2 / 4 + 4 pi^2)^(1/2) loses 9 of 16 digits to cancellation at 1e5."""
    rate = -4 * math.pi**2 / 1e5 * (1 - 4 * math.pi**2 / 1e10)
    p = solutions.kovasznay(np.array([1.0, 0.0]), reynolds=1e5)[2]
    assert p == pytest.approx(-math.expm1(2 * rate) / 2, rel=1e-11)


def test_every_solution_is_tested():
    tested = {solution.func.__name__ for solution, *_ in CLOSED.values()}
    assert set(solutions.__all__) <= tested
