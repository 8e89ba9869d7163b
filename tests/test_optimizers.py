"""Second-order optimizers, SOAP and phases: values against NumPy and SciPy, then laws."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from oracles import optimizers as oracle
from scipy.optimize import least_squares

from lrnn_jax.errors import InputError
from lrnn_jax.io.safetensors import load_tree, save_tree
from lrnn_jax.optimizers import (
    Result,
    factorize_weights,
    lbfgs,
    levenberg_marquardt,
    natural_gradient,
    result_of,
    soap,
    ssbroyden,
    switch,
)
from lrnn_jax.optimizers.quasi_newton import broyden_update
from lrnn_jax.training import scale_subnetworks

QUASI_NEWTON = {
    "lbfgs": lbfgs(),
    "ssbroyden": ssbroyden(),
    "ssbfgs": ssbroyden("ssbfgs"),
    "bfgs": ssbroyden("bfgs"),
}
GAUSS_NEWTON = {
    "levenberg_marquardt": levenberg_marquardt(),
    "natural_gradient": natural_gradient(),
}
SECOND_ORDER = QUASI_NEWTON | GAUSS_NEWTON
FOUR = {"lbfgs": lbfgs(), "ssbroyden": ssbroyden()} | GAUSS_NEWTON
EVERY = FOUR | {
    "soap": soap(1e-2, precondition_frequency=2),
    "switch": switch(optax.adam(1e-2), lbfgs(3), 2),
}


class Squares:
    """A sum of squares of residuals(params), with all that an update may ask for."""

    def __init__(self, residuals):
        self.residuals = residuals

    def loss(self, params):
        return jnp.sum(self.residuals(params) ** 2)

    def linearise(self, params):
        flat, unravel = jax.flatten_util.ravel_pytree(params)
        jacobian = jax.jacobian(lambda flat: self.residuals(unravel(flat)))(flat)
        return self.residuals(params), jacobian

    @functools.partial(jax.jit, static_argnums=(0, 1))
    def step(self, optimizer, params, state):
        """One update: the new parameters and state, and the updates."""
        return self.advance(optimizer, params, state)

    def advance(self, optimizer, params, state):
        """`step`, to stand in a compiled program."""
        value, grads = jax.value_and_grad(self.loss)(params)
        updates, state = optimizer.update(
            grads,
            state,
            params,
            value=value,
            grad=grads,
            value_fn=self.loss,
            linearise_fn=self.linearise,
        )
        return optax.apply_updates(params, updates), state, updates

    @functools.partial(jax.jit, static_argnums=(0, 1, 3))
    def solve(self, optimizer, params, steps):
        """The parameters, the state and the number of updates until it stops, or `steps`."""

        def goes_on(carry):
            _, state, count = carry
            return (result_of(state) == 0) & (count < steps)

        def body(carry):
            params, state, count = carry
            return *self.advance(optimizer, params, state)[:2], count + 1

        return jax.lax.while_loop(goes_on, body, (params, optimizer.init(params), 0))

    @functools.partial(jax.jit, static_argnums=(0, 1, 3))
    def losses(self, optimizer, params, steps):
        """The loss before each update."""
        return self.losses_of(optimizer, params, steps)

    def losses_of(self, optimizer, params, steps):
        """`losses`, to stand in a compiled program."""

        def body(carry, _):
            params, state, _ = self.advance(optimizer, *carry)
            return (params, state), self.loss(carry[0])

        return jax.lax.scan(body, (params, optimizer.init(params)), length=steps)[1]


def rosenbrock(params):
    x = jnp.concatenate([params["a"].ravel(), params["b"]]) if isinstance(params, dict) else params
    return jnp.concatenate([10 * (x[1:] - x[:-1] ** 2), 1 - x[:-1]])


KEY = jax.random.key(0)
ROSENBROCK = Squares(rosenbrock)


def valley(size=10):
    return jnp.tile(jnp.array([-1.2, 1.0]), size // 2)


def tree_of_six():
    return {"a": valley(4).reshape(2, 2), "b": valley(2)}


def linear(rows, columns, seed=0):
    """A linear least-squares problem, its matrix and its right-hand side."""
    draw = np.random.default_rng(seed)
    matrix, right = draw.normal(size=(rows, columns)), draw.normal(size=rows)
    a, b = jnp.asarray(matrix), jnp.asarray(right)
    return Squares(lambda x: a @ x - b), matrix, right


def trees_equal(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(left, right)


# Quasi-Newton


@pytest.mark.as_for_users  # to the last digit
@pytest.mark.parametrize("optimizer", SECOND_ORDER.values(), ids=SECOND_ORDER)
def test_rosenbrock_is_solved(x64, optimizer):
    x, state, count = ROSENBROCK.solve(optimizer, valley(10), 200)
    np.testing.assert_allclose(x, 1, rtol=0, atol=1e-12)
    assert count < 150
    # At the minimum, rounding decides which of the two a compiler's program sees first.
    reason = Result(int(state.result)).message
    assert reason.endswith("converged") or reason == "the line search found no lower loss"


@pytest.mark.parametrize("kind", ["ssbroyden", "ssbfgs", "bfgs"])
def test_inverse_hessian_against_the_update_of_the_hessian(x64, kind):
    """Several updates: both signs of theta, the first pair and later ones."""
    optimizer, x = ssbroyden(kind), valley(4)
    state = optimizer.init(x)
    hessian = np.eye(4) * max(1, np.linalg.norm(jax.grad(ROSENBROCK.loss)(x)))
    for index in range(12):
        before = jax.grad(ROSENBROCK.loss)(x)
        x, state, s = ROSENBROCK.step(optimizer, x, state)
        y = jax.grad(ROSENBROCK.loss)(x) - before
        s, y = np.asarray(s), np.asarray(y)
        hessian = oracle.hessian_update(kind, hessian, s, y, first=index == 0)
        inverse = state.inverse_hessian
        np.testing.assert_allclose(inverse @ hessian, np.eye(4), atol=1e-7)
        np.testing.assert_allclose(inverse @ y, s, atol=1e-10)
        assert np.linalg.eigvalsh(inverse).min() > 0
    assert state.pairs == 12


def test_broyden_update_without_scaling_is_bfgs(x64):
    draw = np.random.default_rng(0)
    root, s, y = draw.normal(size=(5, 5)), draw.normal(size=5), draw.normal(size=5)
    inverse, y = root @ root.T, y * np.sign(s @ y)
    left = np.eye(5) - np.outer(s, y) / (s @ y)
    bfgs = left @ inverse @ left.T + np.outer(s, s) / (s @ y)
    np.testing.assert_allclose(broyden_update(inverse, s, y, 1.0, 1.0), bfgs, rtol=1e-10)
    dfp = inverse - np.outer(inverse @ y, inverse @ y) / (y @ inverse @ y)
    dfp = dfp + np.outer(s, s) / (s @ y)
    np.testing.assert_allclose(broyden_update(inverse, s, y, 1.0, 0.0), dfp, rtol=1e-10)


def test_self_scaling_beats_bfgs_where_scales_differ(x64):
    """What the self-scaling is for: a badly scaled valley."""
    hard = Squares(lambda x: rosenbrock(x) * jnp.logspace(0, 3, 18))
    counts = {
        kind: int(hard.solve(ssbroyden(kind, loss_tolerance=1e-20), valley(10), 2000)[2])
        for kind in ("bfgs", "ssbroyden")
    }
    assert counts["ssbroyden"] < counts["bfgs"] < 2000


def test_lbfgs_follows_optax_while_the_loss_stays(x64):
    search = optax.scale_by_zoom_linesearch(30, approx_dec_rtol=None, initial_guess_strategy="one")
    theirs, ours = optax.lbfgs(memory_size=4, linesearch=search), lbfgs(4)

    @jax.jit
    def their_step(z, state):
        value, grads = jax.value_and_grad(ROSENBROCK.loss)(z)
        step, state = theirs.update(
            grads, state, z, value=value, grad=grads, value_fn=ROSENBROCK.loss
        )
        return z + step, state

    x = z = valley(10)
    ours_state, theirs_state = ours.init(x), theirs.init(z)
    for _ in range(12):
        x, ours_state, _ = ROSENBROCK.step(ours, x, ours_state)
        z, theirs_state = their_step(z, theirs_state)
        np.testing.assert_allclose(x, z, rtol=1e-8)


MATRIX = np.random.default_rng(1).normal(size=(6, 4))
SHIFTS = np.random.default_rng(5).normal(size=(6, 6)) * 10


def shifted(shift):
    """Losses of one Hessian, 2 MATRIX'MATRIX, and of other gradients at the same point."""
    return Squares(lambda x: jnp.asarray(MATRIX) @ x - shift)


