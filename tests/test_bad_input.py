"""The command with bad input: one clear line, exit code 2, nothing left behind.

Every refusal is driven through `lrnn_jax.cli.main`, as the command itself is.
"""

import contextlib
import dataclasses
import json
import logging
import os
import re
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import jax
import numpy as np
import pytest
import tifffile

from lrnn_jax import Siren, cli
from lrnn_jax.experiments.spec import MODELS, PROBLEMS, configs, study_configs
from lrnn_jax.io import write_png
from lrnn_jax.io.safetensors import load_tree, save_tree
from lrnn_jax.training import Checkpoints, Training

ROOT = os.geteuid() == 0
TINY = "--problem.source tiny.png --training.steps 3 --training.log_every 1 "
LRNN = TINY + "--model.kind lrnn "
SIREN = TINY + "--model.kind siren --model.width 4 --model.depth 1 "
HUGE = 10**16  # of anything: more bytes than a 64-bit machine can address


def furnish(folder):
    """Files to name on the command line, good and bad."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (6, 5, 3)) / 255
    whole = write_png(folder / "tiny.png", pixels).read_bytes()
    write_png(folder / "one.png", pixels[:1, :1])
    write_png(folder / "ünï code 文.png", pixels)
    floats = rng.random((6, 5, 3)).astype(np.float32)
    tifffile.imwrite(folder / "whole.tif", floats, photometric="rgb")
    for name, value in {"nan": np.nan, "inf": np.inf, "high": 2.0}.items():
        floats[1, 2, 0] = value
        tifffile.imwrite(folder / f"{name}.tif", floats, photometric="rgb")
    with tifffile.TiffWriter(folder / "pages.tif") as writer:
        for page in (pixels, pixels[:3]):
            writer.write((255 * page).astype(np.uint8), photometric="rgb")
    cut = (folder / "whole.tif").read_bytes()
    (folder / "cut.tif").write_bytes(cut[: len(cut) // 2])
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "text.png").write_text("This is no picture.\n")
    (folder / "empty.png").write_bytes(b"")
    (folder / "folder").mkdir()
    for name, text in {
        "key": "[model]\nrnak = 4\n",
        "section": "[modle]\nrank = 4\n",
        "kind": '[model]\nkind = "sirne"\n',
        "kind-list": '[model]\nkind = ["siren"]\n',
        "scalar": "model = 4\n",
        "tables": "[[model]]\nrank = 4\n",
        "word": '[model]\nrank = "four"\n',
        "date": "[training]\nsteps = 2026-01-31\n",
        "syntax": "[model\nrank = 4\n",
        "nul": '[problem]\nsource = "a\\u0000b.png"\n',
    }.items():
        (folder / f"{name}.toml").write_text(text)
    (folder / "binary.toml").write_bytes(b"\xff\xfe\x00\x01")


@pytest.fixture(scope="module")
def furniture(tmp_path_factory):
    folder = tmp_path_factory.mktemp("furniture")
    furnish(folder)
    return folder


@pytest.fixture(autouse=True)
def workplace(furniture, tmp_path, monkeypatch):
    """A current directory with the files of `furnish`."""
    folder = tmp_path / "work place"
    shutil.copytree(furniture, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(autouse=True)
def interrupts():
    """Ctrl-C is not ignored, as it is where a suite runs in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def finished(furniture, tmp_path_factory):
    """A run of three steps, never to be changed."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(furniture)
        assert cli.main(["fit", *shlex.split(SIREN), "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def run(workplace, finished):
    """A copy of the finished run, called `run`, to be spoilt."""
    return Path(shutil.copytree(finished, workplace / "run"))


def contents(folder):
    """Every path under a folder, with the bytes of the files."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(Path(folder).rglob("*"))
    }


@pytest.fixture
def command(capsys, caplog):
    """Runs a command; returns its exit code, its output and the lines of stderr.

    What is logged counts as stderr: outside of pytest that is where it goes.
    """

    def command(words):
        capsys.readouterr()
        caplog.clear()
        try:
            code = cli.main(shlex.split(words) if isinstance(words, str) else words)
        except Exception as error:  # its frames may hold arrays that cannot even be printed
            pytest.fail(f"escaped: {type(error).__name__}: {error!s:.300}", pytrace=False)
        out, err = capsys.readouterr()
        logged = [entry.getMessage() for entry in caplog.records if entry.levelno > logging.INFO]
        return code, out, logged + err.splitlines()

    return command


