"""Trackers: what TensorBoard and Weights & Biases receive of runs and studies."""

import json
import shutil
import struct
import sys
import types
from pathlib import Path

import jax
import numpy as np
import pytest

from lrnn_jax import Image, InputError, Siren, Training, cli
from lrnn_jax.experiments import Experiment, RunFolder, resume, start
from lrnn_jax.studies import Study, StudyFolder, study

TINY = "--problem.source camera --problem.size 8 8 --model.kind siren --model.width 4 "
TINY += "--model.depth 1 --training.steps 3 --training.log_every 1"
FIT = ["fit", *TINY.split()]


def experiment(steps, **training):
    return Experiment(
        model=Siren(in_dim=2, out_dim=1, width=4, depth=1),
        problem=Image("camera", size=(8, 8)),
        training=Training(steps=steps, log_every=1, checkpoint_every=4, **training),
    )


def small_study(**changes):
    """Three members in two blocks."""
    fields = {
        "problem": {"kind": "image", "source": "camera", "size": [8, 8]},
        "training": {"steps": 20},
        "grid": {"model.kind": ["siren"], "training.seed": [0, 1, 2]},
        "budget": 200,
        "block": 2,
    }
    return Study(**(fields | changes))


def interrupt(path, step):
    """Make a run as if it had been killed after its metrics, but before its checkpoint."""
    (path / "checkpoints" / f"{step}.safetensors").unlink()
    (path / "summary.json").unlink()


# The files of TensorBoard -------------------------------------------------------------------------


def events_of_file(path):
    """The events of a file; a record is length (8 bytes), checksum (4), event, checksum (4)."""
    from tensorboardX.proto.event_pb2 import Event

    content, place, events = path.read_bytes(), 0, []
    while place < len(content):
        (size,) = struct.unpack_from("<Q", content, place)
        events.append(Event.FromString(content[place + 12 : place + 12 + size]))
        place += size + 16
    assert place == len(content)
    assert events[0].file_version == "brain.Event:2"
    return events[1:]


def events_of(folder):
    """The events that TensorBoard shows: a start discards those of earlier files from its step."""
    shown = []
    for path in sorted(folder.iterdir()):
        assert "tfevents" in path.name
        for event in events_of_file(path):
            if event.HasField("session_log"):
                assert event.session_log.status == event.session_log.START
                shown = [earlier for earlier in shown if earlier.step < event.step]
            shown.append(event)
    return shown


def values_of(events):
    return [(event.step, value) for event in events for value in event.summary.value]


def scalars_of(folder):
    """Lists of (step, value) by name."""
    scalars = {}
    for step, value in values_of(events_of(folder)):
        if value.HasField("simple_value"):
            scalars.setdefault(value.tag, []).append((step, value.simple_value))
    return scalars


def assert_equal_to_metrics(scalars, lines):
    """Assert that the scalars are the lines of metrics, each step once and in single precision."""
    assert [line["step"] for line in lines] == list(range(len(lines)))
    for name in lines[0].keys() - {"step"}:
        expected = [(line["step"], float(np.float32(line[name]))) for line in lines]
        assert scalars[name] == expected, name


def test_tensorboard_receives_the_metrics_the_settings_the_scores_and_the_pictures(tmp_path):
    outcome = start(experiment(9), tmp_path / "run", track=["tensorboard"])
    folder = tmp_path / "run" / "tensorboard"
    scalars = scalars_of(folder)
    lines = outcome.folder.metrics.read()
    assert len(lines) == 10
    assert {"step", "loss", "psnr", "seconds"} == lines[0].keys()
    assert_equal_to_metrics(scalars, lines)
    for name, score in outcome.summary["scores"].items():
        assert scalars[f"final/{name}"] == [(9, float(np.float32(score)))]
    assert all(value > 0 for _, value in scalars["steps_per_second"])
    rate = experiment(9).training.rate()
    for step, value in scalars["learning_rate"]:
        assert value == pytest.approx(float(rate(step)), rel=1e-6)
    values = {value.tag: value for _, value in values_of(events_of(folder))}
    text = values["config/text_summary"].tensor.string_val[0].decode()
    assert (tmp_path / "run" / "config.toml").read_text() in text
    for name in ("reconstruction", "error"):
        image, file = values[name].image, tmp_path / "run" / f"{name}.png"
        assert image.encoded_image_string == file.read_bytes()
    assert (values["reconstruction"].image.width, values["reconstruction"].image.height) == (8, 8)


