"""The contract of `lrnn_jax.typing.Problem`, held by every problem."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lrnn_jax as lj
from lrnn_jax import InputError, inverse, pde
from lrnn_jax.experiments import PROBLEMS, Experiment, RunFolder, resume, start
from lrnn_jax.experiments.spec import experiment_from, table_of
from lrnn_jax.training.least_squares import LeastSquares
from lrnn_jax.typing import Data, Field, Key, Model, Problem

SMALL = {"source": "camera", "size": (12, 8)}
FEW = {"points": 16, "boundary_points": 5}
EXAMPLES: dict[str, Problem] = {
    "image": lj.Image(**SMALL),
    "audio": lj.Audio(seconds=0.01),
    "video": lj.Video(frames=3, size=(6, 5)),
    "field": lj.SampledField(),
    "volume": lj.Volume(np.random.default_rng(0).random((4, 5, 6))),
    "occupancy": lj.Occupancy(resolution=12),
    "signed_distance": lj.SignedDistance(resolution=12),
    "denoising": inverse.Denoising(**SMALL),
    "inpainting": inverse.Inpainting(**SMALL),
    "super_resolution": inverse.SuperResolution(**SMALL),
    "multi_frame_super_resolution": inverse.MultiFrameSuperResolution(**SMALL, shift=1.0),
    "ct": inverse.CT(size=12, views=4),
    "regression": lj.Regression(),
    "classification": lj.Classification(source="iris"),
    "poisson": pde.Poisson(**FEW),
    "helmholtz": pde.Helmholtz(**FEW),
    "convection": pde.Convection(**FEW),
    "heat": pde.Heat(**FEW),
    "wave": pde.Wave(**FEW),
    "burgers": pde.Burgers(**FEW),
    "allen_cahn": pde.AllenCahn(**FEW),
    "kdv": pde.KortewegDeVries(**FEW),
    "reaction_diffusion": pde.ReactionDiffusion(**FEW),
    "kovasznay": pde.Kovasznay(**FEW),
    "taylor_green": pde.TaylorGreen(**FEW),
}
each_problem = pytest.mark.parametrize("name", EXAMPLES)
KEY = jax.random.PRNGKey(0)  # of the old kind, which is not checked for being used twice


def field_of(problem: Problem) -> lj.BoundModel:
    model = lj.Siren(in_dim=problem.in_dim, out_dim=problem.out_dim, width=4, depth=1, omega0=2.0)
    return lj.BoundModel(model, model.init(jax.random.key(1)))


@functools.cache
def loaded(name: str) -> Data:
    return EXAMPLES[name].load()


def test_every_problem_of_the_registry_is_held_to_the_contract():
    assert {name: type(problem) for name, problem in EXAMPLES.items()} == PROBLEMS


@each_problem
def test_a_problem_is_a_hashable_value_with_every_member(name):
    problem = EXAMPLES[name]
    assert isinstance(problem, Problem)
    assert dataclasses.replace(problem) == problem
    assert hash(dataclasses.replace(problem)) == hash(problem)
    assert min(problem.in_dim, problem.out_dim) >= 1
    assert problem.order >= 0


@each_problem
def test_data_are_arrays_and_the_same_each_time(name):
    first, second = loaded(name), EXAMPLES[name].load()
    assert jax.tree.structure(first) == jax.tree.structure(second)
    for one, other in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(one, other)


@each_problem
def test_a_loss_is_a_mean_over_points_unless_it_says_so(name):
    """Also differentiable, and the same under jit."""
    problem, data = EXAMPLES[name], loaded(name)
    field = field_of(problem)
    loss = jax.jit(lambda field, data: problem.loss(field, data, KEY)[0])
    whole = loss(field, data)
    np.testing.assert_allclose(problem.loss(field, data, KEY)[0], whole, rtol=1e-5)
    gradient = jax.tree.leaves(jax.grad(loss)(field, data))
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in gradient)
    assert any(bool(jnp.any(leaf != 0)) for leaf in gradient)
    if problem.full_batch_only or isinstance(problem, LeastSquares):
        return
    count = len(jax.tree.leaves(data)[0])
    cut = count // 3
    parts = (jax.tree.map(lambda a: a[:cut], data), jax.tree.map(lambda a: a[cut:], data))
    mean = (cut * loss(field, parts[0]) + (count - cut) * loss(field, parts[1])) / count
    np.testing.assert_allclose(mean, whole, rtol=1e-5)


CT = inverse.CT(size=12, views=4, endpoint=True, residual_filter="ramp", tv_weight=0.3, block=7)
PROGRAMS = EXAMPLES | {"ct": CT, "signed_distance": lj.SignedDistance(points=50, eikonal=0.7)}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_program_of_a_problem_has_its_loss(name):
    """Of other fields than `loss_fields`, the loss depends through the data alone."""
    problem = PROGRAMS[name]
    data, field = problem.load(), field_of(problem)
    expected = problem.loss(field, data, KEY)[0]
    assert problem.program().loss(field, problem.loss_data(data), KEY)[0] == expected
    assert problem.program().program() == problem.program()
    seed = next((f for f in ("point_seed", "split_seed", "noise_seed") if hasattr(problem, f)), "")
    if seed:
        assert dataclasses.replace(problem, **{seed: 9}).program() == problem.program()


def test_signals_of_one_kind_have_one_program():
    assert lj.Image("camera", size=(8, 8)).program() == lj.Image(np.ones((8, 8))).program()
    first, second = (inverse.CT(size=12, views=views).program() for views in (4, 5))
    assert first != second


def test_a_class_with_its_own_loss_does_not_inherit_the_fields_that_it_reads():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Weighted(lj.Image):
        weight: float = 1.0

        def loss(self, field, data, key):
            value, terms = super().loss(field, data, key)
            return self.weight * value, terms

    problem = Weighted("camera", size=(8, 8), weight=3.0)
    assert problem.program() == problem


@each_problem
def test_scores_have_the_same_names_and_values_each_time_for_any_field(name):
    problem, data = EXAMPLES[name], loaded(name)
    field = field_of(problem)
    scores = problem.evaluate(field, data)
    assert problem.evaluate(field, data) == scores
    assert all(type(value) is float for value in scores.values())
    assert problem.validation_score is None or problem.validation_score in scores
    plain = problem.evaluate(lambda x: field.model.apply(field.params, jnp.asarray(x)), data)
    assert plain.keys() == scores.keys()
    for score, value in scores.items():
        np.testing.assert_allclose(plain[score], value, rtol=1e-3, atol=1e-3)


@each_problem
def test_progress_is_made_of_the_terms_of_a_step(name):
    problem, data = EXAMPLES[name], loaded(name)
    loss, terms = problem.loss(field_of(problem), data, KEY)
    line = {"loss": float(loss)} | {term: float(value) for term, value in terms.items()}
    assert all(np.isfinite(value) for value in problem.progress(line).values())


@each_problem
def test_what_is_drawn_and_decoded_are_files_of_those_names(name, tmp_path):
    problem, data = EXAMPLES[name], loaded(name)
    field = field_of(problem)
    if name in ("occupancy", "signed_distance"):  # an untrained field has no surface
        field = lambda x: jnp.sum(jnp.asarray(x) ** 2, -1, keepdims=True) - 0.25  # noqa: E731
        field = field if name == "signed_distance" else lambda x, f=field: 0.5 - f(x)
    files = problem.render(field, data, tmp_path)
    assert files
    decoded = problem.decode(field, None, tmp_path / problem.decoded_file)
    assert decoded == tmp_path / problem.decoded_file
    for path in (*files, decoded):
        assert path.stat().st_size > 50


# Classes of the user's own ------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line(Problem):
    """u(x) = slope x at a few points."""

    slope: float = 2.0
    in_dim: int = 1
    out_dim: int = 1

    def load(self) -> Data:
        return np.linspace(-1, 1, 8, dtype=np.float32)[:, None]

    def loss(self, field: Field, data: Data, key: Key):
        del key
        return jnp.mean((field(data) - self.slope * data) ** 2), {}

    def evaluate(self, field: Field, data: Data) -> dict[str, float]:
        return {"error": float(np.abs(lj.predict(field, data) - self.slope * data).max())}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Linear(Model):
    """u(x) = a x."""

    in_dim: int = 1
    out_dim: int = 1

    def init(self, key: Key):
        return {"a": jax.random.uniform(key, (1,))}

    def apply(self, params, x):
        return params["a"] * x


OWN = Experiment(
    model=Linear(), problem=Line(slope=3.0), training=lj.Training(steps=4, learning_rate=0.1)
)


def test_ones_own_model_and_problem_are_solved_run_and_resumed(tmp_path):
    found = lj.solve(OWN.model, OWN.problem, lj.Training(steps=300, learning_rate=0.1))
    assert found.scores["error"] < 1e-3
    assert table_of(OWN)["problem"]["kind"] == f"{__name__}:Line"
    start(OWN, tmp_path / "run")
    folder = RunFolder.open(tmp_path / "run")
    assert folder.experiment() == OWN
    assert resume(folder, {"steps": 8}).summary["step"] == 8
    with pytest.raises(InputError, match="Line has no file form: it cannot be decoded"):
        OWN.problem.decode(found.field, None, tmp_path / "line")


def test_a_class_that_no_file_can_name_is_refused_before_the_first_step(tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Local(Line):
        pass

    experiment = dataclasses.replace(OWN, problem=Local())
    with pytest.raises(InputError, match=r"problem: a file cannot name .*Local: make it a data"):
        start(experiment, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("no_such_module:Line", "cannot import 'no_such_module:Line'"),
        ("math:nothing", "cannot import 'math:nothing'"),
        ("math:sin", "'math:sin' is no dataclass with the members of lrnn_jax.typing.Problem"),
        (":Line", "cannot import ':Line'"),
    ],
)
def test_an_import_path_of_no_problem_is_one_line(kind, message):
    with pytest.raises(InputError, match=f"problem.kind: {message}"):
        experiment_from({"problem": {"kind": kind}})


def test_a_model_without_a_member_says_how_to_get_it():
    @dataclasses.dataclass(frozen=True)
    class Bare:
        in_dim: int = 1
        out_dim: int = 1
        init = apply = None

    with pytest.raises(InputError, match="model: Bare has no smoothness; inherit from lrnn_jax"):
        lj.solve(Bare(), OWN.problem, lj.Training(steps=1))