@pytest.fixture
def refused(command, workplace):
    """Runs a command that must be refused with nothing changed; returns the line on stderr."""

    def refused(words):
        before = contents(workplace)
        code, out, errors = command(words)
        assert code == 2
        assert len(errors) == 1, errors
        assert errors[0].startswith("lrnn-jax: ")
        assert out == ""
        assert contents(workplace) == before
        return errors[0]

    return refused


def says(line, *fragments):
    """Asserts that a line holds every fragment."""
    missing = [fragment for fragment in fragments if fragment not in line]
    assert not missing, f"{missing} not in: {line}"


# Words --------------------------------------------------------------------------------------------

MISSPELT = {
    "fit --model.rnak 4": ("--model.rnak", "did you mean '--model.rank'"),
    "fit --problem.sorce x": ("--problem.sorce", "did you mean '--problem.source'"),
    "fit --training.step 4": ("--training.step;", "did you mean '--training.steps'"),
    "fit --modle.rank 4": ("--modle.rank", "did you mean '--model.rank'"),
    "fit --ouut x": ("--ouut", "did you mean '--out'"),
    "fit --resum x": ("--resum", "did you mean '--resume'"),
    "decode x --siez 4 4": ("--siez", "did you mean '--size'"),
    "doctor --x": ("--x",),
    "list x": ("unknown problem 'x'; known: ",),
    "fitt": ("fitt", "fit"),
    "": ("COMMAND",),
    "decode": ("RUN",),
    "fit --out": ("--out",),
    "fit --model.rank": ("--model.rank",),
    "fit --model.kind sirne": ("model.kind", "'sirne'", "did you mean 'siren'"),
    "fit --problem.kind imgae": ("problem.kind", "'imgae'", "did you mean 'image'"),
    "fit --model.kind siren --model.rank 4": ("model.rank", "known: ", "width"),
    "fit --model.kind lrnn siren": ("model.kind", "lrnn"),
    "fit image/quickstrat": ("image/quickstrat", "did you mean 'image/quickstart'"),
    "fit 'two\nlines'": ("'two lines'",),
    "fit nowhere.toml": ("nowhere.toml", "known: ", "image/siren"),
    "fit ''": ("''", "image/siren"),
    "fit folder": ("folder is the source already, got 'tiny.png' too",),
    "fit key.toml": ("model.rnak", "did you mean 'rank'"),
    "fit section.toml": ("[modle]", "did you mean 'model'"),
    "fit kind.toml": ("model.kind", "'sirne'", "did you mean 'siren'"),
    "fit kind-list.toml": ("model.kind", "siren"),
    "fit scalar.toml": ("model: expected a section [model], got 4",),
    "fit scalar.toml --model.rank 4": ("model: expected a section [model], got 4",),
    "fit scalar.toml --model.kind siren": ("model: expected a section [model], got 4",),
    "fit tables.toml": ("model: expected a section [model]",),
    "fit syntax.toml": ("syntax.toml is not TOML", "line 1"),
    "fit binary.toml": ("binary.toml is not TOML",),
    "fit tiny.png": ("tiny.png is the source already, got 'tiny.png' too",),
}


@pytest.mark.parametrize("words", MISSPELT)
def test_unknown_words_are_named_with_the_nearest(refused, words):
    quick = TINY if words.startswith("fit ") else ""
    says(refused(f"{words} {quick}"), *MISSPELT[words])


# Values -------------------------------------------------------------------------------------------