def settings_of(folder):
    """The settings that the HParams page of TensorBoard shows."""
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

    values = {value.tag: value for _, value in values_of(events_of(folder))}
    assert "_hparams_/experiment" not in values  # else the page shows the first run's fields alone
    assert "_hparams_/session_end_info" in values
    content = values["_hparams_/session_start_info"].metadata.plugin_data.content
    settings = HParamsPluginData.FromString(content).session_start_info.hparams
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in settings.items()}


def test_the_settings_are_a_table_by_dotted_name(tmp_path):
    start(experiment(2, learning_rate=3e-3), tmp_path / "run", track=["tensorboard"])
    settings = settings_of(tmp_path / "run" / "tensorboard")
    assert settings["model.kind"] == "siren"
    assert settings["model.width"] == 4
    assert settings["problem.size"] == "[8, 8]"
    assert settings["training.learning_rate"] == 3e-3
    assert settings["training.data_parallel"] is False


def test_a_resumed_run_has_each_step_once(tmp_path):
    path = tmp_path / "run"
    start(experiment(6), path, track=["tensorboard"])
    interrupt(path, 6)
    outcome = resume(RunFolder(path), {"steps": 9}, track=["tensorboard"])
    assert len(list((path / "tensorboard").iterdir())) == 2
    scalars = scalars_of(path / "tensorboard")
    assert_equal_to_metrics(scalars, outcome.folder.metrics.read())
    assert [step for step, _ in scalars["final/psnr"]] == [9]


def test_a_tracker_that_is_added_on_resuming_receives_the_earlier_metrics(tmp_path):
    path = tmp_path / "run"
    start(experiment(6), path)
    assert not (path / "tensorboard").exists()
    outcome = resume(RunFolder(path), {"steps": 9}, track=["tensorboard"])
    assert_equal_to_metrics(scalars_of(path / "tensorboard"), outcome.folder.metrics.read())


def test_an_event_file_that_cannot_be_written_is_one_line(tmp_path):
    path = tmp_path / "run"
    start(experiment(4), path)
    (path / "tensorboard").touch()
    with pytest.raises(InputError, match=r"cannot make the folder .*tensorboard"):
        resume(RunFolder(path), {"steps": 8}, track=["tensorboard"])


# Names and packages -------------------------------------------------------------------------------


def test_no_tracker_is_used_unless_it_is_asked_for(tmp_path, monkeypatch):
    for module in ("tensorboardX", "wandb"):
        monkeypatch.setitem(sys.modules, module, None)
    assert cli.main([*FIT, "--out", str(tmp_path / "run")]) == 0
    study(small_study(), tmp_path / "study")
    names = {path.name for path in tmp_path.rglob("*")}
    assert not names & {"tensorboard", "wandb", "wandb_id"}
    assert not [name for name in names if name.endswith((".tensorboard", ".wandb"))]


STUDY_FILE = """
[problem]
kind = "image"
source = "camera"
size = [8, 8]
[study.grid]
"model.kind" = ["siren"]
"""