@functools.partial(jax.jit, static_argnums=0)
def shifted_step(optimizer, x, state, shift):
    return shifted(shift).advance(optimizer, x, state)


def test_pairs_are_of_one_loss_when_the_loss_changes(x64):
    hessian = 2 * MATRIX.T @ MATRIX
    limited, dense = lbfgs(3), ssbroyden("ssbfgs")
    x, z = jnp.ones(4), jnp.ones(4)
    limited_state, dense_state = limited.init(x), dense.init(z)
    for shift in SHIFTS:
        x, limited_state, _ = shifted_step(limited, x, limited_state, shift)
        z, dense_state, step = shifted_step(dense, z, dense_state, shift)
        np.testing.assert_allclose(
            dense_state.inverse_hessian @ (hessian @ step), step, rtol=1e-8, atol=1e-12
        )
    memory = limited_state.memory
    assert memory.count == 6
    learned = memory.diff_params_memory
    np.testing.assert_allclose(memory.diff_updates_memory, learned @ hessian, rtol=1e-7)
    assert (jnp.abs(learned).max(axis=1) > 0.1).all()


def hill(x):
    """Residuals whose squares are a loss that bends down in every direction near 0."""
    return jnp.sqrt(jnp.cos(x))


def test_pairs_without_curvature_are_left_out(x64):
    """Two pairs, then one from a hill, then the direction: that of the two pairs."""
    optimizer, x = lbfgs(5), jnp.ones(4)
    state, pairs = optimizer.init(x), []
    for shift in SHIFTS[:2]:
        start, before = x, jax.grad(shifted(shift).loss)(x)
        x, state, _ = shifted_step(optimizer, x, state, shift)
        pairs.append((np.asarray(x - start), jax.grad(shifted(shift).loss)(x) - before))
    top, start = Squares(lambda z: hill(z - x + 0.01)), x
    x, state, s = top.step(lbfgs(5, line_search_steps=1), x, state)
    y = jax.grad(top.loss)(x) - jax.grad(top.loss)(start)
    assert s @ y < 0 < jnp.abs(s).max()
    grads = jax.grad(shifted(SHIFTS[2]).loss)(x)
    _, state, s = shifted_step(optimizer, x, state, SHIFTS[2])
    d = -oracle.inverse_by_pairs([(s, np.asarray(y)) for s, y in pairs], 4) @ grads
    np.testing.assert_allclose(s / jnp.linalg.norm(s), d / np.linalg.norm(d), rtol=1e-7)
    assert state.memory.count == 3


def test_a_dense_update_without_curvature_changes_nothing(x64):
    loss, optimizer = Squares(hill), ssbroyden(line_search_steps=1)
    x = jnp.array([0.01, 0.02])
    _, state, step = loss.step(optimizer, x, optimizer.init(x))
    assert jnp.abs(step).max() > 0
    assert state.pairs == 0
    np.testing.assert_array_equal(state.inverse_hessian, np.eye(2))


