"""Configs, specs as files, and one run from start to finish."""

import dataclasses
import json
import subprocess
import sys

import jax
import pytest

from lrnn_jax import LRNN, Image, InputError, Siren, Training, count_parameters
from lrnn_jax.experiments import (
    MODELS,
    PROBLEMS,
    Experiment,
    RunFolder,
    experiment_from,
    resume,
    start,
    table_of,
)
from lrnn_jax.experiments.progress import LineDisplay
from lrnn_jax.experiments.spec import config_path, configs, field_help, merge, read_table
from lrnn_jax.experiments.summary import read_summary
from lrnn_jax.io import read_picture, write_png

KINDS = [*MODELS.values(), *PROBLEMS.values(), Training]


def experiment_of(name, **changes):
    return experiment_from(merge(read_table(config_path(name)), changes))


@pytest.mark.parametrize("name", configs())
def test_configs_state_their_source_and_their_command_and_decode(name):
    head = config_path(name).read_text().splitlines()[:5]
    assert any(line.startswith("# source:") for line in head)
    command = next(line for line in head if line.startswith("# command:"))
    assert command.endswith(f"lrnn-jax fit {name}") or name == "image/quickstart"
    assert any(line.startswith("# expected:") for line in head)
    settings = [line for line in config_path(name).read_text().splitlines() if "=" in line]
    assert len([line for line in settings if not line.startswith("#")]) <= 20
    experiment = experiment_of(name)
    assert experiment.model.out_dim == experiment.problem.out_dim


def test_the_image_study_has_equal_sizes_and_the_papers_settings():
    counts, rates = {}, {}
    for name in ("lrnn_spder", "spder", "siren"):
        experiment = experiment_of(f"image/{name}")
        shapes = jax.eval_shape(experiment.model.init, jax.random.key(0))
        counts[name] = count_parameters(shapes)
        rates[name] = experiment.training.rate()(0), experiment.training.rate()(999)
        assert experiment.training.steps == 1000
        assert experiment.problem.size == (256, 256)
    assert counts == {"lrnn_spder": 197_267, "spder": 198_401, "siren": 198_401}
    assert rates["siren"] == rates["spder"] == (1e-4, 1e-4)
    assert rates["lrnn_spder"] == pytest.approx((1e-3, 1e-3 * 0.8**9))


@pytest.mark.parametrize("name", configs())
def test_an_experiment_written_and_read_is_the_same(name):
    experiment = experiment_of(name)
    assert experiment_from(table_of(experiment)) == experiment


def test_a_spec_of_every_field_is_written_and_read():
    model = LRNN(in_dim=2, out_dim=3, depth=3, rank=(4, 5, 6), gamma=0.5, sharing="shared")
    problem = Image(source="camera", crop=(1, 2, 30, 40), size=(8, 9))
    experiment = Experiment(model=model, problem=problem, training=Training(batch=7, chunk=5))
    assert experiment_from(table_of(experiment)) == experiment


def test_a_python_function_cannot_be_written():
    model = LRNN(in_dim=2, out_dim=1, activation=jax.numpy.sin)
    experiment = Experiment(model=model, problem=Image(), training=Training())
    with pytest.raises(InputError, match="activation: a Python function cannot be written"):
        table_of(experiment)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_field_has_a_line_of_help_and_what_may_be_unset_defaults_to_none(kind):
    texts = field_help(kind)
    for field in dataclasses.fields(kind):
        assert len(texts[field.name]) > 10
        optional = "None" in str(field.type)
        assert (field.default is None) == optional, field.name


def test_help_is_read_from_docstrings_of_any_indentation():
    """Python 3.13 strips the common indentation of a docstring."""

    class Base:
        """A base.

        Args:
          width: neurons
            of a layer.
        """

    for text in ("A kind.\n\nArgs:\n  depth: layers.\n", None):
        kind = dataclasses.make_dataclass("Kind", [("width", int), ("depth", int)], bases=(Base,))
        kind.__doc__ = text
        assert field_help(kind) == {
            "width": "neurons of a layer.",
            "depth": "layers." if text else "",
        }


