"""What a run writes: names of any bytes, JSON without NaN, files complete on the disk, and what
happens where standard output is closed or full."""

import io
import json
import math
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from lrnn_jax import cli
from lrnn_jax.experiments import RunFolder
from lrnn_jax.experiments.output import tolerant_output
from lrnn_jax.io import atomic, read_picture, write_bytes, write_png
from lrnn_jax.io.json_text import json_text
from lrnn_jax.plot import figures, write_confusion, write_curves

TINY = ["--problem.source", "tiny.png", "--training.steps", "3", "--model.kind", "siren"]
TINY += ["--model.width", "4", "--model.depth", "1"]
NAME = b"a$\\frac$b \xff\xe6\x96\x87"  # no mathematics, not UTF-8, not ASCII


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """A current directory with a picture."""
    monkeypatch.chdir(tmp_path)
    write_png(tmp_path / "tiny.png", np.linspace(0, 1, 6 * 5 * 3).reshape(6, 5, 3))
    return tmp_path


# Names --------------------------------------------------------------------------------------------


def test_a_run_of_any_name_ends_with_a_summary(capfdbinary):
    assert cli.main(["fit", *TINY, "--out", os.fsdecode(NAME)]) == 0
    assert b"\nrun       " + NAME + b"\n" in capfdbinary.readouterr().out
    assert json.loads(Path(os.fsdecode(NAME), "summary.json").read_bytes())["step"] == 3


def test_a_run_of_any_name_ends_with_a_summary_in_the_c_locale():
    program = "import sys; from lrnn_jax.cli import main; sys.exit(main())"
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", program, "fit", *TINY, "--out", NAME],
        env=os.environ | plain,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\nrun       " + NAME + b"\n" in done.stdout
    assert json.loads(Path(os.fsdecode(NAME), "summary.json").read_bytes())["step"] == 3


def test_names_in_figures_are_drawn_as_they_are(monkeypatch, tmp_path):
    drawn = []
    save = figures.save_figure
    monkeypatch.setattr(figures, "save_figure", lambda f, p: (drawn.append(f), save(f, p))[1])
    names = ["$\\frac$", os.fsdecode(NAME), "m" * 100_000]
    shown = ["$\\frac$", "a$\\frac$b \ufffd文", "m" * 39 + "…"]
    write_confusion(tmp_path / "confusion.png", np.eye(3, dtype=int), names)
    write_curves(tmp_path / "curves.png", [0, 1], {"$\\frac$": [1.0, 2.0]}, names[1])
    confusion, curves = (figure.axes[0] for figure in drawn)
    assert [label.get_text() for label in confusion.get_xticklabels()] == shown
    assert [label.get_text() for label in confusion.get_yticklabels()] == shown
    assert (curves.get_title(), curves.get_ylabel()) == (shown[1], shown[0])
    assert read_picture(str(tmp_path / "confusion.png")).pixels.shape[0] < 1500