def test_a_vain_search_forgets_the_past_before_it_stops(x64):
    """The memory of a loss that is gone may point uphill: one update is lost, not the run."""
    optimizer, x = ssbroyden(), valley(2)
    state = optimizer.init(x)
    for _ in range(5):
        x, state, _ = ROSENBROCK.step(optimizer, x, state)
    state = state._replace(inverse_hessian=-state.inverse_hessian)
    _, state, step = ROSENBROCK.step(optimizer, x, state)
    np.testing.assert_array_equal(step, 0)
    assert (state.result, state.pairs) == (0, 0)
    np.testing.assert_array_equal(state.inverse_hessian, np.eye(2))
    after, state, _ = ROSENBROCK.step(optimizer, x, state)
    assert ROSENBROCK.loss(after) < ROSENBROCK.loss(x)


def test_dense_matrices_have_a_limit():
    with pytest.raises(InputError, match=r"10001 parameters need .* 0\.4 GB.* use lbfgs"):
        ssbroyden().init({"w": jnp.zeros((10001,), jnp.float32)})


# Gauss-Newton


@pytest.mark.parametrize(
    ("shape", "space"),
    [((30, 7), "auto"), ((7, 30), "auto"), ((8, 8), "parameter"), ((8, 8), "residual")],
)
def test_one_step_solves_linear_least_squares(x64, shape, space):
    """As the damping goes to 0; of many solutions the nearest, as lstsq has it from 0."""
    loss, matrix, right = linear(*shape)
    expected = np.linalg.lstsq(matrix, right, rcond=None)[0]
    for optimizer in (
        levenberg_marquardt(1e-13, space=space),
        natural_gradient(1e-13, space=space),
    ):
        x = jnp.zeros(shape[1])
        _, state, step = loss.step(optimizer, x, optimizer.init(x))
        np.testing.assert_allclose(step, expected, rtol=1e-8, atol=1e-9)
        assert state.result == 0


