"""Values at the ends of what a number or a file can be: a run, or one short line."""

import collections.abc
import dataclasses
import inspect
import itertools
import json
import math
import os
import re
import subprocess
import sys
import types
import typing

import numpy as np
import pytest

from lrnn_jax import InputError
from lrnn_jax.cli import main
from lrnn_jax.errors import suggest
from lrnn_jax.experiments import MODELS, PROBLEMS, run
from lrnn_jax.io import available_memory
from lrnn_jax.optimizers import (
    lbfgs,
    levenberg_marquardt,
    natural_gradient,
    soap,
    ssbroyden,
)
from lrnn_jax.signals import Image
from lrnn_jax.training import Trainer, Training, driver

KINDS = [*MODELS.values(), *PROBLEMS.values(), Training]
NUMBERS = [1e38, 1e-38, 1e300, -1e300, float("nan"), float("inf"), 10**400, -(2**63), 2**63, -0.0]
OTHERS = ["", "x", "\0", "x" * 10**5, True, False, None, 2.5, 1j, b"x", (), [], {}, set(), object()]
TUPLES = [(1,), ("a", 0, 1, 1), (0, 0, 0, 0), (2.5, 2.5), (None, None), (2**63, 2**63), (1,) * 999]
VALUES = [*NUMBERS, *OTHERS, *TUPLES, (float("nan"),) * 2, ((1,), (2,)), ["a"], {"a": {}}]


def refused(capsys, *words):
    """The line that the command prints; exit code 2."""
    assert main(["fit", *words]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert len(line) < 320
    assert line.rstrip("\n").isprintable()
    return line


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_value_of_every_field_is_taken_or_refused_in_one_line(kind):
    """Of the right type, if it is taken: TOML and the command line then need no second check."""
    fields, hints = dataclasses.fields(kind), typing.get_type_hints(kind)
    required = {f.name: 2 for f in fields if f.default is dataclasses.MISSING}
    kind(**required)
    for field, value in itertools.product(fields, VALUES):
        try:
            stored = getattr(kind(**required | {field.name: value}), field.name)
        except InputError as error:
            assert len(str(error)) < 300
            assert str(error).isprintable()
        else:
            assert is_a(stored, hints[field.name]), (field.name, value)


OPTIMIZERS = (lbfgs, levenberg_marquardt, natural_gradient, soap, ssbroyden)


@pytest.mark.parametrize("made", OPTIMIZERS, ids=lambda made: made.__name__)
def test_every_argument_of_an_optimizer_is_taken_or_refused_in_one_line(made):
    rate = {"learning_rate": 1e-3} if made is soap else {}
    arguments = {n: p for n, p in inspect.signature(made).parameters.items() if n not in rate}
    for (name, argument), value in itertools.product(arguments.items(), VALUES):
        try:
            made(**rate, **{name: value})
        except InputError as error:
            assert str(error).startswith(f"{name}: expected")
            assert len(str(error)) < 300
        else:
            default = argument.default
            integer = isinstance(default, int) and not isinstance(default, bool)
            assert not integer or isinstance(value, int), (name, value)


def is_a(value, hint):
    """Whether a value fits an annotation."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(is_a(value, argument) for argument in arguments)
    if origin is typing.Literal:
        return value in arguments
    if origin is tuple and isinstance(value, tuple):
        several = arguments[-1] is ...
        inner = [arguments[0]] * len(value) if several else arguments
        return len(inner) == len(value) and all(map(is_a, value, inner))
    if origin is collections.abc.Callable:
        return callable(value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is hint


@pytest.mark.parametrize("value", ["1e38", "1e-30", "1e13"])
def test_a_frequency_that_float32_cannot_square_is_refused(capsys, tmp_path, monkeypatch, value):
    monkeypatch.chdir(tmp_path)
    line = refused(capsys, "--model.omega0", value)
    assert "model.omega0: expected a number between 1e-12 and 1e+12" in line
    assert not list(tmp_path.iterdir())


def test_a_large_frequency_is_a_run(tmp_path):
    words = "fit --problem.size 8 8 --model.rank 4 --training.steps 2 --model.omega0 1e12"
    assert main([*words.split(), "--out", str(tmp_path / "run")]) == 0
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "finished"


def test_a_start_that_is_not_finite_is_not_blamed_on_the_rate(capsys, tmp_path):
    words = "--problem.size 8 8 --model.rank 4 --training.steps 2 --model.omega0 1e-12"
    line = refused(capsys, *words.split(), "--out", str(tmp_path / "run"))
    assert "at step 0" in line
    assert "try data and model settings of ordinary size, such as omega0" in line


@pytest.mark.parametrize("field", ["components", "depth"])
def test_a_million_of_what_is_written_out_is_refused(capsys, field):
    assert f"model.{field}: expected an integer <= 1000" in refused(
        capsys, f"--model.{field}", "1000000"
    )


DEEP = "[" * 3000 + "]" * 3000
DIGITS = "9" * 5000


@pytest.mark.parametrize(
    ("value", "message"),
    [(DEEP, "nests lists too deeply|nests lists or tables"), (DIGITS, "too many digits|digits")],
    ids=["nested", "digits"],
)
def test_toml_that_python_cannot_hold_is_refused(capsys, tmp_path, value, message):
    assert re.search(message, refused(capsys, "--model.rank", value))
    path = tmp_path / "a.toml"
    path.write_text(f"[model]\nrank = {value}\n")
    assert re.search(message, refused(capsys, str(path)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"#" * 1_000_001, "has 1000001 bytes: expected at most 1000000"),
        (b"[model]\nrank = 3\0\n", "is not TOML"),
        (b"\xff\xfe", "is not TOML"),
        (b"[training]\nkind = 'nonsense'\n", "unknown field training.kind"),
    ],
    ids=["large", "nul", "not utf-8", "kind of training"],
)
def test_experiment_files_that_are_none_are_refused(capsys, tmp_path, content, message):
    path = tmp_path / "a.toml"
    path.write_bytes(content)
    assert message in refused(capsys, str(path))


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX devices")
@pytest.mark.parametrize("source", ["/dev/zero", "pipe", "folder"])
@pytest.mark.parametrize("kind", ["image", "audio", "video", "occupancy", "regression"])
def test_devices_pipes_and_folders_are_refused(capsys, tmp_path, monkeypatch, source, kind):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    (tmp_path / "folder").mkdir()
    refused(capsys, "--problem.kind", kind, "--problem.source", source, "--training.batch", "none")
    refused(capsys, source)


@pytest.mark.parametrize("word", ["x" * 10**5, "a\nb\tc\x1b[31md\x7f", "\udcff", "é" * 400])
def test_whatever_is_quoted_the_line_is_short_and_printable(capsys, word):
    for words in (
        ("--model.kind", word),
        ("--problem.source", word),
        ("--training.schedule", word),
        (f"--{word}", "1"),
        (word,),
    ):
        line = refused(capsys, *words).rstrip("\n")
        assert line.isprintable()


def test_a_message_keeps_both_ends():
    text = str(InputError("rank: got " + "7" * 5000 + ": expected an integer"))
    assert text.startswith("rank: got 777")
    assert text.endswith("777: expected an integer")
    assert len(text) < 300
    assert "known" in suggest("z" * 10**6, ["rank"])


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("module", ["numpy", "jax._src.lax.lax", "lrnn_jax.cli"])
def test_ctrl_c_during_the_imports_is_one_line(module):
    """The signal comes when this module is looked for."""
    code = f"""
import os, signal, sys
from lrnn_jax_command import main

class Interrupt:
    def find_spec(name, path=None, target=None):
        if name == "{module}":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt)
