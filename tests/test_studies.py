"""Studies: members equal single fits, and what happens to a process loses a block at most."""

import dataclasses
import json
import math
import os
import resource
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

import lrnn_jax as lj
from lrnn_jax.cli import main
from lrnn_jax.io import write_png
from lrnn_jax.kernels.cost import count_flops
from lrnn_jax.studies import (
    Study,
    describe,
    describe_seconds,
    members,
    plan,
    read_study,
    study,
)
from lrnn_jax.studies.engine import fastest_program
from lrnn_jax.training import compilations, precision_context

PIXELS = {"kind": "image", "source": "camera", "size": [8, 8]}


def small(**changes):
    """Eight members of one program."""
    fields = {
        "problem": PIXELS,
        "training": {"steps": 30, "precision": "float64"},
        "grid": {
            "model.kind": ["siren"],
            "problem.source": ["camera", "phantom"],
            "training.seed": [0, 7],
            "training.learning_rate": [1e-3, 3e-3],
        },
        "budget": 300,
        "block": 3,
    }
    return Study(**(fields | changes))


@pytest.mark.parametrize("kind", ["siren", "lrnn", "nestnet"])
def test_a_member_is_the_fit_that_solve_computes(tmp_path, kind):
    spec = small(grid=small().grid | {"model.kind": [kind]})
    before = compilations()
    result = study(spec, tmp_path / "study")
    assert compilations() - before == 2  # the members', and that of the fit that is timed alone
    assert [row["member"] for row in result.rows] == list(range(8))
    for member, row in zip(members(spec), result.rows, strict=True):
        experiment = member.experiment
        single = lj.solve(experiment.model, experiment.problem, experiment.training)
        assert row["psnr"] == pytest.approx(single.scores["psnr"], rel=1e-9)
        assert row["loss"] == pytest.approx(float(single.losses[-1]), rel=1e-9)
        assert row["training.seed"] == experiment.training.seed
        assert row["parameters"] <= 300
    assert len({row["psnr"] for row in result.rows}) == 8


def test_equations_and_tables_are_studied_too(tmp_path):
    spec = Study(
        model={"kind": "mlp", "width": 6, "depth": 1},
        cases=[
            {"problem.kind": "convection", "problem.points": 60, "training.steps": 5},
            {"problem.kind": "regression", "training.steps": 40, "training.validate_every": 10},
        ],
        training={"precision": "float64"},
        grid={"training.seed": [0, 1]},
    )
    result = study(spec, tmp_path / "study")
    assert [row["main_score"] for row in result.rows] == ["relative_l2", "rmse"] * 2
    for member, row in zip(members(spec), result.rows, strict=True):
        experiment = member.experiment
        single = lj.solve(experiment.model, experiment.problem, experiment.training)
        assert row[row["main_score"]] == pytest.approx(single.scores[row["main_score"]], rel=1e-6)
    assert [(row["main_score"], row["fits"]) for row in result.summary()] == [
        ("relative_l2", 2),
        ("rmse", 2),
    ]


def test_targets_are_reached_at_the_step_where_the_score_first_exceeds_them(tmp_path):
    targets = [12.0, 20.0, 200.0]
    result = study(small(targets=targets), tmp_path / "study")
    member = next(members(small()))
    experiment = member.experiment
    scores = dict(
        lj.solve(
            experiment.model, experiment.problem, experiment.training, score_every=1
        ).evaluations
    )
    row = result.rows[0]
    for target in targets:
        reached = [step for step, values in sorted(scores.items()) if values["psnr"] >= target]
        assert row[f"steps_to_{target:g}"] == (reached[0] if reached else None)
    stopped = study(small(targets=targets[:1], stop_at_target=True), tmp_path / "stopped")
    for full, short in zip(result.rows, stopped.rows, strict=True):
        assert short["steps_to_12"] == full["steps_to_12"]
        assert short["steps"] in range(full["steps_to_12"] or 0, 31)