@pytest.mark.parametrize("shape", [(30, 7), (7, 30), (8, 8)])
def test_both_spaces_give_the_damped_step(x64, shape):
    loss, matrix, right = linear(*shape)
    x = jnp.asarray(np.random.default_rng(3).normal(size=shape[1]))
    gradient, gram = matrix.T @ (matrix @ x - right), matrix.T @ matrix
    for space in ("parameter", "residual"):
        optimizer = levenberg_marquardt(space=space)
        for damping in (1e-1, 1e-3, 1e-6):
            mu = damping * np.trace(gram) / min(shape)
            expected = -np.linalg.solve(gram + mu * np.eye(shape[1]), gradient)
            state = optimizer.init(x)._replace(damping=jnp.asarray(damping))
            step = loss.step(optimizer, x, state)[2]
            np.testing.assert_allclose(step, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("space", ["parameter", "residual"])
def test_steps_are_more_exact_than_the_product_of_the_jacobian(x64, space):
    """Singular values from 1 to 1e-6: their squares keep four digits of the smallest."""
    u, v = rotations(3, 7, 7)
    values = jnp.logspace(0, -6, 7)
    loss = Squares(lambda x: (u * values) @ (v.T @ x - 1))
    optimizer = levenberg_marquardt(1e-13, space=space)
    step = loss.step(optimizer, jnp.zeros(7), optimizer.init(jnp.zeros(7)))[2]
    mu = 1e-13 * jnp.sum(values**2) / 7
    np.testing.assert_allclose(v.T @ step, values**2 / (values**2 + mu), rtol=1e-7)


@pytest.mark.parametrize("optimizer", GAUSS_NEWTON.values(), ids=GAUSS_NEWTON)
def test_the_smaller_matrix_is_factored(x64, optimizer):
    for rows, columns in ((30, 7), (7, 30)):
        loss, x = linear(rows, columns)[0], jnp.zeros(columns)
        program = str(
            jax.make_jaxpr(functools.partial(loss.advance, optimizer))(x, optimizer.init(x))
        )
        assert "f64[7,7] = cholesky" in program
        assert "f64[30,30] = cholesky" not in program


@pytest.mark.parametrize("optimizer", GAUSS_NEWTON.values(), ids=GAUSS_NEWTON)
def test_units_of_the_loss_do_not_matter(x64, optimizer):
    other = Squares(lambda x: 1e5 * rosenbrock(x))
    x = z = valley(4)
    state, other_state = optimizer.init(x), optimizer.init(z)
    for _ in range(5):
        x, state, _ = ROSENBROCK.step(optimizer, x, state)
        z, other_state, _ = other.step(optimizer, z, other_state)
        np.testing.assert_allclose(x, z, rtol=1e-8)


def damped_steps(x, damping):
    """d and a of Levenberg-Marquardt for Rosenbrock at x, whose residuals are quadratic."""
    r, j = (np.asarray(part) for part in ROSENBROCK.linearise(x))
    mu = damping * np.trace(j.T @ j) / min(j.shape)
    inverse = np.linalg.inv(j.T @ j + mu * np.eye(len(x))) @ j.T
    d = -inverse @ r
    bend = np.concatenate([-20 * d[:-1] ** 2, np.zeros(len(x) - 1)])
    return d, -inverse @ bend


def test_the_accelerated_step_by_hand(x64):
    x, (plain, bent) = (
        jnp.array([0.9, 0.75, 0.5]),
        (levenberg_marquardt(acceleration=False), levenberg_marquardt()),
    )
    d, a = damped_steps(x, 1e-3)
    assert 0.05 < np.linalg.norm(a) / np.linalg.norm(d) < 0.75
    np.testing.assert_allclose(ROSENBROCK.step(plain, x, plain.init(x))[2], d, rtol=1e-9)
    np.testing.assert_allclose(ROSENBROCK.step(bent, x, bent.init(x))[2], d + a / 2, rtol=1e-9)


def test_steps_that_bend_too_much_are_not_taken(x64):
    """Though the loss would fall: the damping is raised until |a| <= 3/4 |d|."""
    x, optimizer = jnp.array([-0.5, 0.3]), levenberg_marquardt(1e-4)
    d, a = damped_steps(x, 1e-4)
    assert np.linalg.norm(a) > 0.75 * np.linalg.norm(d)
    assert ROSENBROCK.loss(x + d + a / 2) < ROSENBROCK.loss(x)
    _, state, step = ROSENBROCK.step(optimizer, x, optimizer.init(x))
    for damping in (1e-4 * 2.0 ** (k * (k + 1) / 2) for k in range(10)):
        d, a = damped_steps(x, damping)
        lower = ROSENBROCK.loss(x + d + a / 2) < ROSENBROCK.loss(x)
        if lower and np.linalg.norm(a) <= 0.75 * np.linalg.norm(d):
            break
    assert damping > 1e-4
    np.testing.assert_allclose(step, d + a / 2, rtol=1e-9)
    assert state.growth == 2


def test_residuals_are_asked_of_residual_fn(x64):
    """Here of a linear one, which has no bend."""
    x, optimizer = jnp.array([0.9, 0.75, 0.5]), levenberg_marquardt()
    r, j = ROSENBROCK.linearise(x)
    given = {"value_fn": ROSENBROCK.loss, "linearise_fn": ROSENBROCK.linearise}
    given["residual_fn"] = lambda z: r + j @ (z - x)
    step = optimizer.update(None, optimizer.init(x), x, **given)[0]
    np.testing.assert_allclose(step, damped_steps(x, 1e-3)[0], rtol=1e-9)


def decay(points=40):
    """Data of a sum of two exponentials with noise, and the residuals of a fit to them."""
    draw = np.random.default_rng(2)
    t = np.linspace(0, 3, points)
    y = 2 * np.exp(-1.3 * t) + 0.5 * np.exp(-0.2 * t) + 0.01 * draw.normal(size=points)

    def residuals(x, np=jnp):
        return x[0] * np.exp(-x[1] * t) + x[2] * np.exp(-x[3] * t) - y

    return residuals


@pytest.mark.parametrize("optimizer", GAUSS_NEWTON.values(), ids=GAUSS_NEWTON)
def test_nonlinear_fit_against_scipy(x64, optimizer):
    residuals = decay()
    start = np.array([1.0, 2.0, 1.0, 0.0])
    theirs = least_squares(
        functools.partial(residuals, np=np), start, xtol=1e-15, ftol=1e-15, gtol=1e-15
    )
    x, state, count = Squares(residuals).solve(optimizer, jnp.asarray(start), 100)
    np.testing.assert_allclose(x, theirs.x, rtol=1e-6)
    np.testing.assert_allclose(Squares(residuals).loss(x), 2 * theirs.cost, rtol=1e-12)
    assert Result(int(state.result)).message.endswith("converged")
    assert count < 60


def test_natural_gradient_takes_the_gauss_newton_step(x64):
    loss, x = Squares(decay()), jnp.array([2.1, 1.2, 0.45, 0.25])
    optimizer = natural_gradient(1e-14)
    _, state, step = loss.step(optimizer, x, optimizer.init(x))
    residual, jacobian = loss.linearise(x)
    expected = np.linalg.lstsq(np.asarray(jacobian), -np.asarray(residual), rcond=None)[0]
    assert state.rate == 1
    np.testing.assert_allclose(step, expected, rtol=1e-6)


def test_natural_gradient_halves_until_the_loss_falls_enough(x64):
    """From (-1.2, 1) the Gauss-Newton step overshoots the bent valley of Rosenbrock."""
    optimizer, x = natural_gradient(), valley(2)
    _, state, step = ROSENBROCK.step(optimizer, x, optimizer.init(x))
    value, grads = jax.value_and_grad(ROSENBROCK.loss)(x)
    rate = float(state.rate)
    assert rate in {2.0**-k for k in range(1, 10)}

    def sufficient(rate):
        d = step / state.rate
        return ROSENBROCK.loss(x + rate * d) < value + 1e-4 * rate * grads @ d

    assert sufficient(rate)
    assert not any(sufficient(2.0**k * rate) for k in range(1, 10) if 2.0**k * rate <= 1)


def test_natural_gradient_wants_a_ten_thousandth_of_the_slope(x64):
    """From r = x = (3, 4) the slope along d = -x is -50: a fall of 0.0049 is too little."""
    optimizer, x = natural_gradient(), jnp.array([3.0, 4.0])

    def loss(z):
        rate = 1 - z[0] / 3
        return 25.0 - jnp.where(rate > 0.9, 0.0049, 0.0026)

    given = {"value": 25.0, "value_fn": loss, "linearise_fn": lambda x: (x, jnp.eye(2))}
    _, state = optimizer.update(None, optimizer.init(x), x, **given)
    assert state.rate == 0.5


@pytest.mark.parametrize("space", ["parameter", "residual"])
def test_singular_systems_get_more_damping(x64, space):
    matrix = jnp.asarray(np.outer(np.arange(1.0, 13), np.arange(1.0, 10)))
    loss, x = Squares(lambda x: matrix @ x - jnp.arange(1.0, 13) * 3), jnp.zeros(9)
    optimizer = natural_gradient(1e-16, space=space)
    after, state, _ = loss.step(optimizer, x, optimizer.init(x))
    assert state.damping > 1e-16
    assert loss.loss(after) < 1e-12 * loss.loss(x)


def test_levenberg_marquardt_bears_losses_that_are_not_finite(x64):
    """The full step goes where the logarithm is not defined."""
    loss, x = Squares(lambda x: jnp.log(x) + 20.0), jnp.array([1.0])
    assert not jnp.isfinite(loss.loss(x - 20.0))
    x, _, _ = loss.solve(levenberg_marquardt(1e-6), x, 100)
    np.testing.assert_allclose(x, np.exp(-20.0), rtol=1e-10)


def test_rejected_steps_leave_the_parameters_and_raise_the_damping(x64):
    optimizer, x = levenberg_marquardt(1e-9, tries=3), valley(2)
    after, state, _ = ROSENBROCK.step(optimizer, x, optimizer.init(x))
    np.testing.assert_array_equal(after, x)
    np.testing.assert_allclose([state.damping, state.growth], [1e-9 * 2 * 4 * 8, 16], rtol=1e-12)
    assert state.result == 0
    after, _, _ = ROSENBROCK.step(optimizer, x, state._replace(damping=jnp.asarray(1.0)))
    assert ROSENBROCK.loss(after) < ROSENBROCK.loss(x)


@pytest.mark.parametrize(("ratio", "factor"), [(1.0, 1 / 3), (0.5, 1.0), (0.01, 1.941192)])
def test_damping_follows_the_gain_ratio(x64, ratio, factor):
    """Nielsen: max(1/3, 1 - (2 rho - 1)^3), rho the fall of the loss by what was foretold."""
    matrix = jnp.eye(2)
    optimizer, x = levenberg_marquardt(1.0), jnp.array([3.0, 4.0])
    # From x the step is -x/2; the linear model falls by 25 (1 - 1/4); the loss is told to fall by
    # `ratio` of that.
    state = optimizer.update(
        None,
        optimizer.init(x),
        x,
        value=25.0,
        value_fn=lambda x: jnp.asarray(25.0 - ratio * 18.75),
        linearise_fn=lambda x: (x, matrix),
    )[1]
    np.testing.assert_allclose(state.damping, factor, rtol=1e-6)


def poisson(points=24, hidden=12):
    """u'' = -pi^2 sin(pi x) on (0, 1), u = 0 at the ends: residuals of a tanh network."""
    x = jnp.linspace(0, 1, points + 2)[1:-1]

    def u(params, x):
        return jnp.tanh(x * params["w"] + params["b"]) @ params["a"]

    def residuals(params):
        second = jax.grad(jax.grad(u, 1), 1)
        inner = jax.vmap(lambda x: second(params, x) + jnp.pi**2 * jnp.sin(jnp.pi * x))(x)
        ends = jnp.stack([u(params, 0.0), u(params, 1.0)])
        return jnp.concatenate([inner / np.sqrt(points), 3 * ends])

    draw = np.random.default_rng(0)
    scales = {"w": 3.0, "b": 1.0, "a": 0.3}
    params = {name: jnp.asarray(draw.normal(size=hidden) * s) for name, s in scales.items()}
    return Squares(residuals), params, u


@pytest.mark.parametrize(
    ("optimizer", "steps"),
    [(levenberg_marquardt(), 150), (natural_gradient(), 60), (ssbroyden(), 1000)],
    ids=["levenberg_marquardt", "natural_gradient", "ssbroyden"],
)
def test_differential_equation_is_solved(x64, optimizer, steps):
    loss, params, u = poisson()
    params, _, _ = loss.solve(optimizer, params, steps)
    assert loss.loss(params) < 1e-10
    x = np.linspace(0, 1, 101)
    error = jax.vmap(u, (None, 0))(params, x) - np.sin(np.pi * x)
    assert np.abs(error).max() < 1e-5


# SOAP


def matrix_quadratic(left, right):
    """W -> |left W right|^2."""
    return Squares(lambda params: left @ params["w"] @ right)


def rotations(seed, *sizes):
    draw = np.random.default_rng(seed)
    return [jnp.asarray(np.linalg.qr(draw.normal(size=(n, n)))[0]) for n in sizes]


def test_soap_without_bases_is_adam(x64):
    params = tree_of_six()
    ours = soap(0.1, b1=0.9, b2=0.99, max_dim=0)
    theirs = optax.with_extra_args_support(optax.adam(0.1, b1=0.9, b2=0.99))
    x = z = params
    state, other = ours.init(x), theirs.init(z)
    for _ in range(12):
        x, state, _ = ROSENBROCK.step(ours, x, state)
        z, other, _ = ROSENBROCK.step(theirs, z, other)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), x, z)