sys.exit(main())
"""
    command = [sys.executable, "-c", code, "doctor"]
    child = subprocess.run(command, capture_output=True, timeout=300)
    assert (child.returncode, child.stderr, child.stdout) == (130, b"lrnn-jax: stopped\n", b"")


def test_a_table_of_values_that_overflow_is_refused(capsys, tmp_path):
    path = tmp_path / "a.csv"
    rows = [f"{n},{v:g}" for n, v in enumerate(np.linspace(1e300, 2e300, 20))]
    path.write_text("\n".join(["a,b", *rows]))
    words = f"--problem.kind regression --problem.source {path} --training.batch none"
    refused(capsys, *words.split(), "--model.kind", "mlp")


# A run that is finished ---------------------------------------------------------------------------


SMALL = "fit --problem.size 8 8 --model.rank 4 --training.steps 2 --out run"


def test_diagnostics_that_fail_are_a_warning_with_their_reason(capsys, tmp_path, monkeypatch):
    def fails(*arguments):
        raise ZeroDivisionError("float division\nby zero")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lrnn_jax.experiments.summary.diagnose", fails)
    assert main(SMALL.split()) == 0
    said = capsys.readouterr().out
    assert "warning   no diagnostics: ZeroDivisionError: float division by zero\n" in said
    assert "diagnostics.png" not in said
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["status"] == "finished"
    assert summary["scores"]["psnr"] > 0


@pytest.mark.parametrize(
    ("value", "code"),
    [(math.nan, 1), (-math.inf, 1), (math.inf, 0)],
    ids=["nan", "-inf", "perfect"],
)
def test_a_score_that_is_not_finite_is_said_and_is_no_success(
    capsys, tmp_path, monkeypatch, value, code
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Image, "evaluate", lambda self, field, data: {"psnr": value, "ssim": 1.0})
    assert main(SMALL.split()) == code
    assert ("warning   psnr is not finite" in capsys.readouterr().out) == bool(code)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["scores"] == {"psnr": None, "ssim": 1.0}
    assert any("psnr" in line for line in summary["diagnostics"]["warnings"]) == bool(code)


# More than there is room or time for --------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--problem.size 1000000 1000000", "size: 1000000 x 1000000 pixels would take 72000.0 GB"),
        ("occupancy --problem.resolution 9000", "resolution: a grid of 9000^3 points would take"),
        ("poisson --problem.dim 1000000", "dim: expected an integer <= 1000"),
        ("convection --problem.harmonics 1000000", "harmonics: expected an integer <= 1000"),
    ],
)
@pytest.mark.skipif(available_memory() is None, reason="the system does not say what is free")
def test_a_problem_that_does_not_fit_is_refused_before_training(
    capsys, monkeypatch, words, message
):
    monkeypatch.setattr(Trainer, "compile", None)  # no compilation is reached
    kind = [] if words.startswith("--") else ["--problem.kind"]
    assert message in refused(capsys, "--model.kind", "siren", *kind, *words.split())


@pytest.mark.skipif(available_memory() is None, reason="the system does not say what is free")
@pytest.mark.parametrize(
    "words",
    [
        "--model.rank 100000",
        "--model.kind siren --model.width 300000",
        "--model.kind grid --model.resolution 1000000",
        "--model.kind relu_pe --model.width 64 --model.frequencies 100000000",
    ],
)
def test_a_model_that_does_not_fit_is_refused_before_it_is_drawn(capsys, monkeypatch, words):
    monkeypatch.setattr(Trainer, "compile", None)  # no compilation is reached
    line = refused(capsys, "--problem.size", "8", "8", *words.split())
    assert re.search(r"the model with the state of its optimiser would take \d\S* GB and", line)


def test_a_step_that_does_not_fit_is_refused_with_its_estimate(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(driver, "available_memory", lambda: 20_000_000)
    words = ["--model.kind", "siren", "--problem.size", "256", "256", "--training.steps", "2"]
    words += ["--model.width", "64", "--training.chunk"]
    line = refused(capsys, *words, "50000")
    assert re.search(r"a training step would take 0\.\d GB and 0\.0 GB of memory are free", line)
    assert "set training.chunk to fewer than 50000 points" in line
    assert main(["fit", *words, "1024", "--no-render", "--out", str(tmp_path / "run")]) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_estimate_of_a_step_is_what_it_takes():
    """The peak memory of a process grows by the estimate, to 30 %."""
    code = """