def test_the_command_line_works_without_docstrings(tmp_path):
    """python -OO strips them: help has the fields and their defaults, and a fit runs.

    scikit-image, which pictures need, does not run under -OO.
    """
    code = (
        "import sys; from lrnn_jax.cli import main\n"
        "main(['list'])\n"
        "sys.exit(main('fit pde/convection --training.steps 2 --out run'.split()))\n"
    )
    for words in (["-c", code], ["-m", "lrnn_jax", "fit", "--help"]):
        done = subprocess.run([sys.executable, "-OO", *words], cwd=tmp_path, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
    assert b"--training.steps" in done.stdout
    assert (tmp_path / "run" / "summary.json").is_file()


TINY = {"model": {"kind": "siren", "width": 8}, "training": {"steps": 30, "chunk": 60}}


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A 12 x 9 picture and an experiment on it."""
    monkeypatch.chdir(tmp_path)
    ramp = jax.numpy.linspace(0, 1, 9 * 12 * 3).reshape(9, 12, 3)
    write_png(tmp_path / "tiny.png", jax.device_get(ramp))
    table = merge(TINY, {"problem": {"source": "tiny.png"}})
    return experiment_from(merge(table, {"training": {"log_every": 5, "checkpoint_every": 12}}))


def test_a_run_leaves_what_it_promises(tiny, tmp_path):
    outcome = start(tiny, None)
    folder = tmp_path / "runs" / "image-siren"
    assert outcome.folder.path.resolve() == folder
    names = {path.name for path in folder.iterdir()}
    assert names == {
        ".lock",
        "config.toml",
        "metrics.jsonl",
        "checkpoints",
        "model.safetensors",
        "reconstruction.png",
        "error.png",
        "training.png",
        "diagnostics.png",
        "summary.json",
    }
    assert RunFolder.open(folder).experiment() == tiny
    lines = outcome.folder.metrics.read()
    assert [line["step"] for line in lines] == [0, 5, 10, 15, 20, 25, 30]
    assert lines[-1]["loss"] < lines[0]["loss"]
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "finished"
    assert summary["step"] == 30
    assert summary["parameters"] == 267
    assert summary["scores"]["psnr"] > lines[0]["psnr"]
    assert summary["best"]["loss"] == min(line["loss"] for line in lines)
    for cost in ("steps_per_second", "compile_seconds", "peak_memory_mb"):
        assert summary[cost] > 0
    assert read_picture(str(folder / "reconstruction.png")).pixels.shape == (9, 12, 3)
    assert start(tiny, None).folder.path.name == "image-siren-2"


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b"\xff\xfe\xff"])
def test_a_damaged_summary_is_named(tmp_path, content):
    folder = RunFolder(tmp_path)
    assert read_summary(folder.summary) == {}
    folder.summary.write_bytes(content)
    with pytest.raises(InputError, match=r"summary\.json is damaged"):
        read_summary(folder.summary)
    folder.summary.write_text('{"status": "finished", "step": 3}')
    assert read_summary(folder.summary) == {"status": "finished", "step": 3}


def test_a_resumed_run_is_the_uninterrupted_one_to_the_bit(tiny, tmp_path):
    """Steps 0..30 in one go, and 0..17 then on to 30: the same parameters and the same metrics."""
    whole = start(tiny, tmp_path / "whole")
    short = dataclasses.replace(tiny, training=dataclasses.replace(tiny.training, steps=17))
    start(short, tmp_path / "parts")
    parts = resume(RunFolder.open(tmp_path / "parts"), {"steps": 30})
    assert parts.folder.params.read_bytes() == whole.folder.params.read_bytes()

    def timeless(outcome):
        return [
            {k: v for k, v in m.items() if k != "seconds"} for m in outcome.folder.metrics.read()
        ]

    assert timeless(parts) == timeless(whole)
    assert parts.summary["scores"] == whole.summary["scores"]


def test_seeds_and_batches_are_part_of_the_experiment(tiny, tmp_path):
    def scores(name, **fields):
        training = dataclasses.replace(tiny.training, steps=3, batch=20, **fields)
        experiment = dataclasses.replace(tiny, training=training)
        return start(experiment, tmp_path / name).summary["scores"]

    assert scores("a", seed=1) == scores("b", seed=1) != scores("c", seed=2)


def test_lines_of_progress_name_step_loss_psnr_rate_and_time_left(tiny, tmp_path, capsys):
    start(tiny, tmp_path / "run", LineDisplay(every=0.0))
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("step 30/30  loss ")
    for word in ("psnr", "steps/s", "0:00 left"):
        assert word in last


def test_a_siren_of_another_size_is_told_apart(tiny, tmp_path):
    folder = start(tiny, tmp_path / "run").folder
    other = dataclasses.replace(tiny, model=Siren(in_dim=2, out_dim=3, width=9))
    folder.config.write_text(folder.config.read_text().replace("width = 8", "width = 9"))
    assert folder.experiment() == other
    with pytest.raises(
        InputError, match=r"belongs to another model: .*\[8, 3\], expected .*\[9, 3\]"
    ):
        resume(folder, {"steps": 40})