def test_what_a_terminal_cannot_show_is_escaped(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    monkeypatch.setattr(sys, "stdout", stream)
    with tolerant_output():
        print("aé文\udcff")
    assert stream.buffer.getvalue() == b"a\\xe9\\u6587\xff\n"
    assert (sys.stdout, stream.errors) == (stream, "strict")


# Standard output ----------------------------------------------------------------------------------

# Forks a process for each case, which ends as the interpreter ends.
CASES = """
import os, sys, warnings
from lrnn_jax import cli

warnings.simplefilter("ignore")  # of JAX, on fork; it has not been used before
full = os.open("/dev/full", os.O_WRONLY)
reader, broken = os.pipe()
os.close(reader)
cases = {"full": {1: full}, "broken": {1: broken, 2: full}, "no-error": {2: None}}
cases |= {"none": {0: None, 1: None, 2: None}, "list": {1: broken}}
for name, descriptors in cases.items():
    if os.fork() == 0:
        log = os.open(f"{name}.err", os.O_WRONLY | os.O_CREAT)
        os.dup2(log, 2)
        for number, target in descriptors.items():
            if target is None:
                os.close(number)
                setattr(sys, ("stdin", "stdout", "stderr")[number], None)
            else:
                os.dup2(target, number)
        sys.exit(cli.main(["list"] if name == "list" else ["fit", *sys.argv[1:], "--out", name]))
    print(name, os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""


def test_a_closed_or_full_output_stops_no_run(workplace):
    done = subprocess.run(
        [sys.executable, "-c", CASES, *TINY], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    codes = dict(line.split() for line in done.stdout.splitlines() if line.count(" ") == 1)
    errors = {path.stem: path.read_text().splitlines() for path in workplace.glob("*.err")}
    for name in ("full", "broken", "no-error", "none"):
        assert (name, codes[name]) == (name, "0"), errors
        assert json.loads((workplace / name / "summary.json").read_text())["status"] == "finished"
    assert codes["list"] == "0"
    assert errors.pop("full") == [
        "lrnn-jax: cannot write the output: [Errno 28] No space left on device; going on"
    ]
    assert not any(errors.values()), errors


@pytest.mark.parametrize("make", [io.StringIO, lambda: io.TextIOWrapper(io.BytesIO())])
def test_a_stream_that_the_process_has_closed_is_tolerated(monkeypatch, capsys, make):
    stream = make()
    monkeypatch.setattr(sys, "stdout", stream)
    with tolerant_output():
        stream.close()
        print("lost")
    assert capsys.readouterr().err == ""


# JSON ---------------------------------------------------------------------------------------------


def strict(text):
    """The value of a JSON text; NaN and Infinity, which JSON has not, fail."""

    def refuse(token):
        raise AssertionError(f"{token} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_what_is_not_finite_is_null_in_the_files_and_nan_when_read(tmp_path):
    run = RunFolder(tmp_path)
    summary = {"scores": {"psnr": math.inf, "ssim": 0.5}, "of": [(math.nan, 1)], "a": None}
    assert strict(json_text(summary)) == {
        "scores": {"psnr": None, "ssim": 0.5},
        "of": [[None, 1]],
        "a": None,
    }
    run.metrics.append([{"step": 0, "psnr": -math.inf}, {"step": 1, "psnr": math.nan}])
    assert list(map(strict, run.metrics.path.read_text().splitlines())) == [
        {"step": 0, "psnr": None},
        {"step": 1, "psnr": None},
    ]
    first, second = run.metrics.read()
    assert (first["step"], second["step"]) == (0, 1)
    assert math.isnan(first["psnr"]) and math.isnan(second["psnr"])
    (kept,) = run.metrics.rewind(1)
    assert math.isnan(kept["psnr"]) and strict(run.metrics.path.read_text())["psnr"] is None
    write_curves(run.curve, [0, 1, 2], {"psnr": [math.nan, 1e-3, 1.0]}, "run")


# Files --------------------------------------------------------------------------------------------


def test_a_file_is_on_the_disk_before_it_gets_its_name_and_the_name_after(monkeypatch, tmp_path):
    events, sync, replace = [], os.fsync, Path.replace

    def noted_sync(descriptor):
        status = os.fstat(descriptor)
        events.append("folder" if stat.S_ISDIR(status.st_mode) else f"file of {status.st_size}")
        sync(descriptor)

    def noted_replace(path, target):
        events.append("replace")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    write_bytes(tmp_path / "file", b"abc")
    assert events == ["file of 3", "replace", "folder"]


def test_temporary_names_are_short_and_differ_between_threads(tmp_path):
    for name in ("n" * 255, "n" * 250 + ".json", "n." + "s" * 253, "é" * 127):
        assert write_bytes(tmp_path / name, b"abc").read_bytes() == b"abc"
    together, names = threading.Barrier(2), []

    def write(content):
        with atomic(tmp_path / "same.txt") as temporary:
            names.append(temporary.name)
            together.wait()
            temporary.write_bytes(content)
            together.wait()

    threads = [threading.Thread(target=write, args=(content,)) for content in (b"left", b"right")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(names)) == 2 and all(name.endswith(".txt") for name in names)
    assert (tmp_path / "same.txt").read_bytes() in (b"left", b"right")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