INTEGER = "expected an integer >= 1, got"
POSITIVE = "expected a finite number > 0, got"
IMPOSSIBLE = {
    "--model.rank four": "model.rank: expected an integer or a list of integers, got 'four'",
    "--model.rank 2.5": "model.rank: expected an integer or a list of integers, got 2.5",
    "--model.rank 64,32": "model.rank: expected an integer or a list of integers, got '64,32'",
    "--model.rank 0": f"model.rank: {INTEGER} 0",
    "--model.rank -3": f"model.rank: {INTEGER} -3",
    "--model.rank 8 0": "model.rank: expected an integer >= 1",
    "--model.rank [8,4,2]": "model.rank: expected one rank or 2 of them (depth), got 3",
    "--model.components 0": f"model.components: {INTEGER} 0",
    "--model.components true": "model.components: expected an integer, got True",
    "--model.hidden 0": f"model.hidden: {INTEGER} 0",
    "--model.depth 0": f"model.depth: {INTEGER} 0",
    "--model.omega0 0": f"model.omega0: {POSITIVE} 0",
    "--model.omega0 nan": f"model.omega0: {POSITIVE} nan",
    "--model.gamma nan": f"model.gamma: {POSITIVE} nan",
    "--model.gamma inf": f"model.gamma: {POSITIVE} inf",
    "--model.norm_affine 1": "model.norm_affine: expected true or false, got 1",
    "--model.sharing flx": "model.sharing: expected one of 'flex', 'shared', got 'flx'",
    "--model.activation sine": "unknown name 'sine'; did you mean 'sin'?",
    "--model.out_dim 0": f"model.out_dim: {INTEGER} 0",
    "--model.out_dim 1": "model.out_dim is 1 but the problem has 3",
    "--model.in_dim 3": "model.in_dim is 3 but the problem has 2",
    "--model.kind siren --model.width 0": f"model.width: {INTEGER} 0",
    "--training.steps 0": f"training.steps: {INTEGER} 0",
    "--training.steps 1e-3": "training.steps: expected an integer, got 0.001",
    "--training.steps ten": "training.steps: expected an integer, got 'ten'",
    "--training.learning_rate nan": f"training.learning_rate: {POSITIVE} nan",
    "--training.learning_rate inf": f"training.learning_rate: {POSITIVE} inf",
    "--training.learning_rate 0": f"training.learning_rate: {POSITIVE} 0",
    "--training.learning_rate -1": f"training.learning_rate: {POSITIVE} -1",
    "--training.learning_rate 1 2": "training.learning_rate: expected a number, got [1, 2]",
    "--training.schedule cosinus": "training.schedule: expected one of 'constant', 'step'",
    "--training.decay_factor 2": "training.decay_factor: expected a number in (0, 1], got 2",
    "--training.batch 0": f"training.batch: {INTEGER} 0",
    "--training.chunk 0": f"training.chunk: {INTEGER} 0",
    "--training.log_every 0": f"training.log_every: {INTEGER} 0",
    "--training.checkpoint_every 0": f"training.checkpoint_every: {INTEGER} 0",
    "--training.seed -1": "training.seed: expected an integer >= 0, got -1",
    f"--training.seed {2**64}": "training.seed: expected an integer",
    "--problem.source 5": "problem.source: expected a string, got 5",
    "--problem.source a b": "problem.source: expected a string, got ['a', 'b']",
    "--problem.size 0 0": "problem.size: expected an integer >= 1, got (0, 0)",
    "--problem.size 1 1": "problem.size: expected 2 pixels or more, got (1, 1)",
    "--problem.size 4": "problem.size: expected a list of 2 integers, got 4",
    "--problem.size -4 4": "problem.size: expected an integer >= 1, got (-4, 4)",
    "--problem.size 256x256": "problem.size: expected a list of 2 integers, got '256x256'",
    "--problem.crop -1 0 4 4": "problem.crop: expected left, top >= 0 and width, height >= 1",
    "--problem.crop 0 0 0 4": "problem.crop: expected left, top >= 0 and width, height >= 1",
    "--problem.crop 0 0 4": "problem.crop: expected a list of 4 integers, got [0, 0, 4]",
    "--problem.crop 4 0 2 2": "crop: (4, 0, 2, 2) exceeds the image, which is 5 wide and 6 high",
    "--problem.crop 1 1 1 1": "crop: expected 2 pixels or more",
}


@pytest.mark.parametrize("words", IMPOSSIBLE)
def test_impossible_values_are_named_with_what_would_be_right(refused, words):
    says(refused(f"fit {LRNN} {words}"), IMPOSSIBLE[words])


NESTNET = "--model.kind nestnet --problem.source tiny.png"
IMPOSSIBLE_NESTNETS = {
    "--model.height 0": f"model.height: {INTEGER} 0",
    "--model.height 12": "model.height: expected (sub_width sub_depth)^(height - 1) <= 6561",
    "--model.sharing neuron": "model.sharing: expected one of 'layer', 'net', got 'neuron'",
    "--model.width 9 --model.groups 300": "model.groups: expected 1 to 9, the nested neurons of a",
    "--model.fraction 0": f"model.fraction: {POSITIVE} 0",
    "--model.fraction 1.5": "model.fraction: expected a share in (0, 1]",
    "--model.sub_width 2": "model.sub_width: the prescribed start has 3 units or more",
    "--model.recursion D": "model.recursion: expected one of 'A', 'B', 'C', got 'D'",
    "--model.frequencies -1": "model.frequencies: expected an integer >= 0, got -1",
    "--model.period 0": f"model.period: {POSITIVE} 0",
    "--model.sub_init paper": "model.sub_init: expected one of 'prescribed', 'random'",
    "--training.subnetwork_rate 0": f"training.subnetwork_rate: {POSITIVE} 0",
}