def test_a_member_that_diverges_ends_alone(tmp_path):
    spec = small(
        grid={"training.learning_rate": [1e-3, 1e30]},
        model={"kind": "lrnn"},
        training={"steps": 30},
    )
    good, bad = study(spec, tmp_path / "study").rows
    # Also if it is the first member, which is timed alone.
    first = study(
        dataclasses.replace(spec, grid={"training.learning_rate": [1e30, 1e-3]}), tmp_path / "first"
    ).rows
    assert [row["psnr"] for row in first] == [bad["psnr"], good["psnr"]]
    assert good["reason"] == "" and good["steps"] == 30
    assert bad["reason"] == "the loss is not finite" and bad["steps"] < 30


def test_an_unreadable_file_is_a_row_with_its_reason(tmp_path):
    rng = np.random.default_rng(0)
    for name in "ab":
        write_png(tmp_path / f"{name}.png", rng.random((8, 8, 1)))
    (tmp_path / "broken.png").write_bytes(b"not an image")
    grid = {"problem.source": str(tmp_path / "*.png"), "training.seed": [0]}
    result = study(small(grid=grid, model={"kind": "siren"}), tmp_path / "study")
    assert [bool(row["reason"]) for row in result.rows] == [False, False, True]
    assert "broken.png" in result.rows[2]["reason"]
    line = describe(result.study, plan(result.study))
    assert line.startswith("3 members (1 cannot be fitted: cannot read ") and "broken.png" in line


def test_seconds_are_those_of_the_timed_programs_and_of_their_operations():
    two = {"kind": "mlp", "depth": 1}
    cases = [{"model.width": 4}, {"model.width": 8}]
    blocks = plan(Study(problem=PIXELS, model=two, cases=cases, grid={"training.steps": [10, 30]}))
    assert [block.group for block in blocks] == [0, 1, 2, 3]  # the steps are part of the program
    line = describe_seconds(blocks, dict.fromkeys(range(4), 2.0))
    count = jax.local_device_count()
    assert line.startswith(f"about {2 * 2 * (10 + 30) / count:.0f} s ")
    # The others take the time of an operation of the first program.
    x = jax.ShapeDtypeStruct((2,), "float32")
    models = [block.members[0].experiment.model for block in blocks]
    costs = [count_flops(m.apply, jax.eval_shape(m.init, jax.random.key(0)), x) for m in models]
    steps = [block.members[0].experiment.training.steps for block in blocks]
    seconds = sum(500 * cost / costs[0] * n for cost, n in zip(costs, steps, strict=True)) / count
    assert describe_seconds(blocks, {0: 500.0, 1: math.nan}).startswith(f"about {seconds:.0f} s ")


@pytest.mark.parametrize(("keep_models", "file"), [(True, "safetensors"), (False, "jsonl")])
def test_a_full_disk_is_one_line_and_the_study_goes_on_later(tmp_path, keep_models, file):
    spec, limits = small(keep_models=keep_models), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # no file may be larger
    try:
        with pytest.raises(lj.InputError, match=rf"cannot write .*00000.{file}: File too large"):
            study(spec, tmp_path / "study")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list((tmp_path / "study").rglob("*.jsonl"))
    rows = study(spec, tmp_path / "study").rows
    expected = study(spec, tmp_path / "undisturbed").rows
    assert [row["psnr"] for row in rows] == [row["psnr"] for row in expected]


def test_temporary_files_of_killed_processes_are_removed(tmp_path):
    spec = small(grid={"training.seed": [0]}, model={"kind": "siren"}, block=1)
    blocks = tmp_path / "study" / "blocks"
    study(spec, tmp_path / "study")
    for name, age in ((".0123abcd.jsonl", 2 * 3600), (".4567cdef.jsonl", 60)):
        (blocks / name).write_text("half a li")
        then = time.time() - age
        os.utime(blocks / name, (then, then))
    assert len(study(spec, tmp_path / "study").rows) == 1
    assert sorted(path.name for path in blocks.glob(".*")) == [".4567cdef.jsonl"]


