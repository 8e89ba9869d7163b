"""Saving and loading of fitted models and of runs from Python."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

import lrnn_jax as lj
from lrnn_jax.experiments import Experiment, start

MODEL = lj.Siren(in_dim=2, out_dim=1, width=8, depth=2)


def params_of(model, dtype=np.float32):
    return jax.tree.map(lambda leaf: np.asarray(leaf).astype(dtype), model.init(jax.random.key(0)))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_saved_model_is_read_back_bit_for_bit(tmp_path, dtype):
    params = params_of(MODEL, dtype)
    model, found = lj.load(lj.save(tmp_path / "m.safetensors", MODEL, params))
    assert model == MODEL
    for left, right in zip(jax.tree.leaves(params), jax.tree.leaves(found), strict=True):
        assert left.dtype == right.dtype and np.array_equal(left, right)


def test_a_path_may_be_text_and_equal_models_give_equal_files(tmp_path):
    one = lj.save(f"{tmp_path}/one", MODEL, params_of(MODEL))
    two = lj.save(f"{tmp_path}/two", MODEL, params_of(MODEL))
    assert one.read_bytes() == two.read_bytes()
    assert lj.load(str(one))[0] == MODEL


def test_complex_parameters_survive(tmp_path):
    wire = lj.Wire(in_dim=2, out_dim=1, width=4, depth=2)
    params = wire.init(jax.random.key(1))
    model, found = lj.load(lj.save(tmp_path / "wire", wire, params))
    x = np.linspace(-1, 1, 10).reshape(5, 2).astype(np.float32)
    assert np.array_equal(model.apply(found, x), wire.apply(params, x))


def test_what_cannot_be_saved_is_refused_and_writes_nothing(tmp_path):
    path = tmp_path / "m"
    own = lj.MLP(in_dim=2, out_dim=1, width=4, activation=lambda z: z)
    cases = [
        (MODEL, {}, "params belong to another model than this: .* is missing"),
        (own, params_of(own), "activation: a Python function cannot be written"),
        (
            MODEL,
            jax.tree.map(jnp.bfloat16, params_of(MODEL)),
            "bfloat16: expected a dtype",
        ),
    ]
    for model, params, message in cases:
        with pytest.raises(lj.InputError, match=message):
            lj.save(path, model, params)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_saved_model_is_refused(tmp_path):
    arrays = {"a": np.zeros(2, np.float32)}
    bare, text, other = tmp_path / "bare", tmp_path / "text", tmp_path / "other"
    bare.write_bytes(safetensors.numpy.save(arrays))
    text.write_text("hello")
    made_by = json.dumps({"model": {"kind": "siren", "in_dim": 2, "out_dim": 1}})
    other.write_bytes(safetensors.numpy.save(arrays, {"lrnn_jax": made_by}))
    for path, message in [
        (bare, "names no model"),
        (text, "cannot read .* as safetensors"),
        (other, "belongs to another model"),
        (tmp_path / "missing", "No such file"),
        (tmp_path, "is a folder: take load_run"),
    ]:
        with pytest.raises(lj.InputError, match=message):
            lj.load(path)


def test_reading_a_file_imports_no_module(tmp_path):
    """A model of one's own is found once its module is imported, and never imported by a file."""
    (tmp_path / "side_effect.py").write_text("print('imported')")
    made_by = json.dumps({"model": {"kind": "side_effect:Net"}})
    path = tmp_path / "m"
    path.write_bytes(safetensors.numpy.save({"a": np.zeros(2)}, {"lrnn_jax": made_by}))
    code = (
        f"import lrnn_jax as lj\ntry: lj.load({str(path)!r})\nexcept lj.InputError as e: print(e)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{path} holds a side_effect:Net: import side_effect first\n"


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_run_is_loaded_with_its_scores(tmp_path, precision):
    training = lj.Training(steps=30, precision=precision)
    problem = lj.Image(source="camera", size=(16, 16))
    outcome = start(Experiment(model=MODEL, problem=problem, training=training), tmp_path / "run")
    run = lj.load_run(str(tmp_path / "run"))
    assert (run.model, run.problem, run.training) == (MODEL, problem, training)
    scores = run.problem.evaluate(run.field, run.problem.load())
    assert scores == pytest.approx(outcome.summary["scores"], rel=1e-6)
    assert run.summary == json.loads(outcome.folder.summary.read_text())
    assert run.history["step"].tolist() == [0, 10, 20, 30]
    assert {leaf.dtype.name for leaf in jax.tree.leaves(run.params)} == {precision}
    model, params = lj.load(outcome.folder.params)
    assert model == MODEL and jax.tree.all(jax.tree.map(np.array_equal, params, run.params))


def test_a_folder_without_a_finished_run_is_refused(tmp_path):
    with pytest.raises(lj.InputError, match="is not a run folder"):
        lj.load_run(tmp_path)


def test_the_version_is_that_of_the_package():
    from importlib.metadata import version

    assert lj.__version__ == version("lrnn-jax")