@pytest.mark.parametrize("words", IMPOSSIBLE_NESTNETS)
def test_impossible_nestnets_are_named(refused, words):
    says(refused(f"fit {NESTNET} {words}"), IMPOSSIBLE_NESTNETS[words])


def test_a_rate_for_subnetworks_that_are_not_there_is_refused(refused):
    says(refused(f"fit {TINY} --training.subnetwork_rate 0.2"), "the model has no subnetworks")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("word.toml", "model.rank: expected an integer or a list of integers, got 'four'"),
        ("date.toml", "training.steps: expected an integer, got datetime.date(2026, 1, 31)"),
    ],
)
def test_impossible_values_in_a_file_are_named(refused, config, message):
    says(refused(f"fit {config}"), message)


@pytest.mark.parametrize(
    "words",
    [f"--problem.size {HUGE} 2", f"--problem.size {10**7} {10**7}", f"--model.width {HUGE}"],
)
def test_what_no_memory_can_hold_is_refused(refused, words):
    assert re.search("memory|expected an integer", refused(f"fit {SIREN} {words}"))


# Pictures -----------------------------------------------------------------------------------------

PICTURES = {
    "nowhere.png": "No such file or directory",
    "cut.png": "cannot read cut.png",
    "cut.tif": "cannot read cut.tif",
    "text.png": "cannot read text.png",
    "empty.png": "cannot read empty.png",
    "folder": "holds no images: expected .png",
    "tiny.png/x": "Not a directory",
    "one.png": "1 x 1 pixels: expected 2 or more",
    "nan.tif": "1 values that are not finite, the first at row 1, column 2, channel 0",
    "inf.tif": "1 values that are not finite, the first at row 1, column 2, channel 0",
    "high.tif": "2]: expected floats in [0, 1]",
    "pages.tif": "expected a single image",
    "key.toml": "cannot read key.toml",
}


@pytest.mark.parametrize("source", PICTURES)
def test_unusable_pictures_are_refused(refused, source):
    says(refused(f"fit {SIREN} --problem.source {source}"), source, PICTURES[source])


def test_an_impossible_path_in_a_file_is_refused(refused):
    says(refused("fit nul.toml --training.steps 1"), "cannot read")


# The folder of a new run --------------------------------------------------------------------------


@pytest.mark.parametrize("out", ["folder", "tiny.png", "."])
def test_what_exists_is_not_written_to(refused, out, workplace):
    (workplace / "folder" / "mine.txt").touch()
    says(refused(f"fit {SIREN} --out {out}"), f"{out} exists", "--resume")


@pytest.mark.parametrize("folder", ["tiny.png", "tiny.png/programs"])
def test_a_compilation_cache_that_is_no_folder(folder, refused):
    line = refused(f"fit {SIREN} --compilation-cache {folder}")
    says(line, f"--compilation-cache: cannot write to a folder {folder}")


def test_a_refused_run_makes_no_compilation_cache(refused):
    refused(f"fit {SIREN} --out tiny.png --compilation-cache kept")


@pytest.mark.parametrize(
    ("out", "reason"),
    [("tiny.png/run", "Not a directory"), ("n" * 300, "File name too long")],
    ids=["inside-a-file", "long-name"],
)
def test_a_folder_that_cannot_be_made_is_refused(refused, out, reason):
    says(refused(f"fit {SIREN} --out {out}"), out[:100], reason)


def test_a_folder_that_cannot_be_written_is_refused(refused, workplace):
    """Nobody but root can write where a folder is read-only; root cannot either on such a disk."""
    locked = workplace / "locked"
    locked.mkdir()
    with disk(locked, "ro") if ROOT else read_only(locked):
        line = refused(f"fit {SIREN} --out locked/run")
    says(line, "locked/run", "denied" if not ROOT else "Read-only")


def test_parents_are_made_and_names_may_hold_anything(command, workplace):
    out = "pärents to/be made 文/a run"
    code, said, errors = command(
        ["fit", *shlex.split(SIREN), "--problem.source", "ünï code 文.png", "--out", out]
    )
    assert (code, errors) == (0, [])
    assert f"run       {out}" in said
    assert (workplace / out / "model.safetensors").is_file()


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX alone")
def test_a_name_that_is_not_unicode_is_refused(refused, workplace):
    """No TOML file can hold it."""
    source = os.fsdecode(b"caf\xe9.png")
    try:
        shutil.copy(workplace / "tiny.png", workplace / source)
    except OSError:
        pytest.skip("this file system refuses such names itself")
    line = refused(["fit", *shlex.split(SIREN), "--problem.source", source, "--out", "run"])
    says(line, 'source = "caf', "config.toml holds UTF-8 text only; rename the file")