def test_the_width_of_a_long_program_is_measured_once_and_stored(tmp_path, monkeypatch):
    """Also the results do not depend on the width."""
    spec = small(grid={"training.seed": list(range(6))}, model={"kind": "siren"}, block=6)
    expected = study(spec, tmp_path / "short").rows
    assert not list((tmp_path / "short/blocks").glob("*.width"))
    monkeypatch.setattr("lrnn_jax.studies.run._LONG", 0)
    tried, seconds = [], {1: 3.0, 4: 1.0, 16: 2.0}

    def measured(program, members):
        tried.append(program.width)
        return seconds[program.width]

    monkeypatch.setattr("lrnn_jax.studies.engine._seconds_of_steps", measured)
    wide = study(spec, tmp_path / "long").rows
    assert (tmp_path / "long/blocks/program-0.width").read_text() == "4"
    assert tried == [1, 4]  # there are 6 members, fewer than 16
    (tmp_path / "long/blocks/00000.jsonl").unlink()
    study(spec, tmp_path / "long")
    assert tried == [1, 4]
    given = study(dataclasses.replace(spec, width=2), tmp_path / "given").rows
    for rows in (wide, given):
        for row, other in zip(rows, expected, strict=True):
            assert row["psnr"] == pytest.approx(other["psnr"], rel=1e-9)


def test_the_time_of_a_width_is_that_of_its_steps(tmp_path):
    """A program that does not fit into the memory, or is slower, ends the search."""
    spec = small(grid={"training.seed": [0, 1, 2, 3]}, model={"kind": "siren"}, block=4)
    (block,) = plan(spec)
    experiments = [member.experiment for member in block.members]
    with precision_context(experiments[0].training):
        assert fastest_program(experiments, widths=(1,)).width == 1
        assert fastest_program(experiments, widths=(1, 4)).width in (1, 4)


def test_few_files_hold_many_members(tmp_path):
    spec = small(grid={"training.seed": list(range(25))}, model={"kind": "siren"}, block=7)
    study(spec, tmp_path / "study")
    files = [path for path in (tmp_path / "study").rglob("*") if path.is_file()]
    assert len(files) == 1 + 2 * 4  # rows and models of four blocks


SCRIPT = """
import sys
from pathlib import Path
import lrnn_jax as lj
from test_studies import small
spec = small(grid=small().grid | {"training.seed": list(range(6))})
print(len(lj.study(spec, Path(sys.argv[1])).rows))
"""


def test_a_study_that_is_killed_again_and_again_ends_like_the_undisturbed_one(tmp_path):
    command = [sys.executable, "-c", SCRIPT]
    environment = os.environ | {"PYTHONPATH": os.path.dirname(__file__)}  # noqa: PTH120
    kills = 0
    for delay in (0.0, 0.1):
        process = subprocess.Popen([*command, str(tmp_path / "killed")], env=environment)
        blocks = tmp_path / "killed" / "blocks"
        count = len(list(blocks.glob("[0-9]*.jsonl"))) if blocks.is_dir() else 0
        while process.poll() is None and not len(list(blocks.glob("[0-9]*.jsonl"))) > count:
            time.sleep(0.02)
        time.sleep(delay)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills == 2
    rows = {}
    for name in ("killed", "whole"):  # in processes that compile alike
        subprocess.run([*command, str(tmp_path / name)], env=environment, check=True)
        rows[name] = lj.studies.StudyFolder(tmp_path / name).rows()
        for row in rows[name]:
            del row["seconds_amortised"], row["seconds_alone"]
    assert rows["killed"] == rows["whole"]
    assert len(rows["whole"]) == 24


def test_a_claimed_block_is_left_to_its_process(tmp_path):
    spec = small()
    store = lj.studies.StudyFolder(tmp_path / "study")
    store.prepare(spec)
    with store.claimed(1) as ours:
        assert ours
        rows = study(spec, tmp_path / "study").rows
        assert [row["member"] for row in rows] == [0, 1, 2, 6, 7]
    (tmp_path / "study/blocks/.1f2e.jsonl").write_text('{"member": 0, "reason": ""')  # half-written
    assert len(study(spec, tmp_path / "study").rows) == 8