@pytest.mark.parametrize("words", ["fit", "resume", "study"])
@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_missing_package_is_one_line_and_writes_nothing(
    tmp_path, monkeypatch, capsys, name, words
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.toml").write_text(STUDY_FILE)
    command = {
        "fit": [*FIT, "--out", "parent/run"],
        "resume": ["fit", "--resume", "old", "--training.steps", "8"],
        "study": ["study", "small.toml", "--out", "parent/study"],
    }[words]
    if words == "resume":
        start(experiment(4), tmp_path / "old")
    monkeypatch.setattr("jax.config.update", lambda name, value: None)  # JAX has started already
    module = {"tensorboard": "tensorboardX", "wandb": "wandb"}[name]
    monkeypatch.setitem(sys.modules, module, None)
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    assert cli.main([*command, "--track", name]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert f"{module} is needed: pip install 'lrnn-jax[{name}]'" in err
    after = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    assert after == before


def test_an_unknown_tracker_is_named(tmp_path, capsys):
    assert cli.main([*FIT, "--out", str(tmp_path / "run"), "--track", "tensorbord"]) == 2
    assert "invalid choice: 'tensorbord'" in capsys.readouterr().err
    with pytest.raises(InputError, match="unknown tracker 'tensorbord'; did you mean 'tensorboard"):
        start(experiment(2), tmp_path / "run", track=["tensorbord"])
    with pytest.raises(InputError, match="unknown tracker 'wandbb'"):
        study(small_study(), tmp_path / "study", track=["wandbb"])
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_takes_trackers_for_fits_resumed_fits_and_studies(tmp_path, monkeypatch):
    run, folder = tmp_path / "run", tmp_path / "study"
    assert cli.main([*FIT, "--out", str(run), "--track", "tensorboard"]) == 0
    words = ["--training.steps", "5", "--track", "tensorboard"]
    assert cli.main(["fit", "--resume", str(run), *words]) == 0
    assert_equal_to_metrics(scalars_of(run / "tensorboard"), RunFolder(run).metrics.read())
    monkeypatch.setattr("jax.config.update", lambda name, value: None)  # JAX has started already
    (tmp_path / "small.toml").write_text(STUDY_FILE + "[training]\nsteps = 5\n")
    words = ["--out", str(folder), "--track", "tensorboard"]
    assert cli.main(["study", str(tmp_path / "small.toml"), *words]) == 0
    assert scalars_of(folder / "tensorboard" / "00000")["final/psnr"]


# Weights & Biases ---------------------------------------------------------------------------------


class StubRun:
    """A run of Weights & Biases; `step` is the next step that it takes when it is opened."""

    def __init__(self, server, options):
        self.options, self.config, self.summary = options, {}, {}
        self._history = server.setdefault(options["id"], {})
        self.config = types.SimpleNamespace(update=self._configure)
        self.settings, self.exit_code = {}, None

    def _configure(self, config, allow_val_change):
        assert allow_val_change
        self.settings |= config

    @property
    def step(self):
        return max(self._history, default=-1) + 1

    def log(self, values, step):
        assert step >= self.step - 1, "Weights & Biases drops earlier steps"
        self._history.setdefault(step, {}).update(values)

    def finish(self, exit_code):
        self.exit_code = exit_code


class StubModule(types.ModuleType):
    """Stands for `wandb`: `runs` are those that were opened, `server` has the history by id."""

    class Error(Exception):
        pass

    def __init__(self):
        super().__init__("wandb")
        self.runs, self.server = [], {}

    def init(self, **options):
        assert Path(options["dir"]).is_dir()
        self.runs.append(StubRun(self.server, options))
        return self.runs[-1]

    Settings = dict

    @staticmethod
    def Image(path):
        return Path(path).read_bytes()


@pytest.fixture
def wandb(monkeypatch):
    stub = StubModule()
    monkeypatch.setitem(sys.modules, "wandb", stub)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return stub


def test_wandb_receives_the_metrics_the_settings_the_scores_and_the_pictures(tmp_path, wandb):
    outcome = start(experiment(6), tmp_path / "run", track=["wandb"])
    (run,) = wandb.runs
    identity = (tmp_path / "run" / "wandb_id").read_text()
    assert (
        run.options.items()
        >= {
            "project": "lrnn-jax",
            "name": "run",
            "group": None,
            "id": identity,
            "dir": str(tmp_path / "run"),
            "resume": "allow",
        }.items()
    )
    assert run.settings == outcome.folder.table()
    lines = outcome.folder.metrics.read()
    history = wandb.server[identity]
    for line in lines:
        assert history[line["step"]].items() >= (line.items() - {("step", line["step"])})
    assert history[6]["error"] == (tmp_path / "run" / "error.png").read_bytes()
    assert run.summary == {f"final/{n}": v for n, v in outcome.summary["scores"].items()}
    assert run.exit_code == 0


def test_a_resumed_run_keeps_its_id_and_takes_no_step_twice(tmp_path, wandb):
    path = tmp_path / "run"
    start(experiment(6), path, track=["wandb"])
    interrupt(path, 6)
    outcome = resume(RunFolder(path), {"steps": 9}, track=["wandb"])
    first, second = wandb.runs
    assert second.options["id"] == first.options["id"]
    assert list(wandb.server) == [first.options["id"]]
    history = wandb.server[first.options["id"]]
    assert list(history) == list(range(10))  # the stub refuses earlier steps
    for line in outcome.folder.metrics.read():
        assert history[line["step"]]["loss"] == pytest.approx(line["loss"], rel=1e-6)
    assert second.settings["training"]["steps"] == 9
    assert second.summary["final/psnr"] == outcome.summary["scores"]["psnr"]


def test_a_run_that_is_tracked_later_has_its_earlier_metrics(tmp_path, wandb):
    start(experiment(4), tmp_path / "run")
    resume(RunFolder(tmp_path / "run"), {"steps": 6}, track=["wandb"])
    assert list(wandb.server[wandb.runs[0].options["id"]]) == list(range(7))


def test_the_project_is_that_of_the_environment(tmp_path, wandb, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    start(experiment(2), tmp_path / "run", track=["wandb"])
    assert wandb.runs[0].options["project"] == "mine"


def test_a_run_that_fails_is_marked_as_failed(tmp_path, wandb):
    with pytest.raises(InputError, match="the loss became"):
        start(experiment(3, learning_rate=1e30), tmp_path / "run", track=["wandb"])
    assert wandb.runs[0].exit_code == 1


def test_a_wandb_that_cannot_be_opened_leaves_no_folder(tmp_path, wandb, monkeypatch):
    def refuse(**options):
        raise wandb.Error("no API key")

    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.raises(InputError, match="wandb: no API key"):
        start(experiment(2), tmp_path / "parent" / "run", track=["wandb"])
    assert list(tmp_path.iterdir()) == []


def test_only_process_0_tracks(tmp_path, wandb, monkeypatch):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    start(experiment(2), tmp_path / "run", track=["wandb"])
    assert wandb.runs == []


def test_wandb_itself_writes_its_files_without_a_network(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for name in ("CONFIG", "CACHE", "DATA", "ARTIFACT"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / name))
    path = tmp_path / "run"
    try:
        start(experiment(3), path, track=["wandb", "tensorboard"])
        resume(RunFolder(path), {"steps": 5}, track=["wandb"])
    finally:
        wandb.teardown()
    identity = (path / "wandb_id").read_text()
    first, second = sorted(path.glob("wandb/offline-run-*"))
    for folder, steps in ((first, 3), (second, 5)):
        assert folder.name.split("-")[3] == identity
        content = (folder / f"run-{identity}.wandb").read_bytes()
        line = RunFolder(path).metrics.read()[steps]
        assert json.dumps(line["psnr"]).encode() in content
        assert b"final/psnr" in content
        images = folder / "files" / "media" / "images"
        assert {p.name.split("_")[0] for p in images.iterdir()} == {"error", "reconstruction"}


# Studies ------------------------------------------------------------------------------------------


def test_each_member_of_a_study_has_an_event_file(tmp_path):
    result = study(small_study(targets=[5]), tmp_path / "study", track=["tensorboard"])
    folder = tmp_path / "study" / "tensorboard"
    assert sorted(path.name for path in folder.iterdir()) == ["00000", "00001", "00002"]
    for row in result.rows:
        member = folder / f"{row['member']:05d}"
        assert len(list(member.iterdir())) == 1
        scalars = scalars_of(member)
        for column, name in ((1, "loss"), (2, "psnr")):
            points = [(point[0], point[column]) for point in row["curve"]]
            known = [(step, float(np.float32(v))) for step, v in points if v is not None]
            assert scalars[name] == known
        for name in ("psnr", "ssim", "parameters", "steps", "loss", "seconds_alone", "steps_to_5"):
            assert scalars[f"final/{name}"] == [(20, float(np.float32(row[name])))]
        assert "final/training.seed" not in scalars
        assert settings_of(member) == {"model.kind": "siren", "training.seed": row["training.seed"]}


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_study_is_tracked_once_also_after_it_was_fitted(tmp_path, monkeypatch):
    spec, folder = small_study(), tmp_path / "study"
    before = study(spec, folder).rows
    monkeypatch.setattr("lrnn_jax.studies.run.fit_block", None)  # no member is fitted again
    assert study(spec, folder, track=["tensorboard"]).rows == before
    tracked = contents(folder)
    assert len(list(folder.rglob("events.*"))) == 3
    study(spec, folder, track=["tensorboard"])
    assert contents(folder) == tracked


def test_a_tracker_that_fails_loses_no_rows_and_is_tried_again(tmp_path, wandb, monkeypatch):
    spec, folder = small_study(block=3), tmp_path / "study"
    calls = iter(range(100))

    def log(run, values, step):
        if next(calls) == 30:  # in the second member
            raise KeyboardInterrupt
        StubRun_log(run, values, step)

    StubRun_log = StubRun.log
    monkeypatch.setattr(StubRun, "log", log)
    with pytest.raises(KeyboardInterrupt):
        study(spec, folder, track=["wandb"])
    assert [run.exit_code for run in wandb.runs] == [0, 1]
    rows = StudyFolder(folder).rows()
    assert len(rows) == 3
    monkeypatch.setattr(StubRun, "log", StubRun_log)
    assert study(spec, folder, track=["wandb"]).rows == rows
    assert len(wandb.server) == 3  # each member has one run, which was continued
    for history in wandb.server.values():
        assert list(history) == [point[0] for point in rows[0]["curve"]]


def test_the_members_of_a_study_are_a_group_of_wandb(tmp_path, wandb):
    rows = study(small_study(), tmp_path / "photos", track=["wandb"]).rows
    assert [run.options["name"] for run in wandb.runs] == [f"photos-0000{i}" for i in range(3)]
    assert {run.options["group"] for run in wandb.runs} == {"photos"}
    assert len({run.options["id"] for run in wandb.runs}) == 3
    for run, row in zip(wandb.runs, rows, strict=True):
        assert run.settings == {"model": {"kind": "siren"}, "training": {"seed": row["member"]}}
        assert run.options["settings"]["silent"]
        assert run.summary["final/psnr"] == row["psnr"]
        history = wandb.server[run.options["id"]]
        for step, loss, score in row["curve"]:  # the loss after the last step is not known
            assert history[step] == {"psnr": score} | ({} if loss is None else {"loss": loss})
    shutil.rmtree(tmp_path / "photos")
    study(small_study(), tmp_path / "photos", track=["wandb"])
    assert len(wandb.server) == 6  # another study of the same name has other runs


def test_members_that_cannot_be_fitted_or_diverge(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"not an image")
    spec = small_study(
        model={"kind": "lrnn"},
        budget=400,
        grid={
            "problem.source": ["camera", str(tmp_path / "broken.png")],
            "training.learning_rate": [1e-3, 1e30],
        },
    )
    result = study(spec, tmp_path / "study", track=["tensorboard"])
    tracked = sorted(path.name for path in (tmp_path / "study" / "tensorboard").iterdir())
    with_curve = [f"{row['member']:05d}" for row in result.rows if row.get("curve")]
    assert len(result.rows) == 4
    assert tracked == with_curve
    assert "00000" in tracked