# Decoding -----------------------------------------------------------------------------------------

DECODE = {
    "decode nowhere": "nowhere is not a run folder",
    "decode .": ". is not a run folder",
    "decode tiny.png": "tiny.png is not a run folder",
    f"decode {'n' * 300}": "File name too long",
    "decode run --size 0 0": "size: expected a width and a height >= 1, got (0, 0)",
    "decode run --size 4": "size: expected a width and a height >= 1, got (4,)",
    "decode run --size -4 4": "size: expected a width and a height >= 1, got (-4, 4)",
    "decode run --size 4 4 4": "size: expected a width and a height >= 1, got (4, 4, 4)",
    "decode run --size 4.5 4": "--size: invalid int value: '4.5'",
    "decode run --size 4x4": "--size: invalid int value: '4x4'",
    "decode run --size": "--size",
    f"decode run --size {10**7} {10**7}": "memory",
    "decode run --out nowhere/a.png": "cannot write nowhere/a.png: No such file or directory",
    "decode run --out tiny.png/a.png": "cannot write tiny.png/a.png: Not a directory",
    "decode run --out folder": "folder: expected a name that ends in .png or .tif",
    "decode run --out .": "expected a name that ends in .png",
    "decode run --out ''": "expected a name that ends in .png",
}


@pytest.mark.parametrize("words", DECODE)
def test_impossible_decodings_are_refused(refused, run, words):
    says(refused(words), DECODE[words])


def test_decode_renders_at_any_size(command, run):
    assert command("decode run --size 7 4 --out big.png") == (0, "big.png\n", [])
    assert command("decode run") == (0, "run/decoded.png\n", [])


# Spoilt runs --------------------------------------------------------------------------------------


def other_params(path):
    model = Siren(in_dim=2, out_dim=3, width=5, depth=1)
    save_tree(path / "model.safetensors", model.init(jax.random.key(0)), "")


def rewrite(name, change):
    """Spoils a run by changing the bytes of one of its files."""

    def spoil(path):
        file = path / name
        file.write_bytes(change(file.read_bytes()))

    return spoil


def delete_checkpoints(path):
    for file in (path / "checkpoints").iterdir():
        file.unlink()


CONFIG, PARAMS, METRICS = "config.toml", "model.safetensors", "metrics.jsonl"
NOT_TOML = "config.toml is not TOML"
UNKNOWN = "config.toml: unknown field model.widht; did you mean 'width'?"
WIDER = (rewrite(CONFIG, lambda b: b.replace(b"width = 4", b"width = 5")), "another model")
BROKEN_CONFIG = {
    "width": WIDER,
    "not-toml": (rewrite(CONFIG, lambda b: b"[[["), NOT_TOML),
    "binary": (rewrite(CONFIG, lambda b: b"\xff\xfe\x00"), NOT_TOML),
    "misspelt": (rewrite(CONFIG, lambda b: b.replace(b"width", b"widht")), UNKNOWN),
    "no-config": (lambda path: (path / CONFIG).unlink(), "is not a run folder"),
}
BROKEN_PARAMS = {
    "missing": (lambda path: (path / PARAMS).unlink(), "has no model.safetensors"),
    "cut": (rewrite(PARAMS, lambda b: b[:-9]), "cannot read run/model.safetensors"),
    "empty": (rewrite(PARAMS, lambda b: b""), "cannot read run/model.safetensors"),
    "text": (rewrite(PARAMS, lambda b: b"no tensors\n" * 9), "cannot read run/model.safetensors"),
    "other": (other_params, "belongs to another model: head/weight is float32[5, 3]"),
}
NEWEST = "checkpoints/3.safetensors"
BROKEN_CHECKPOINT = {
    "missing": (lambda path: shutil.rmtree(path / "checkpoints"), "holds no checkpoint"),
    "deleted": (delete_checkpoints, "holds no checkpoint"),
    "cut": (rewrite(NEWEST, lambda b: b[:-9]), f"cannot read run/{NEWEST}"),
    "emptied": (rewrite(NEWEST, lambda b: b""), f"cannot read run/{NEWEST}"),
    "text": (rewrite(NEWEST, lambda b: b"no tensors\n" * 9), f"cannot read run/{NEWEST}"),
}
BROKEN_METRICS = {
    "cut": rewrite(METRICS, lambda b: b[:-9]),
    "binary": rewrite(METRICS, lambda b: b"\xff\xfe\x00\n" + b),
    "other-json": rewrite(METRICS, lambda b: b'5\n{"a": 1}\n'),
}