BAD = {
    "grid: problem.source: no file matches 'nothing/*.png'": {
        "grid": {"problem.source": "nothing/*.png"}
    },
    "unknown field model.widht": {"grid": {"model.widht": [3]}},
    "grid: expected names such as 'model.kind'": {"grid": {"seed": [1]}},
    "grid: expected a list of values of training.seed, got 3": {"grid": {"training.seed": 3}},
    "budget: the smallest siren has": {"budget": 3},
    "stop_at_target: there are no targets": {"stop_at_target": True},
    "unknown field training.stepz": {
        "grid": {"training.stepz": [3]},
        "problem": {"kind": "image", "source": "missing.png"},
    },
    "unknown field model.widht; did": {
        "grid": {"model.widht": [3]},
        "problem": {"kind": "image", "source": "missing.png"},
    },
    "block: expected an integer >= 1": {"block": 0},
    "unknown model 'sirene'": {"grid": {"model.kind": ["sirene"]}},
    "training.learning_rate: expected": {"grid": {"training.learning_rate": ["fast"]}},
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_one_line_and_writes_nothing(tmp_path, message):
    with pytest.raises(lj.InputError) as caught:
        study(small(model={"kind": "siren"}, **({"grid": {}} | BAD[message])), tmp_path / "study")
    assert message in str(caught.value)
    assert not (tmp_path / "study").exists()


def test_a_folder_of_another_study_is_refused(tmp_path):
    study(small(grid={"training.seed": [0]}), tmp_path / "study")
    with pytest.raises(lj.InputError, match="holds another study"):
        study(small(grid={"training.seed": [1]}), tmp_path / "study")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    (tmp_path / "rows" / "blocks").mkdir(parents=True)
    (tmp_path / "rows" / "blocks" / "00000.jsonl").touch()
    for name in ("other", "rows"):
        with pytest.raises(lj.InputError, match="is not the folder of a study"):
            study(small(), tmp_path / name)


def test_a_folder_that_another_process_is_just_creating_is_taken(tmp_path):
    (tmp_path / "blocks").mkdir()
    (tmp_path / ".0123456789abcdef.toml").touch()
    store = lj.studies.StudyFolder(tmp_path)
    store.prepare(small())
    assert store.file.is_file()


TOML = """
[model]
kind = "siren"

[problem]
kind = "image"
source = "camera"
size = [8, 8]

[training]
steps = 10

[study]
budget = 200
targets = [5]

[study.grid]
"training.seed" = [0, 1, 2]
"""


def test_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("jax.config.update", lambda name, value: None)  # JAX has started already
    (tmp_path / "seeds.toml").write_text(TOML)
    assert main(["study", "seeds.toml", "--plan"]) == 0
    model = next(members(read_study(tmp_path / "seeds.toml"))).experiment.model
    params, x = jax.eval_shape(model.init, jax.random.key(0)), jax.ShapeDtypeStruct((2,), "float32")
    flops = 3 * 64 * 10 * 3 * count_flops(model.apply, params, x)
    line = f"3 members, 1 programs, 1 blocks, at least {flops:.2g} floating-point operations, "
    out = capsys.readouterr().out
    assert out.startswith(line) and "s of steps, estimated from 1 programs" in out
    assert not (tmp_path / "runs").exists()
    assert main(["study", "seeds.toml"]) == 0
    out = capsys.readouterr().out
    assert "3 of 3 members" in out and "psnr" in out and "3 fits, 0 failed" in out
    rows = (tmp_path / "runs/seeds/blocks/00000.jsonl").read_text().splitlines()
    assert [json.loads(row)["training.seed"] for row in rows] == [0, 1, 2]
    assert main(["study", "studies/images_small", "--plan"]) == 0
    assert capsys.readouterr().out.startswith("27 members, 6 programs, 6 blocks, ")
    (tmp_path / "lost.toml").write_text(TOML.replace('"camera"', '"missing.png"'))
    assert main(["study", "lost.toml"]) == 1
    assert "cannot read missing.png" in capsys.readouterr().out
    (tmp_path / "seeds.toml").write_text(TOML + 'block = "many"\n')
    assert main(["study", "seeds.toml"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