@pytest.mark.parametrize("shape", [(3, 4), (4, 4)])
def test_soap_against_its_definition(x64, shape):
    draw = np.random.default_rng(4)
    left, right, weight = (draw.normal(size=s) for s in ((shape[0],) * 2, (shape[1],) * 2, shape))

    def gradient(weight, t):
        """Rows and columns take turns at being large, so that the eigenvalues change places."""
        smooth = 2 * left.T @ left @ weight @ right @ right.T + 3 * np.sin(3 * weight + t)
        rows, columns = (1 + 9 * (np.arange(n) == t // 4 % n) for n in shape)
        return rows[:, None] * smooth * columns

    settings = (0.9, 0.97, 1e-8, 3)
    expected = oracle.soap(gradient, weight, 0.05, 14, settings)
    optimizer = soap(0.05, b1=0.9, b2=0.97, eps=1e-8, precondition_frequency=3)
    path, params = [], jnp.asarray(weight)
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    for t in range(14):
        updates, state = update(jnp.asarray(gradient(np.asarray(params), t)), state, params)
        params = params + updates
        path.append(params)
    np.testing.assert_allclose(path, expected, rtol=1e-8, atol=1e-10)


def test_soap_does_not_see_the_axes(x64):
    """Turning the axes of a matrix turns SOAP's path with it; Adam's path it changes."""
    u, v = rotations(0, 5, 4)
    left, right = jnp.diag(jnp.logspace(0, 1.5, 5)), jnp.diag(jnp.logspace(1, 0, 4))
    plain, turned = matrix_quadratic(left, right), matrix_quadratic(left @ u.T, v @ right)
    w = jnp.asarray(np.random.default_rng(6).normal(size=(5, 4)))
    ours, theirs = soap(0.03, precondition_frequency=3, eps=1e-2), optax.adam(0.03)
    one, other = (
        (plain.losses(by, {"w": w}, 40), turned.losses(by, {"w": u @ w @ v.T}, 40))
        for by in (ours, theirs)
    )
    np.testing.assert_allclose(one[0], one[1], rtol=1e-6)
    assert np.abs(other[0] / other[1] - 1).max() > 0.1


def test_soap_is_faster_than_adam_off_the_axes(x64):
    u, v = rotations(1, 8, 8)
    loss = matrix_quadratic(
        jnp.diag(jnp.logspace(0, -2, 8)) @ u, v @ jnp.diag(jnp.logspace(-2, 0, 8))
    )
    start = {"w": jnp.asarray(np.random.default_rng(6).normal(size=(8, 8)))}

    @functools.partial(jax.jit, static_argnums=0)
    def best(make):
        def last(rate):
            optimizer = make(optax.cosine_decay_schedule(rate, 300))
            optimizer = optax.with_extra_args_support(optimizer)
            return loss.losses_of(optimizer, start, 301)[-1]

        return jax.vmap(last)(jnp.array([3e-3, 1e-2, 3e-2, 0.1])).min()

    adam = best(lambda rate: optax.adam(rate, b1=0.95, b2=0.95))
    assert best(soap) < 0.1 * adam


def test_soap_merges_axes_and_leaves_long_sides_alone(x64):
    grads = jnp.asarray(np.random.default_rng(0).normal(size=(6, 3, 2, 2)))
    optimizer = soap(0.1, precondition_frequency=2, max_dim=6)
    cube, flat = grads[0], grads[0].reshape(3, 4)
    state, other = optimizer.init(cube), optimizer.init(flat)
    update = jax.jit(optimizer.update)
    for grad in grads:
        step, state = update(grad, state, cube)
        same, other = update(grad.reshape(3, 4), other, flat)
        np.testing.assert_array_equal(step.reshape(3, 4), same)
    leaf = soap(0.1, max_dim=3).init(cube)[0].leaves
    assert (leaf.left.shape, leaf.right.shape) == ((3, 3), (0, 0))
    assert soap(0.1).init(jnp.zeros((1, 5)))[0].leaves.left.shape == (0, 0)


def test_soap_renews_its_bases_on_time(x64):
    loss = matrix_quadratic(jnp.diag(jnp.logspace(0, 1, 4)), jnp.eye(3))
    params = {"w": jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)))}
    optimizer = soap(0.1, precondition_frequency=3)
    state, changed = optimizer.init(params), []
    for _ in range(8):
        before = state[0].leaves["w"].left_basis
        params, state, _ = loss.step(optimizer, params, state)
        basis = state[0].leaves["w"].left_basis
        changed.append(bool((basis != before).any()))
        np.testing.assert_allclose(basis.T @ basis, np.eye(4), atol=1e-12)
    assert changed == [True, False, False, True, False, False, True, False]