@pytest.mark.parametrize("verb", ["decode run", "fit --resume run --training.steps 4"])
@pytest.mark.parametrize("name", BROKEN_CONFIG)
def test_a_spoilt_config_is_refused(refused, run, verb, name):
    spoil, message = BROKEN_CONFIG[name]
    spoil(run)
    line = refused(verb)
    says(line, message)
    assert line.count("config.toml:") <= 1, "the file is named twice"


@pytest.mark.parametrize("name", BROKEN_PARAMS)
@pytest.mark.usefixtures("x32")
def test_spoilt_parameters_are_refused(refused, run, name):
    spoil, message = BROKEN_PARAMS[name]
    spoil(run)
    says(refused("decode run"), message)


@pytest.mark.parametrize("name", BROKEN_CHECKPOINT)
def test_a_spoilt_checkpoint_is_refused(refused, run, name):
    spoil, message = BROKEN_CHECKPOINT[name]
    spoil(run)
    says(refused("fit --resume run --training.steps 4"), message)


@pytest.mark.parametrize("name", BROKEN_METRICS)
def test_spoilt_metrics_are_refused(refused, run, name):
    BROKEN_METRICS[name](run)
    says(refused("fit --resume run --training.steps 4"), "run/metrics.jsonl is damaged")


def test_a_run_without_metrics_goes_on(command, run):
    """They are a record, not a part of the state."""
    (run / METRICS).unlink()
    code, _, errors = command("fit --resume run --training.steps 4")
    assert (code, errors) == (0, [])


RESUME = {
    "fit --resume nowhere": "nowhere is not a run folder",
    "fit --resume .": ". is not a run folder",
    "fit --resume tiny.png": "tiny.png is not a run folder",
    "fit --resume run": "3 steps",
    "fit --resume run --training.steps 2": "steps",
    "fit --resume run --training.steps ten": "training.steps: expected an integer, got 'ten'",
    "fit --resume run --training.steps 0": f"training.steps: {INTEGER} 0",
    "fit --resume run --training.learning_rate true": "training.learning_rate: expected a number",
    "fit --resume run --training.schedule sine": "training.schedule: expected one of",
    "fit --resume run --model.width 5": "--resume takes no WHAT",
    "fit --resume run --problem.source one.png": "--resume takes no WHAT",
    "fit --resume run --out other": "--resume takes no WHAT, no --out",
    "fit image/siren --resume run": "--resume takes no WHAT",
}


@pytest.mark.parametrize("words", RESUME)
def test_impossible_resumptions_are_refused(refused, run, words):
    says(refused(words), RESUME[words])


def test_a_picture_that_has_gone_is_named(refused, run, workplace):
    (workplace / "tiny.png").unlink()
    says(refused("fit --resume run --training.steps 4"), "tiny.png: No such file or directory")


# A loss that is not finite ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ("", "inf"),
        ("--model.kind spder --training.learning_rate 1e38 --training.checkpoint_every 1", "nan"),
        ("--model.kind spder --training.learning_rate 1e38 --training.steps 1", "nan|not finite"),
    ],
    ids=["inf", "nan", "last-step"],
)
def test_a_loss_that_is_not_finite_stops_the_run(command, workplace, words, value):
    """It tells the step and what to try, and what it keeps is good: the run goes on from there.

    The first update spoils the parameters, so the first bad loss is that of step 1: at 1e30 its
    square overflows, at 1e38 the argument of the sine does.
    """
    code, _, errors = command(f"fit {SIREN} --training.learning_rate 1e30 --out run {words}")
    assert code == 2
    assert len(errors) == 1, errors
    says(errors[0], "lrnn-jax: ", "step 1", "checkpoint, step 0,", "training.learning_rate than")
    assert re.search(value, errors[0])
    assert not (workplace / "run" / "model.safetensors").exists()
    assert temporary_files(workplace) == []
    code, said, errors = command("fit --resume run --training.learning_rate 1e-3")
    assert (code, errors) == (0, [])
    assert "nan" not in said


# A stop by signal ---------------------------------------------------------------------------------


