"""Values at the ends of what a number or a file can be: a run, or one short line."""

import collections.abc
import dataclasses
import inspect
import itertools
import json
import os
import signal
import subprocess
import sys
import time
import types
import typing

import numpy as np
import pytest

from lrnn_jax import InputError
from lrnn_jax.cli import main
from lrnn_jax.errors import suggest
from lrnn_jax.experiments import MODELS, PROBLEMS
from lrnn_jax.training import Training
from lrnn_jax.training.optimizers import (
    lbfgs,
    levenberg_marquardt,
    natural_gradient,
    soap,
    ssbroyden,
)

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
            kind(**required | {field.name: value})
        except InputError as error:
            assert len(str(error)) < 300
            assert str(error).isprintable()
        else:
            assert is_a(value, hints[field.name]), (field.name, value)


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
    import re

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
@pytest.mark.parametrize("delay", [0.3, 1.0, 2.5])
def test_ctrl_c_during_the_imports_is_one_line(delay):
    code = "import sys; from lrnn_jax_command import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "doctor"]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    time.sleep(delay)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 130
    assert errors == b"lrnn-jax: stopped\n"


def test_a_table_of_values_that_overflow_is_refused(capsys, tmp_path):
    path = tmp_path / "a.csv"
    rows = [f"{n},{v:g}" for n, v in enumerate(np.linspace(1e300, 2e300, 20))]
    path.write_text("\n".join(["a,b", *rows]))
    words = f"--problem.kind regression --problem.source {path} --training.batch none"
    refused(capsys, *words.split(), "--model.kind", "mlp")