# Phases


def test_switch_is_the_first_and_then_a_fresh_second(x64):
    first, second = optax.adam(1e-2), ssbroyden()
    optimizer, x = switch(first, second, 4), valley(4)
    state, alone = optimizer.init(x), first.init(x)
    for index in range(9):
        expected, alone = (
            (first if index < 4 else second),
            (second.init(x) if index == 4 else alone),
        )
        z, alone, _ = ROSENBROCK.step(expected, x, alone)
        x, state, _ = ROSENBROCK.step(optimizer, x, state)
        np.testing.assert_allclose(x, z, rtol=1e-12)
        inner = state.second if index >= 4 else state.first
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), inner, alone)


def test_the_state_of_a_second_phase_is_of_the_parameters_at_the_switch(x64):
    """What `init` reads off the parameters must not be what they were at the start."""
    anchored = optax.GradientTransformation(
        lambda params: params, lambda grads, state, params=None: (state - params, state)
    )
    optimizer, x = switch(optax.sgd(0.1), anchored, 2), jnp.array([5.0])
    state = optimizer.init(x)
    for grad in (1.0, 1.0, 3.0):
        updates, state = optimizer.update(jnp.array([grad]), state, x)
        x = x + updates
    np.testing.assert_allclose(x, 4.8, rtol=1e-12)


def test_phases_may_be_nested_and_stop_as_the_active_one(x64):
    middle = switch(natural_gradient(loss_tolerance=1e30), lbfgs(loss_tolerance=1e30), 2)
    optimizer, x = switch(optax.adam(1e-2), middle, 2), valley(4)
    state, codes = optimizer.init(x), []
    for _ in range(6):
        x, state, _ = ROSENBROCK.step(optimizer, x, state)
        codes.append(int(result_of(state)))
    assert codes == [0, 0, 2, 2, 2, 2]


# Stopping


def uphill(optimizer, x=None):
    """An update for which no step lowers the loss, whatever the gradient promises."""
    x = jnp.ones(2) if x is None else x

    def loss(z):
        return jnp.where((z == x).all(), 2.0, 3.0 + jnp.sum(z))

    args = {"value": jnp.asarray(2.0), "value_fn": loss}
    args["linearise_fn"] = lambda z: (jnp.ones(2), jnp.eye(2) * 0.7)
    return jax.jit(lambda state: optimizer.update(jnp.ones(2), state, x, **args))


def stopped(call, state, calls=5):
    """The stop code and state of the first of a few calls that stops, with no update."""
    for _ in range(calls):
        updates, state = call(state)
        if state.result:
            np.testing.assert_array_equal(updates, 0)
            return int(state.result), state
    return 0, state