class Meddler:
    """A display that acts at one moment of a run: 'begin', the first 'update' or 'end'."""

    def __init__(self, moment, act):
        self._moment, self._act = moment, act
        self.begun_at = []

    def _at(self, moment):
        if moment == self._moment:
            self._moment = None
            self._act()

    def begin(self, step, steps):
        self.begun_at.append(step)
        self._at("begin")

    def update(self, step, values, rate):
        self._at("update")

    def end(self):
        self._at("end")


@pytest.fixture
def meddle(monkeypatch):
    """Makes the next run act at a moment, and notes where the next runs begin."""

    def meddle(moment, act):
        meddler = Meddler(moment, act)
        monkeypatch.setattr(cli, "display_for", lambda console: meddler)
        return meddler

    return meddle


def rows(path):
    """The metrics of a run without its clock."""
    lines = [json.loads(line) for line in (path / METRICS).read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["INT", "TERM"])
@pytest.mark.usefixtures("x32")
def test_a_stopped_run_says_how_to_go_on_and_ends_the_same(
    command, refused, meddle, finished, workplace, number
):
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    meddler = meddle("update", lambda: os.kill(os.getpid(), number))
    code, said, errors = command(f"fit {SIREN} --out run")
    assert (code, errors) == (130, [])
    assert said.splitlines()[-1] == "stopped at step 1; continue with: lrnn-jax fit --resume run"
    assert json.loads((workplace / "run" / "summary.json").read_text())["status"] == "interrupted"
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers
    says(refused("decode run"), "--resume")
    code, _, errors = command("fit --resume run")
    assert (code, errors) == (0, [])
    assert meddler.begun_at == [0, 1]
    assert rows(workplace / "run") == rows(finished)
    left, right = (path / PARAMS for path in (workplace / "run", finished))
    template = Siren(in_dim=2, out_dim=3, width=4, depth=1).init(jax.random.key(0))
    pairs = jax.tree.map(np.array_equal, load_tree(left, template), load_tree(right, template))
    assert jax.tree.all(pairs)
    assert left.read_bytes() == right.read_bytes()


def test_a_second_signal_stops_at_once(command, meddle, finished, workplace):
    """The last checkpoint is kept; metrics that are ahead of it are written anew."""

    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    meddle("update", twice)
    code, _, errors = command(f"fit {SIREN} --out run")
    assert (code, errors) == (130, ["lrnn-jax: stopped"])
    assert temporary_files(workplace) == []
    assert command("fit --resume run")[0] == 0
    assert rows(workplace / "run") == rows(finished)


def test_ctrl_c_before_the_first_checkpoint_leaves_no_folder(command, monkeypatch, workplace):
    def interrupt(*_):
        raise KeyboardInterrupt

    before = contents(workplace)
    monkeypatch.setattr(Checkpoints, "save", interrupt)
    code, _, errors = command(f"fit {SIREN} --out parent/run")
    assert (code, errors) == (130, ["lrnn-jax: stopped"])
    assert contents(workplace) == before


def test_a_run_killed_before_its_first_checkpoint_begins_again(command, finished, workplace):
    run = workplace / "run"
    run.mkdir()
    shutil.copy(finished / CONFIG, run / CONFIG)
    assert command("fit --resume run")[0] == 0
    assert rows(run) == rows(finished)
    assert (run / PARAMS).read_bytes() == (finished / PARAMS).read_bytes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["INT", "TERM"])
def test_a_run_stopped_while_it_draws_can_be_finished(command, meddle, workplace, number):
    meddle("end", lambda: os.kill(os.getpid(), number))
    code, _, errors = command(f"fit {SIREN} --out run")
    assert (code, errors) == (130, ["lrnn-jax: stopped"])
    code, said, errors = command("fit --resume run")
    assert (code, errors) == (0, [])
    assert "reached " in said
    assert (workplace / "run" / "summary.json").is_file()


def test_equal_parameters_make_equal_files(tmp_path):
    """Else a resumed run could not be told to be the same by comparing files."""
    params = Siren(in_dim=2, out_dim=1, width=2, depth=1).init(jax.random.key(0))
    files = {save_tree(tmp_path / "p", params, "text").read_bytes() for _ in range(30)}
    assert len(files) == 1


# A full disk --------------------------------------------------------------------------------------


def temporary_files(folder):
    """Names of hidden and temporary files under a folder, but for the lock of a run."""
    names = [path.name for path in Path(folder).rglob("*") if path.name != ".lock"]
    return [name for name in names if name.startswith(".") or "tmp" in name or "lock" in name]


@contextlib.contextmanager
def disk(folder, option):
    """A file system in memory, mounted on a folder while the block lasts."""
    words = ["mount", "-t", "tmpfs", "-o", option, "tmpfs", str(folder)]
    if not ROOT or subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextlib.contextmanager
