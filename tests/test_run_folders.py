"""Run folders under several processes: who makes one, who trains in it, what a kill leaves."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from lrnn_jax import Image, InputError, Siren, Training, cli
from lrnn_jax.experiments import Experiment, RunFolder, folder
from lrnn_jax.experiments.spec import table_of
from lrnn_jax.io import write_png

EXPERIMENT = Experiment(
    model=Siren(in_dim=2, out_dim=3, width=4, depth=1),
    problem=Image(source="tiny.png"),
    training=Training(steps=3),
)

# Forks eight processes that call `create` when a gate opens; each says what it got.
RACE = """
import os, sys, warnings
from pathlib import Path
from lrnn_jax import Image, InputError, Siren, Training
from lrnn_jax.experiments import Experiment, RunFolder, folder
from lrnn_jax.experiments.spec import table_of

warnings.simplefilter("ignore")  # of JAX, on fork; no JAX program is run here
model, problem = Siren(in_dim=2, out_dim=3, width=4), Image(source="tiny.png")
experiment = Experiment(model=model, problem=problem, training=Training(steps=3))

def fail(*_):
    raise InputError("the disk is full")

def race(path, failing=()):
    gate, hand = os.pipe()
    said, mouth = os.pipe()
    for number in range(8):
        if os.fork() == 0:
            os.close(hand)
            if number in failing:
                folder.write_table = fail
            os.read(gate, 1)
            try:
                answer = str(RunFolder.create(path, table_of(experiment)).path)
            except InputError as error:
                answer = f"refused: {error}"
            except BaseException as error:
                answer = f"crashed: {error!r}"
            os.write(mouth, (answer + "\\n").encode())
            os._exit(0)
    for end in (gate, hand, mouth):
        os.close(end)
    with os.fdopen(said) as answers:
        lines = sorted(answers.read().splitlines())
    for _ in range(8):
        os.wait()
    return lines

for number in range(12):
    place = Path(sys.argv[1], str(number))
    place.mkdir()
    os.chdir(place)
    print(repr((race(None), race(Path("new", "one")), race(None, range(0, 8, 2)))))
    os.chdir(place.parent)
    (place / "alone").mkdir()
    os.chdir(place / "alone")
    print(repr(race(None, range(1, 8))))
"""


def test_eight_processes_that_create_at_once_get_a_folder_each_and_remove_no_others(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", RACE, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    answers = list(map(eval, done.stdout.splitlines()))
    names = [f"runs/image-siren{end}" for end in ("", *(f"-{n}" for n in range(2, 9)))]
    for number, (free, named, failing) in enumerate(answers[::2]):
        place = tmp_path / str(number)
        assert free == names
        assert named == ["new/one", *["refused: new/one exists: name another folder, or use "
                                      "--resume"] * 7]  # fmt: skip
        made = [answer for answer in failing if not answer.startswith("refused: the disk is full")]
        assert len(set(made)) == 4 and not set(made) & set(free)
        for path in [*free, "new/one", *made]:
            assert RunFolder.open(place / path).experiment().training.steps == 3
        assert len(list((place / "runs").iterdir())) == 12  # what failed left nothing
    for number, answer in enumerate(answers[1::2]):
        (made,) = [line for line in answer if not line.startswith("refused: the disk is full")]
        assert RunFolder.open(tmp_path / str(number) / "alone" / made).config.is_file()


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A current directory with a picture."""
    monkeypatch.chdir(tmp_path)
    write_png(tmp_path / "tiny.png", np.linspace(0, 1, 6 * 5 * 3).reshape(6, 5, 3))
    return tmp_path


def test_an_error_leaves_the_folder_that_another_process_made(workplace, monkeypatch):
    """The other one makes the folder just before this one gives its folder that name."""
    rename = Path.rename

    def late(path, target):
        monkeypatch.setattr(Path, "rename", rename)
        RunFolder.create(target, table_of(EXPERIMENT))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", late)
    with pytest.raises(InputError, match="run exists: name another folder"):
        RunFolder.create(Path("run"), table_of(EXPERIMENT))
    assert sorted(path.name for path in workplace.iterdir()) == ["run", "tiny.png"]
    assert RunFolder.open(Path("run")).experiment() == EXPERIMENT
    RunFolder.open(Path("run")).remove()
    assert (workplace / "run" / "config.toml").is_file()


def test_an_empty_folder_is_used_and_a_file_or_a_full_folder_is_not(workplace):
    (workplace / "empty").mkdir()
    assert RunFolder.create(Path("empty"), table_of(EXPERIMENT)).config.is_file()
    (workplace / "full").mkdir()
    (workplace / "full" / "mine.txt").write_text("mine")
    for taken in ("tiny.png", "full", "empty"):
        with pytest.raises(InputError, match=f"{taken} exists: name another folder"):
            RunFolder.create(Path(taken), table_of(EXPERIMENT))
    assert [path.name for path in (workplace / "full").iterdir()] == ["mine.txt"]