import lrnn_jax as lj
from lrnn_jax.training import Trainer, driver
def peak():  # bytes; `ru_maxrss` would be that of pytest, which starts this process
    lines = open("/proc/self/status").read().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
estimates = []
driver.require_memory = lambda what, num_bytes, *_: estimates.append(num_bytes)
model = lj.Siren(in_dim=2, out_dim=3, width=256, depth=4)
def trainer(size):
    training = lj.Training(steps=2, chunk=10**6)
    return Trainer(model, lj.Image(size=(size, size)), training)
list(trainer(32).run())
large = trainer(512)
large.compile()
before = peak()
list(large.run())
print((peak() - before) / estimates[-1])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert 0.7 < float(done.stdout) < 1.3, done.stderr


def test_a_size_beyond_32_bits_is_refused(capsys):
    words = "--model.kind siren --model.width 1000000 --problem.size 8 8"
    assert "the model with the state of its optimiser would" in refused(capsys, *words.split())


def test_memory_that_an_operation_lacks_is_one_line(capsys, monkeypatch):
    def exhausted(*arguments):
        raise ValueError("RESOURCE_EXHAUSTED: Out of memory allocating 3600000000 bytes.")

    monkeypatch.setattr(run, "_compile", exhausted)
    assert "not enough memory for this size: RESOURCE_EXHAUSTED" in refused(capsys)


@pytest.mark.parametrize(("depth", "warned"), [(75, False), (76, True)])
def test_a_compilation_that_takes_long_is_announced(capsys, monkeypatch, depth, warned):
    def compiled(*arguments):
        raise InputError("compiled")

    monkeypatch.setattr(Trainer, "compile", compiled)
    words = f"fit --problem.size 8 8 --model.rank 2 --model.components 2 --model.depth {depth}"
    assert main(words.split()) == 2
    assert capsys.readouterr().err.startswith("lrnn-jax: compiling: 152") == warned