@pytest.mark.parametrize("optimizer", FOUR.values(), ids=FOUR)
def test_reasons_to_stop(x64, optimizer):
    still = Squares(jax.lax.stop_gradient)

    def code(x):
        def call(state):
            _, state, updates = still.step(optimizer, x, state)
            return updates, state

        return stopped(call, optimizer.init(x))[0]

    assert Result(code(jnp.ones(2))).message.startswith("the gradient is zero")
    assert "not finite" in Result(code(jnp.array([1.0, np.nan]))).message
    call = uphill(optimizer)
    vain, state = stopped(call, optimizer.init(jnp.ones(2)))
    damped = "damping" in state._fields and "growth" in state._fields
    assert vain == (Result.DAMPING_FAILED if damped else Result.LINE_SEARCH_FAILED)
    updates, after = call(state)
    np.testing.assert_array_equal(updates, 0)
    trees_equal(after, state)


@pytest.mark.parametrize("make", [lbfgs, levenberg_marquardt])
def test_tolerances_decide_when_to_stop(x64, make):
    x, state, count = ROSENBROCK.solve(make(loss_tolerance=1e-3), valley(2), 100)
    assert Result(int(state.result)).message == "the loss is within its tolerance: converged"
    assert 1e-10 < ROSENBROCK.loss(x) <= 1e-3
    x, state, longer = ROSENBROCK.solve(make(gradient_tolerance=1e-3), valley(2), 100)
    assert Result(int(state.result)).message.startswith("the gradient is zero")
    assert 1e-16 < jnp.abs(jax.grad(ROSENBROCK.loss)(x)).max() <= 1e-3
    assert count <= longer < 100


@pytest.mark.parametrize("optimizer", GAUSS_NEWTON.values(), ids=GAUSS_NEWTON)
def test_least_squares_stops_where_no_step_is_above_rounding(x64, optimizer):
    """A loss of 1e8 that can fall by 1e-9: less than its rounding error, with a gradient."""
    loss, x = Squares(lambda x: jnp.concatenate([jnp.array([1e4]), x])), jnp.full(2, 1e-5)
    _, state, _ = loss.step(optimizer, x, optimizer.init(x))
    assert "rounding error" in Result(int(state.result)).message


@pytest.mark.parametrize("optimizer", [lbfgs(), ssbroyden()], ids=["lbfgs", "ssbroyden"])
def test_falls_within_rounding_end_a_line_search(x64, optimizer):
    """From the steepest descent the loss falls by two rounding errors: taken, and the last."""
    x, grads = jnp.ones(2), jnp.full(2, 1e-12)
    given = {"value": 1.0, "value_fn": lambda z: 1 - 2.0**-51 + 0 * jnp.sum(z)}
    updates, state = optimizer.update(grads, optimizer.init(x), x, **given)
    np.testing.assert_allclose(updates, -1e-12, rtol=1e-12)
    assert Result(int(state.result)).message == "the line search found no lower loss"


def test_a_result_is_at_the_top_of_the_state(x64):
    x = jnp.ones(2)
    ended = jnp.asarray(Result.LINE_SEARCH_FAILED, jnp.int32)
    for optimizer in (lbfgs(), switch(lbfgs(), lbfgs(), 1), factorize_weights(lbfgs(), KEY)):
        state = optimizer.init({"w": jnp.ones((2, 2))})
        assert result_of(state) == Result.RUNNING
        assert result_of(state).dtype == jnp.int32
        assert result_of(state._replace(result=ended)) == Result.LINE_SEARCH_FAILED
    for optimizer in (optax.adam(1e-3), soap(1e-3)):
        assert result_of(optimizer.init(x)) == Result.RUNNING


def test_results_have_different_messages():
    assert [int(result) for result in Result] == list(range(7))
    assert Result.RUNNING.message == ""
    assert len({result.message for result in Result}) == 7


# All of them


@pytest.mark.parametrize("optimizer", EVERY.values(), ids=EVERY)
def test_a_run_continues_from_a_file_to_the_last_bit(x64, optimizer, tmp_path):
    step = functools.partial(ROSENBROCK.step, optimizer)
    params = tree_of_six()
    state = optimizer.init(params)
    for _ in range(4):
        params, state, _ = step(params, state)
    saved = save_tree(tmp_path / "state.safetensors", {"state": state, "params": params}, "")
    template = jax.eval_shape(lambda: {"state": optimizer.init(params), "params": params})
    loaded = load_tree(saved, template)
    resumed, resumed_state = loaded["params"], loaded["state"]
    for _ in range(4):
        params, state, _ = step(params, state)
        resumed, resumed_state, _ = step(resumed, resumed_state)
    trees_equal((params, state), (resumed, resumed_state))


@pytest.mark.parametrize(
    ("optimizer", "wide"),
    [*((optimizer, True) for optimizer in EVERY.values()), (lbfgs(), False)],
    ids=[*EVERY, "all single"],
)
def test_single_precision_stays_single(optimizer, wide):
    """With JAX's double precision on or off; shapes and dtypes of a state never change."""
    with jax.enable_x64(wide):
        params = jax.tree.map(lambda a: a.astype(jnp.float32), tree_of_six())
        state = optimizer.init(params)
        start = ROSENBROCK.loss(params)
        describe = functools.partial(jax.tree.map, lambda a: (a.shape, a.dtype))
        for _ in range(5):
            before = describe((params, state))
            params, state, updates = ROSENBROCK.step(optimizer, params, state)
            assert describe((params, state)) == before
            assert all(a.dtype == jnp.float32 for a in jax.tree.leaves(updates))
        assert ROSENBROCK.loss(params) < start


