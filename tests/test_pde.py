"""Equations: residuals on exact solutions, conditions, points, weights, scores, pictures."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import fronts
from PIL import Image as Pillow

import lrnn_jax as lj
from lrnn_jax import InputError, pde
from lrnn_jax.experiments.spec import PROBLEMS
from lrnn_jax.fields import BoundModel
from lrnn_jax.operators import derivative, laplacian
from lrnn_jax.residuals import sum_of_parts

EQUATIONS = {name: kind for name, kind in PROBLEMS.items() if issubclass(kind, pde.PDE)}
KNOWN = [name for name, kind in EQUATIONS.items() if kind.exact]
PERIODIC = [name for name, kind in EQUATIONS.items() if kind.periodic_axes]
HARD = [name for name, kind in EQUATIONS.items() if kind.ansatz is not pde.PDE.ansatz]


def fisher_front(x, *, diffusion, rate):
    """(1 + exp(sqrt(rho / (6 nu)) x - 5 rho t / 6))^-2 solves u_t = nu u_xx + rho u (1 - u)."""
    place, time = x[..., 0], x[..., 1]
    phase = math.sqrt(rate / (6 * diffusion)) * place - 5 * rate / 6 * time
    return (1 / (1 + jnp.exp(phase)) ** 2)[..., None]


FRONTS = {
    "burgers": (
        pde.Burgers(viscosity=0.1),
        functools.partial(fronts.burgers_front, viscosity=0.1),
    ),
    "allen_cahn": (
        pde.AllenCahn(diffusion=0.02),
        functools.partial(fronts.allen_cahn_front, diffusion=0.02),
    ),
    "kdv": (
        pde.KortewegDeVries(mu=0.2),
        functools.partial(fronts.korteweg_de_vries_soliton, mu=0.2),
    ),
    "reaction_diffusion": (
        pde.ReactionDiffusion(),
        functools.partial(fisher_front, diffusion=3.0, rate=5.0),
    ),
}


def residual_at(problem, field, count=20):
    low, high = np.array(problem.domain.low), np.array(problem.domain.high)
    unit = np.random.default_rng(0).uniform(size=(count, problem.domain.dim))
    return np.asarray(jax.vmap(problem.residual(field))(jnp.asarray(low + unit * (high - low))))


# The equations ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EQUATIONS)
def test_a_residual_vanishes_on_a_solution_and_on_no_other(name, x64):
    problem, exact = FRONTS.get(name) or (EQUATIONS[name](), None)
    exact = exact or problem.exact
    assert np.abs(residual_at(problem, exact)).max() < 1e-8
    perturbed = lambda x: exact(x) + 0.01 * jnp.sin(3 * x[0] + 2 * x[-1])  # noqa: E731
    assert np.abs(residual_at(problem, perturbed)).max() > 1e-3


@pytest.mark.parametrize(("dim", "frequency"), [(1, 8), (2, 2), (2, 4), (3, 1), (5, 2), (10, 1)])
def test_poissons_forcing_is_that_of_its_solution(dim, frequency, x64):
    problem = pde.Poisson(dim=dim, frequency=frequency)
    scale = dim * (frequency * math.pi) ** 2
    assert np.abs(residual_at(problem, problem.exact)).max() < 1e-10 * scale


@pytest.mark.parametrize("frequency", [1, 2, 4, 8])
def test_poissons_chirp(frequency, x64):
    problem = pde.Poisson(source="chirp", frequency=frequency)
    assert np.abs(residual_at(problem, problem.exact)).max() < 1e-8


@pytest.mark.parametrize("name", KNOWN)
def test_all_parts_vanish_on_the_solution(name, x64):
    problem = EQUATIONS[name](points=20, boundary_points=12, coordinates="raw")
    loss, terms = sum_of_parts(problem.parts(problem.load()), problem.exact)
    assert len(terms) >= 2
    assert loss < 1e-18
    assert problem.evaluate(problem.exact)["relative_l2"] < 1e-12


@pytest.mark.parametrize("name", HARD)
def test_an_ansatz_fulfils_its_conditions_for_any_network(name, x64):
    kind = EQUATIONS[name]
    fields = {"points": 20, "boundary_points": 24}
    soft, hard = kind(**fields), kind(**fields, hard=True)

    def network(x):
        return jnp.stack([jnp.cos(3 * jnp.sum(x, -1) + i) for i in range(hard.out_dim)], -1)

    u = hard.solution(network)
    built_in = [c for c in soft.conditions if c.hard]
    data = soft.load()
    for condition in built_in:
        left = jax.vmap(condition.residual(u))(data[condition.name])
        assert np.abs(left).max() < 1e-12
    assert built_in
    assert set(hard.load()) == set(data) - {c.name for c in built_in}


@pytest.mark.parametrize("name", PERIODIC)
def test_the_embedding_makes_a_network_periodic(name, x64):
    problem = EQUATIONS[name](harmonics=2)
    model = lj.MLP(in_dim=problem.in_dim, out_dim=problem.out_dim, width=8, depth=1)
    u = problem.solution(functools.partial(model.apply, model.init(jax.random.key(0))))
    box = problem.domain
    x = jnp.asarray(box.mesh((3,) * box.dim))
    for axis in problem.periodic_axes:
        shift = jnp.zeros(box.dim).at[axis].set(box.high[axis] - box.low[axis])
        np.testing.assert_allclose(u(x), u(x + shift), atol=1e-12)
    assert not any(name.startswith("periodic") for name in problem.load())


def test_time_harmonics_force_no_period_on_time(x64):
    problem = pde.Convection(time_harmonics=3)
    assert problem.in_dim == 8
    start, end = problem.embed(jnp.array([[1.0, 0.0], [1.0, 1.0]]))
    np.testing.assert_allclose(start[2:], [1, 0, 1, 0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(end[2:], [-1, 0, 1, 0, -1, 0], atol=1e-12)
    middle = problem.embed(jnp.array([0.0, 0.25]))
    np.testing.assert_allclose(middle[2:4], [math.cos(math.pi / 4), math.sin(math.pi / 4)])


def test_unit_coordinates_span_minus_one_to_one():
    ends = jnp.array([[0.0, 0.0], [2 * math.pi, 1.0]])
    np.testing.assert_allclose(pde.Convection().embed(ends), [[-1, -1], [1, 1]], atol=1e-6)
    np.testing.assert_allclose(pde.Convection(coordinates="raw").embed(ends), ends)


def test_the_published_set_up_of_convection():
    problem = pde.Convection(sampler="grid")
    data = problem.load()
    assert {name: len(rows) for name, rows in data.items()} == {
        "residual": 1000,
        "initial": 256,
        "periodic_0": 100,
    }
    assert len(np.unique(np.asarray(data["residual"]), axis=0)) == 1000
    x = problem.test_points().x.reshape(256, 100, 2)
    np.testing.assert_allclose(x[1, 0, 0], 2 * math.pi / 256)
    np.testing.assert_allclose(x[0, -1, 1], 1.0)
    truth = problem.truth().reshape(256, 100)
    np.testing.assert_allclose(truth[3, 7], math.sin(3 * 2 * math.pi / 256 - 30 * 7 / 99))


# Points and weights -------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["uniform", "latin_hypercube", "sobol"])
def test_fresh_points_are_others_in_the_same_box(sampler):
    problem = pde.Burgers(points=64, sampler=sampler, resample_every=1)
    data = problem.load()
    fresh = problem.resample(lambda x: x[..., :1], data, jax.random.key(5))
    assert jax.tree.map(jnp.shape, fresh) == jax.tree.map(jnp.shape, data)
    assert not np.isin(np.asarray(fresh["residual"]), np.asarray(data["residual"])).any()
    assert problem.domain.contains(fresh["residual"]).all()
    assert (np.asarray(fresh["initial"])[:, 1] == 0).all()


def test_given_rows_stay():
    problem = pde.Convection(resample_every=1)
    data = problem.load()
    fresh = problem.resample(lambda x: x[..., :1], data, jax.random.key(5))
    np.testing.assert_array_equal(fresh["initial"], data["initial"])


def test_adaptive_points_gather_where_the_residual_is(x64):
    def equation(u):
        return lambda x: u(x) * jnp.exp(-50 * (x[0] - 0.5) ** 2)

    fields = {"domain": pde.Box((0.0,), (1.0,)), "residual": equation, "points": 400}
    fields["resample_every"] = 1
    one = lambda x: jnp.ones((*x.shape[:-1], 1))  # noqa: E731

    def near(adaptive):
        problem = pde.Equation(**fields, adaptive=adaptive)
        x = problem.resample(one, problem.load(), jax.random.key(1))["residual"]
        return np.mean(np.abs(np.asarray(x) - 0.5) < 0.1)

    assert abs(near(False) - 0.2) < 0.08
    # of density ~ |r| + mean |r|, mean |r| = 0.25: 0.2 / 2 + 0.68 / 2, less where points run out
    assert 0.34 < near(True) < 0.48


def test_causal_weights_depend_on_earlier_times_alone(x64):
    problem = pde.Burgers(causal=2.0)
    x = jnp.stack([jnp.zeros(64), (jnp.arange(64) + 0.5) / 64], axis=-1)
    r = jnp.abs(jnp.sin(jnp.arange(64.0)))[:, None]
    weights = np.asarray(problem._causal_weights(r, x))
    means = np.asarray(r[:, 0] ** 2).reshape(32, 2).mean(axis=1)
    expected = np.exp(-2.0 * np.array([means[:k].sum() for k in range(32)]))
    np.testing.assert_allclose(weights, np.repeat(expected, 2), rtol=1e-12)
    assert weights[0] == 1
    assert (np.diff(weights) <= 0).all()
    later = np.asarray(problem._causal_weights(r.at[40:].set(9.0), x))
    np.testing.assert_allclose(weights[:42], later[:42], rtol=1e-12)


def test_causal_weights_have_no_derivative(x64):
    problem = pde.Convection(causal=1.0, points=64)
    data = problem.load()

    def loss(amplitude, tolerance):
        parts = dataclasses.replace(problem, causal=tolerance).parts(data)
        field = lambda x: amplitude * jnp.sin(x[..., :1] + x[..., 1:])  # noqa: E731
        return sum_of_parts({"residual": parts["residual"]}, field)[0]

    # the residual is proportional to the amplitude, so with constant factors loss = c a^2
    value, slope = jax.value_and_grad(loss)(0.1, 1.0)
    np.testing.assert_allclose(slope, 2 * value / 0.1, rtol=1e-10)
    assert value < loss(0.1, 0.0)


# Conditions ---------------------------------------------------------------------------------------

BOX = pde.Box((0.0, -1.0), (2.0, 1.0))


def value_of(condition, u, n=8):
    rows = condition.rows(jax.random.key(0), n, "uniform")
    return np.asarray(jax.vmap(condition.residual(u))(rows))


def test_neumann_takes_the_outer_normal(x64):
    u = lambda x: jnp.array([x[0] ** 2 + 3 * x[1]])  # noqa: E731
    assert np.allclose(value_of(pde.neumann(BOX, 4.0, ((0, 1),)), u), 0)
    assert np.allclose(value_of(pde.neumann(BOX, 0.0, ((0, 0),)), u), 0)
    assert np.allclose(value_of(pde.neumann(BOX, 3.0, ((1, 1),)), u), 0)
    assert np.allclose(value_of(pde.neumann(BOX, -3.0, ((1, 0),)), u), 0)


def test_periodic_compares_both_ends(x64):
    u = lambda x: jnp.array([jnp.sin(math.pi * x[0]) * x[1] + x[0]])  # noqa: E731
    np.testing.assert_allclose(value_of(pde.periodic(BOX, 0), u), -2.0, atol=1e-12)
    both = value_of(pde.periodic(BOX, 0, derivatives=1), u)
    np.testing.assert_allclose(both[:, 0], -2.0, atol=1e-12)
    np.testing.assert_allclose(both[:, 1], 0.0, atol=1e-12)


def test_dirichlet_covers_the_faces_in_turn(x64):
    rows = np.asarray(pde.dirichlet(BOX).rows(jax.random.key(0), 8, "uniform"))
    on = [(rows[:, 0] == 0), (rows[:, 0] == 2), (rows[:, 1] == -1), (rows[:, 1] == 1)]
    assert [int(face.sum()) for face in on] == [2, 2, 2, 2]


def test_a_period_is_given_up_only_where_it_is_embedded():
    both = (pde.periodic(BOX, 0, 1), pde.periodic(BOX, 1, 1))
    fields = {"domain": BOX, "residual": lambda u: u, "conditions": both, "periodic_axes": (0,)}
    assert sorted(pde.Equation(**fields, harmonics=2).load()) == ["periodic_1", "residual"]


@pytest.mark.parametrize("problem", [pde.ReactionDiffusion(), pde.KortewegDeVries()])
def test_a_period_holds_for_all_derivatives_below_the_order(problem):
    condition = next(c for c in problem.conditions if c.name == "periodic_0")
    assert jax.eval_shape(condition.residual(lambda x: x[:1] ** 3), jnp.zeros(2)).shape == (
        problem.order,
    )


def test_a_solution_found_can_be_differentiated():
    problem = pde.Poisson(points=10)
    model = lj.Siren(in_dim=2, out_dim=1, width=4, depth=1, omega0=1.0)
    field = BoundModel(model, model.init(jax.random.key(0)))
    x = jnp.array([[0.2, -0.4], [0.5, 0.1]])
    found = jax.vmap(laplacian(problem.solution(field)))(x)
    np.testing.assert_allclose(
        found, problem.residual_at(field, x) - jax.vmap(problem.forcing)(x), rtol=1e-4
    )


def test_initial_velocity_is_the_derivative_in_time(x64):
    u = lambda x: jnp.array([jnp.sin(3 * x[1] + 3.0) + x[0]])  # noqa: E731
    np.testing.assert_allclose(value_of(pde.initial_velocity(BOX, 3.0), u), 0, atol=1e-12)


def test_measurements_are_data(x64):
    x, y = np.array([[0.5, 0.0], [1.0, 0.5]]), np.array([[1.0], [2.0]])
    u = lambda x: x[:1] * 2  # noqa: E731
    np.testing.assert_allclose(value_of(pde.measured(BOX, x, y), u), 0)


# A user's equation --------------------------------------------------------------------------------


def oscillator(**fields):
    box = pde.Box((0.0,), (1.0,))

    def equation(u):
        return lambda x: derivative(u, 0, 0)(x) + 9.0 * u(x)

    start = pde.dirichlet(box, 1.0, ((0, 0),))
    slope = pde.neumann(box, 0.0, ((0, 0),))
    return pde.Equation(
        domain=box, residual=equation, conditions=(start, slope), points=40, boundary_points=1,
        exact=lambda x: jnp.cos(3 * x), **fields,
    )  # fmt: skip


def test_a_users_equation_is_solved():
    model = lj.Siren(in_dim=1, out_dim=1, width=12, depth=2, omega0=2.0)
    settings = lj.Training(optimizer="levenberg_marquardt", steps=40, precision="float64")
    before = jnp.zeros(1).dtype
    found = lj.solve(model, oscillator(), settings)
    assert found.scores["relative_l2"] < 1e-4
    assert found.params["head"]["bias"].dtype == np.float64
    assert jnp.zeros(1).dtype == before  # the precision was the training's alone


def test_an_unknown_solution_has_no_score():
    problem = dataclasses.replace(oscillator(), exact=None)
    assert problem.evaluate(lambda x: x) == {}


BAD = {
    "axis 1 has no length": lambda: pde.Box((0, 1), (1, 1)),
    "as many lower as upper ends": lambda: pde.Box((0,), (1, 1)),
    "lies outside the box": lambda: pde.measured(BOX, [[3.0, 0.0]], [[1.0]]),
    r"initial: point 1, .* lies outside": lambda: pde.initial(BOX, 0.0, points=[[0, -1], [9, -1]]),
    "periodic_0: expected points at 0.0": lambda: pde.periodic(BOX, points=[[1.0, 0.0]]),
    "faces: expected one or more": lambda: pde.dirichlet(BOX, faces=()),
    "measured: expected finite values": lambda: pde.measured(BOX, [[1.0, 0.0]], [[math.nan]]),
    r"measured: expected points of shape \(n, 2\)": lambda: pde.measured(BOX, [], []),
    "measured: expected an array": lambda: pde.measured(BOX, [["a", 0.0]], [[1.0]]),
    r"velocity: expected an array of numbers, got 'a'": lambda: pde.initial_velocity(BOX, "a"),
    "box: expected numbers": lambda: pde.Box((-(10**400),), (1,)),
    "box: expected a Box": lambda: pde.dirichlet(((0.0,), (1.0,))),
    "faces: .* got 5": lambda: pde.neumann(BOX, faces=5),
    r"no face \[0, 1\]": lambda: pde.neumann(BOX, faces=([0, 1],)),
    "no face 0": lambda: pde.neumann(BOX, faces=(0, 1)),
    "axis: expected an integer from 0 to 1, got 2": lambda: pde.periodic(BOX, 2),
    "axis: .* got 'x'": lambda: pde.periodic(BOX, "x"),
    "derivatives: expected": lambda: pde.periodic(BOX, 0, -1),
    "initial: expected an array": lambda: pde.initial(BOX, 0.0, points=[[0], [0, 1]]),
    r"initial: expected points of shape \(n, 2\)": lambda: pde.initial(BOX, 0.0, points=[]),
    "flux: expected a weight >= 0, got 'a'": lambda: pde.neumann(BOX, weight="a"),
    "measured: expected a weight": lambda: pde.measured(BOX, [[1, 0]], [[1]], weight=math.nan),
    "boundary: expected a weight >= 0, got None": lambda: pde.Equation(
        domain=BOX,
        residual=lambda u: u,
        conditions=(pde.dirichlet(BOX)._replace(weight=None),),
    ).load(),
    "counts, closed: expected 2 numbers": lambda: BOX.mesh((3,)),
    r"x: expected points of shape \(..., 2\)": lambda: BOX.contains(np.zeros(3)),
    "boundary_points: expected one for each of 2 faces": lambda: pde.Heat(boundary_points=1).load(),
    "adaptive: expected resample_every": lambda: pde.Heat(adaptive=True),
    "causal: expected a finite number": lambda: pde.Heat(causal="2"),
    "frequencies: expected a tuple of 2 numbers": lambda: pde.Helmholtz(frequencies=(3,)),
    "domain: expected a Box": lambda: pde.Equation(domain=((0,), (1,)), residual=lambda u: u),
    "conditions: expected a tuple": lambda: pde.Equation(
        domain=BOX, residual=lambda u: u, conditions=[pde.dirichlet(BOX)]
    ),
    "residual: expected a function, got 5": lambda: pde.Equation(domain=BOX, residual=5),
    "time: expected True or False": lambda: pde.Equation(domain=BOX, residual=lambda u: u, time=1),
    "periodic_axes: expected a tuple of numbers, got 0": lambda: pde.Equation(
        domain=BOX, residual=lambda u: u, periodic_axes=0
    ),
    "periodic_axes: expected different axes": lambda: pde.Equation(
        domain=BOX, residual=lambda u: u, periodic_axes=(5,)
    ),
    "initial_weight: expected 1": lambda: pde.Equation(
        domain=BOX, residual=lambda u: u, initial_weight=10.0
    ),
    "hard: expected True with": lambda: pde.Equation(
        domain=BOX, residual=lambda u: u, ansatz=lambda v, x: v(x)
    ),
    "boundary: expected a weight >= 0": lambda: pde.Equation(
        domain=BOX, residual=lambda u: u, conditions=(pde.dirichlet(BOX, weight=-1.0),)
    ).load(),
    "boundary: point .* lies outside": lambda: pde.Equation(
        domain=BOX, residual=lambda u: u, conditions=(pde.dirichlet(pde.Box((0, -1), (9, 1))),)
    ).load(),
    "expected one array, got several": lambda: pde.Equation(
        domain=BOX, residual=lambda u: lambda x: (u(x), u(x))
    ).load(),
    "exact: expected shape": lambda: pde.Equation(
        domain=BOX, residual=lambda u: u, exact=lambda x: x[..., 0]
    ).load(),
    r"no face \(2, 0\)": lambda: pde.dirichlet(BOX, faces=((2, 0),)),
    r"values of shape \(1, o\)": lambda: pde.measured(BOX, [[1.0, 0.0]], [1.0]),
    r"residual: expected shape \(\) or \(k,\)": lambda: pde.Equation(
        domain=BOX, residual=lambda u: lambda x: jax.jacfwd(u)(x), component_names=("u1", "u2")
    ).load(),
    r"value of shape \(\) or \(1,\) at a point, got \(2,\)": lambda: pde.Equation(
        domain=BOX, residual=lambda u: u, conditions=(pde.dirichlet(BOX, lambda x: x),)
    ).load(),
    "residual: fails for u": lambda: pde.Equation(
        domain=BOX, residual=lambda u: lambda x: u(x)[3] + x @ jnp.ones(3)
    ).load(),
    "conditions: expected different names": lambda: pde.Equation(
        domain=BOX, residual=lambda u: u, conditions=(pde.dirichlet(BOX), pde.dirichlet(BOX))
    ),
    r"hard: expected True with a": lambda: pde.Equation(
        domain=BOX, residual=lambda u: u, hard=True
    ),
    "hard: Kovasznay has no ansatz": lambda: pde.Kovasznay(hard=True),
    "causal: expected 0": lambda: pde.Poisson(causal=1.0),
    "harmonics: expected 0": lambda: pde.Poisson(harmonics=1),
    "time_harmonics: expected 0": lambda: pde.Poisson(time_harmonics=1),
    "dim: the source 'chirp' needs 2": lambda: pde.Poisson(dim=3, source="chirp"),
    "the grid has 25245 inner points": lambda: pde.Convection(sampler="grid", points=30_000),
    "residual_weight: expected a finite number >= 0": lambda: pde.Heat(residual_weight=-1.0),
    "sampler: expected one of": lambda: pde.Heat(sampler="halton"),
    "beta: expected a finite number > 0": lambda: pde.Convection(beta=0.0),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_one_clear_line(message):
    with pytest.raises(InputError, match=message) as error:
        BAD[message]()
    assert "\n" not in str(error.value)


# Pictures -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["poisson", "convection", "kovasznay", "taylor_green"])
def test_pictures_open_and_time_moves(name, tmp_path):
    problem = EQUATIONS[name]()
    model = lj.MLP(in_dim=problem.in_dim, out_dim=problem.out_dim, width=4, depth=1)
    field = functools.partial(model.apply, model.init(jax.random.key(0)))
    files = {path.name: path for path in problem.render(field, None, tmp_path)}
    assert "solution.png" in files
    for path in files.values():
        with Pillow.open(path) as picture:
            assert min(picture.size) > 100
            if path.suffix == ".gif":
                assert 20 <= picture.n_frames <= 50
    assert ("solution.gif" in files) == problem.time


def test_a_exact_decoded_at_any_resolution(tmp_path):
    problem = pde.Heat()
    path = problem.decode(lambda x: x[..., :1], (5, 3), tmp_path / "values.npz")
    with np.load(path) as stored:
        np.testing.assert_allclose(stored["x"][:, 0].reshape(5, 3)[:, 1], np.linspace(0, 1, 5))
        np.testing.assert_allclose(stored["u"][:, 0], 2 * stored["x"][:, 0] - 1, atol=1e-6)
    with pytest.raises(InputError, match="size: expected 2 numbers"):
        problem.decode(lambda x: x, (5,), path)


def test_poisson_in_space_has_scattered_test_points_and_no_picture(tmp_path):
    problem = pde.Poisson(dim=3)
    assert problem.test_points().shape is None
    assert problem.render(lambda x: x[..., :1], None, tmp_path) == []
    assert problem.evaluate(problem.exact)["relative_l2"] < 1e-5


def test_the_residual_is_that_of_the_solution():
    problem = pde.Poisson(coordinates="raw")
    u = lambda x: jnp.sum(x**2, axis=-1, keepdims=True)  # noqa: E731
    x = np.array([[0.5, 0.5]])
    found = problem.residual_at(u, x)
    np.testing.assert_allclose(found, 4 + problem.forcing(jnp.asarray(x[0]))[None], rtol=1e-6)
    np.testing.assert_allclose(laplacian(u)(jnp.asarray(x[0])), 4.0, rtol=1e-6)


# Every equation, briefly --------------------------------------------------------------------------


@pytest.mark.parametrize("name", EQUATIONS)
def test_a_few_steps_bring_the_loss_down_three_times(name):
    problem = EQUATIONS[name](points=60, boundary_points=24)
    width = 48 if name == "helmholtz" else 16
    model = lj.Siren(
        in_dim=problem.in_dim, out_dim=problem.out_dim, width=width, depth=1, omega0=6.0
    )
    training = lj.Training(optimizer="levenberg_marquardt", steps=60, precision="float64")
    losses = lj.solve(model, problem, training).history["loss"]
    assert losses[-1] < losses[0] / 3
