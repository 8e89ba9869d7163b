"""The command in unusual surroundings: no home, no current directory, links, the longest names."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lrnn_jax import cli
from lrnn_jax.io import write_png

if sys.platform == "win32":
    pytest.skip("links need rights there, and a current directory stays", allow_module_level=True)

PROGRAM = "import sys; from lrnn_jax.cli import main; sys.exit(main())"


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """A current directory with a picture."""
    monkeypatch.chdir(tmp_path)
    write_png(tmp_path / "tiny.png", np.linspace(0, 1, 6 * 5 * 3).reshape(6, 5, 3))
    return tmp_path


def fit(workplace, *words):
    """The exit code of a fit of three steps."""
    tiny = ["--problem.source", str(workplace / "tiny.png"), "--training.steps", "3"]
    tiny += ["--model.kind", "siren", "--model.width", "4", "--model.depth", "1"]
    return cli.main(["fit", *tiny, *map(str, words)])


@pytest.mark.parametrize("home", [None, "/proc"], ids=["none", "not writable"])
def test_a_home_is_not_needed(workplace, home):
    variables = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    variables |= {} if home is None else {"HOME": home}
    words = ["fit", "tiny.png", "--model.kind", "siren", "--training.steps", "3", "--out", "run"]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words], env=variables, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert (workplace / "run" / "error.png").is_file()


def test_a_current_directory_that_has_gone_is_one_line(workplace, monkeypatch, capsys):
    (workplace / "gone").mkdir()
    monkeypatch.chdir("gone")
    (workplace / "gone").rmdir()
    assert fit(workplace) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert fit(workplace, "--out", workplace / "run") == 0
    assert cli.main(["decode", str(workplace / "run"), "--out", str(workplace / "a.png")]) == 0
    assert capsys.readouterr().err == ""
    assert sorted(path.name for path in workplace.iterdir()) == ["a.png", "run", "tiny.png"]


def test_a_run_is_used_through_links_and_writes_through_none(workplace, capsys):
    """A file of the run that is a link is replaced, and what it names stays as it is."""
    (workplace / "disk").mkdir()
    (workplace / "link").symlink_to("disk")
    assert fit(workplace, "--out", "link/run") == 0
    (workplace / "again").symlink_to("disk/run")
    summary = workplace / "disk" / "run" / "summary.json"
    (workplace / "other.json").write_bytes(summary.read_bytes())
    summary.unlink()
    summary.symlink_to(workplace / "other.json")
    before = (workplace / "other.json").read_bytes()
    assert cli.main(["fit", "--resume", "again", "--training.steps", "5"]) == 0
    assert not summary.is_symlink()
    assert (workplace / "other.json").read_bytes() == before != summary.read_bytes()
    (workplace / "self").symlink_to("self")
    capsys.readouterr()
    for words in (["decode", "self"], ["fit", "--resume", "self"], ["compare", "self", "self"]):
        assert cli.main(words) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("name", ["n" * 255, "é文" * 51], ids=["ascii", "of several bytes"])
def test_the_longest_name_of_a_folder_is_a_run(workplace, name):
    """255 bytes; temporary names beside it are not longer."""
    assert len(name.encode()) == 255
    assert fit(workplace, "--out", name) == 0
    assert Path(name, "summary.json").is_file()