@pytest.mark.parametrize("name", ["lbfgs", "levenberg_marquardt", "soap", "switch"])
def test_populations(x64, name):
    """vmap over starts is as one run each."""
    optimizer = EVERY[name]
    starts = jnp.stack([valley(4), 0.5 * valley(4)])
    together = jax.jit(jax.vmap(lambda x: ROSENBROCK.losses_of(optimizer, x, 6)))(starts)
    alone = [ROSENBROCK.losses(optimizer, x, 6) for x in starts]
    np.testing.assert_allclose(together, jnp.stack(alone), rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: lbfgs(0), "memory"),
        (lambda: lbfgs(line_search_steps=0), "line_search_steps"),
        (lambda: ssbroyden("dfp"), r"update: expected one of 'ssbroyden', 'ssbfgs', 'bfgs'"),
        (lambda: ssbroyden(gradient_tolerance=-1), "gradient_tolerance"),
        (lambda: levenberg_marquardt(0), "damping"),
        (lambda: levenberg_marquardt(space="dual"), "space: expected one of 'auto'"),
        (lambda: levenberg_marquardt(tries=0), "tries"),
        (lambda: natural_gradient(1e11), "damping"),
        (lambda: natural_gradient(loss_tolerance=float("nan")), "loss_tolerance"),
        (lambda: soap(1e-3, b1=1.0), "b1"),
        (lambda: soap(1e-3, eps=0.0), "eps"),
        (lambda: soap(1e-3, precondition_frequency=0), "precondition_frequency"),
        (lambda: soap(1e-3, max_dim=-1), "max_dim"),
        (lambda: switch(lbfgs(), lbfgs(), -1), "at"),
    ],
)
def test_arguments_are_checked(make, message):
    with pytest.raises(InputError, match=message):
        make()


ADAM = optax.adam(1e-3)
NUMBERS = {
    "mean": lambda x: factorize_weights(ADAM, KEY, mean=x),
    "deviation": lambda x: factorize_weights(ADAM, KEY, deviation=x),
    "learning_rate": soap,
    "b1": lambda x: soap(1e-3, b1=x),
    "b2": lambda x: soap(1e-3, b2=x),
    "eps": lambda x: soap(1e-3, eps=x),
    "damping": levenberg_marquardt,
    "gradient_tolerance": lambda x: natural_gradient(gradient_tolerance=x),
    "loss_tolerance": lambda x: ssbroyden(loss_tolerance=x),
    "factor": scale_subnetworks,
}
COUNTS = {
    "memory": lbfgs,
    "line_search_steps": lambda n: ssbroyden(line_search_steps=n),
    "tries": lambda n: levenberg_marquardt(tries=n),
    "precondition_frequency": lambda n: soap(1e-3, precondition_frequency=n),
    "max_dim": lambda n: soap(1e-3, max_dim=n),
    "at": lambda n: switch(ADAM, lbfgs(), n),
}
OPTIMIZERS = {
    "optimizer": lambda o: factorize_weights(o, KEY),
    "first": lambda o: switch(o, ADAM, 1),
    "second": lambda o: switch(ADAM, o, 1),
}
CHOICES = {"update": ssbroyden, "space": lambda s: natural_gradient(space=s)}
NOT_REAL = ["x", np.str_("x"), True, [1.0], np.ones((2, 2)), 1j, jnp.array(True), KEY]
NOT_FINITE = [np.nan, np.inf, -np.inf, jnp.array(np.nan), 10**5000]


@pytest.mark.parametrize(
    ("makers", "values"),
    [
        (NUMBERS, [*NOT_REAL, *NOT_FINITE]),
        ({name: make for name, make in NUMBERS.items() if name != "mean"}, [-1.0, -1]),
        (COUNTS, [*NOT_REAL, -1, 1.5, 2.0, np.nan, None]),
        ({name: make for name, make in COUNTS.items() if name != "max_dim"}, [2**31, 10**5000]),
        (OPTIMIZERS, [None, 3, "adam", optax.adam, (1, 2)]),
        (CHOICES, [None, 3, "dfp", ["bfgs"], np.array(["bfgs", "auto"])]),
        ({"acceleration": lambda x: levenberg_marquardt(acceleration=x)}, [None, 1, "yes"]),
        ({"key": lambda k: factorize_weights(ADAM, k)}, [None, 0, "x", jnp.zeros(2), [KEY, KEY]]),
    ],
    ids=["numbers", "signs", "counts", "bounds", "optimizers", "choices", "flags", "keys"],
)
def test_a_wrong_argument_gives_one_line(makers, values):
    for name, make in makers.items():
        for value in values:
            with pytest.raises(InputError) as error:
                make(value)
            assert str(error.value).startswith(f"{name}: expected "), (name, error.value)
            assert "\n" not in str(error.value)


def test_numbers_may_be_arrays_schedules_or_traced():
    for rate in (0, 1e-3, np.float32(1e-3), jnp.array(1e-3), optax.constant_schedule(1e-3)):
        soap(rate, b1=np.float32(0.9))
    rates = jnp.array([1e-2, 1e-1])
    steps = jax.vmap(lambda rate: ROSENBROCK.losses_of(soap(rate), valley(4), 4)[-1])(rates)
    assert steps[0] != steps[1]
    factorize_weights(ADAM, jax.random.PRNGKey(0))


@pytest.mark.parametrize("optimizer", (SECOND_ORDER | {"soap": soap(1e-3)}).values())
def test_parameters_are_real(optimizer):
    for params in ({"w": jnp.zeros(2, jnp.complex64)}, {"w": jnp.zeros(2, jnp.int32)}, {}):
        with pytest.raises(InputError, match="parameters"):
            optimizer.init(params)


@pytest.mark.parametrize(
    ("optimizer", "needs"),
    [(lbfgs(), "value"), (ssbroyden(), "value"), *((o, "value_fn") for o in GAUSS_NEWTON.values())],
)
def test_updates_need_their_arguments(optimizer, needs):
    x = jnp.ones(2)
    with pytest.raises(InputError, match=rf"update needs {needs}$"):
        optimizer.update(x, optimizer.init(x), x)
    with pytest.raises(InputError, match=r"update needs params$"):
        optimizer.update(x, optimizer.init(x))