def read_only(folder):
    """A folder that cannot be written to while the block lasts."""
    folder.chmod(0o500)
    try:
        yield
    finally:
        folder.chmod(0o700)


@pytest.fixture
def small_disk(workplace):
    """A folder of 2 MB."""
    folder = workplace / "disk"
    folder.mkdir()
    with disk(folder, "size=2m"):
        yield folder


def fill(folder, spare=0):
    """Fills a disk but for `spare` bytes."""
    with (folder / "filler").open("wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(4096))
            except OSError:
                break
        file.truncate(max(0, file.tell() - spare))


@pytest.mark.parametrize("spare", [0, 4096], ids=["config", "checkpoint"])
def test_a_disk_that_is_full_from_the_start(command, small_disk, spare):
    fill(small_disk, spare)
    code, out, errors = command(f"fit {SIREN} --out disk/parent/run")
    assert code == 2
    assert len(errors) == 1, errors
    says(errors[0], "lrnn-jax: ", "disk/parent/run", "No space left on device")
    assert out == ""
    assert list(contents(small_disk)) == ["filler"]


@pytest.mark.parametrize(("moment", "written"), [("begin", 0), ("update", 1), ("end", 4)])
def test_a_disk_that_fills_up_on_the_way(command, meddle, small_disk, finished, moment, written):
    """At metrics, at a later checkpoint, at the pictures: once there is room, the run can go on."""
    meddle(moment, lambda: fill(small_disk))
    code, _, errors = command(f"fit {SIREN} --training.checkpoint_every 1 --out disk/run")
    assert code == 2
    assert len(errors) == 1, errors
    says(errors[0], "lrnn-jax: ", "disk/run", "No space left on device")
    assert temporary_files(small_disk) == []
    assert rows(small_disk / "run") == [row for row in rows(finished) if row["step"] < written]
    (small_disk / "filler").unlink()
    code, _, errors = command("fit --resume disk/run")
    assert (code, errors) == (0, [])
    assert rows(small_disk / "run") == rows(finished)
    assert command("decode disk/run --size 3 3")[0] == 0


# The other words of the command -------------------------------------------------------------------


def test_debug_shows_the_traceback_and_the_line(command):
    code, _, errors = command(f"fit {LRNN} --model.rank 0 --debug")
    assert code == 2
    assert errors[0] == "Traceback (most recent call last):"
    assert errors[-1] == "lrnn-jax: model.rank: expected an integer >= 1, got 0"


def help_of(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(words)
    assert stopped.value.code == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


@pytest.mark.parametrize("verb", ["fit", "decode", "list", "doctor"])
def test_help_of_every_verb(capsys, verb):
    assert f"    {verb} " in help_of(["--help"], capsys)
    text = help_of([verb, "--help"], capsys)
    assert text.startswith(f"usage: lrnn-jax {verb}")
    assert "--debug" in text
    assert max(map(len, text.splitlines())) <= 100


def test_help_lists_every_field_with_its_default(capsys):
    text = help_of(["fit", "--help-all"], capsys)
    sections = [("problem", PROBLEMS), ("model", MODELS), ("training", {"": Training})]
    for section, registry in sections:
        for kind, spec in registry.items():
            heading = f"{section}, --{section}.kind {kind}" if kind else section
            part = text.split(f"\n{heading}:\n")[1].split("\n\n")[0]
            for field in (field.name for field in dataclasses.fields(spec)):
                entry = part.split(f"  --{section}.{field}  ")[1].split("\n  --")[0]
                assert re.search(r"\w.*\sDefault:\s+\S.*\.$", entry, flags=re.DOTALL)


def test_version(capsys):
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*\n", help_of(["--version"], capsys))


def test_list_names_models_problems_and_configs_with_a_line_each(command):
    code, said, errors = command("list")
    assert (code, errors) == (0, [])
    rows = re.findall(r"^(  \S+ {2,})(\S.+)$", said, flags=re.MULTILINE)
    assert {name.strip() for name, _ in rows} == {*MODELS, *PROBLEMS, *configs(), *study_configs()}
    assert len({len(name) for name, _ in rows}) == 1  # the texts are one column


def test_doctor_shows_versions_devices_and_that_the_compiler_is_right(command):
    code, said, errors = command("doctor")
    assert (code, errors) == (0, [])
    says(said, "python 3.", f"jax {jax.__version__}", "device 0:", "core layer", "right")
    assert "WRONG" not in said