def test_what_a_killed_writer_left_is_deleted(workplace):
    run = RunFolder.create(Path("run"), table_of(EXPERIMENT))
    run.checkpoints.mkdir()
    left = [run.path / f".{'0' * 16}.png", run.checkpoints / f".{'f' * 16}.safetensors"]
    kept = [run.path / ".lock", run.path / ".mine.png", run.config]
    for path in [*left, *kept[:2]]:
        path.touch()
    run.delete_unfinished()
    assert [path.exists() for path in [*left, *kept]] == [False, False, True, True, True]


def test_a_process_that_is_killed_leaves_no_folder_without_a_config(workplace, monkeypatch):
    class KilledError(BaseException):
        """Nothing runs after it."""

    def kill(*_):
        monkeypatch.setattr(RunFolder, "remove", lambda run: None)
        raise KilledError

    monkeypatch.setattr(folder, "write_table", kill)
    with pytest.raises(KilledError):
        RunFolder.create(Path("run"), table_of(EXPERIMENT))
    assert not (workplace / "run").exists()


def test_what_create_made_is_removed_with_its_parents(workplace, monkeypatch):
    def fail(*_):
        raise InputError("the disk is full")

    monkeypatch.setattr(folder, "write_table", fail)
    (workplace / "here").mkdir()
    with pytest.raises(InputError, match="disk is full"):
        RunFolder.create(Path("here", "a", "b", "run"), table_of(EXPERIMENT))
    assert list((workplace / "here").iterdir()) == []
    (workplace / "loose").symlink_to("nowhere")
    with pytest.raises(InputError, match="cannot make the folder loose/run: No such file"):
        RunFolder.create(Path("loose", "run"), table_of(EXPERIMENT))


def test_a_folder_made_while_this_one_is_removed_stays(workplace, monkeypatch):
    run, remove = RunFolder.create(Path("new", "run"), table_of(EXPERIMENT)), folder.shutil.rmtree

    def slowly(path, **options):
        remove(path, **options)
        Path("new", "run").mkdir()  # by another process

    monkeypatch.setattr(folder.shutil, "rmtree", slowly)
    run.remove()
    assert (workplace / "new" / "run").is_dir()


def contents(path):
    """Every file under a folder with its bytes."""
    return {str(p): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def test_a_run_is_trained_by_one_process_and_freed_by_its_death(workplace, capsys):
    """Another process trains and is halted: the run can be decoded, not resumed; killed, it can."""
    words = "--model.kind siren --model.width 4 --model.depth 1 --problem.source tiny.png"
    assert cli.main(["fit", *words.split(), "--training.steps", "3", "--out", "run"]) == 0
    longer = ["--training.steps", "1000000000", "--training.log_every", "1000000"]
    program = "import sys; from lrnn_jax.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "fit", "--resume", "run", *longer]
    other = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        number, waited = workplace / "run" / ".pid", time.monotonic()
        while not number.exists() or number.read_text() != str(other.pid):
            assert other.poll() is None and time.monotonic() - waited < 120
            time.sleep(0.05)
        os.kill(other.pid, signal.SIGSTOP)
        before = contents(workplace / "run")
        capsys.readouterr()
        assert cli.main(["fit", "--resume", "run", "--training.steps", "9"]) == 2
        assert capsys.readouterr().err.splitlines() == [
            f"lrnn-jax: run is in use by another process (pid {other.pid}): wait until it ends, or "
            "stop it with Ctrl-C"
        ]
        assert contents(workplace / "run") == before
        assert cli.main(["decode", "run", "--out", "picture.png"]) == 0
    finally:
        other.kill()
        other.wait()
    assert cli.main(["fit", "--resume", "run", "--training.steps", "9"]) == 0
    summary = json.loads((workplace / "run" / "summary.json").read_text())
    assert (summary["status"], summary["step"]) == ("finished", 9)
    hidden = [path.name for path in (workplace / "run").iterdir() if path.name.startswith(".")]
    assert hidden == [".lock"]


def test_the_lock_holds_within_a_process_and_stays_one_file(workplace):
    """A file that is deleted and made anew could be locked twice, by whoever opened the old one."""
    run = RunFolder.create(Path("run"), table_of(EXPERIMENT))
    with run.in_use():
        with (
            pytest.raises(InputError, match=rf"run is in use .* \(pid {os.getpid()}\)"),
            RunFolder.open(Path("run")).in_use(),
        ):
            pass
        (workplace / "run" / ".pid").unlink()
        with (
            pytest.raises(InputError, match="run is in use by another process: wait"),
            RunFolder.open(Path("run")).in_use(),
        ):
            pass
    assert {path.name for path in (workplace / "run").iterdir()} == {".lock", "config.toml"}
    first = (workplace / "run" / ".lock").stat().st_ino
    with run.in_use():
        assert (workplace / "run" / ".lock").stat().st_ino == first
