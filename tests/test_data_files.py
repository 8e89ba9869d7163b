"""`lrnn-jax fit FILE`: the problem by the file, and fields that the user sets."""

import numpy as np
import pytest

from lrnn_jax import InputError
from lrnn_jax.cli import main
from lrnn_jax.experiments import experiment_from
from lrnn_jax.experiments.data_files import is_data_file, problem_of_file, require_readable
from lrnn_jax.experiments.recipes import complete, default_model
from lrnn_jax.io import Clip, Sound, write_mesh, write_png, write_video, write_wav

RNG = np.random.default_rng(0)
CORNERS = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], float)
FACES = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])


def table(folder, name, rows, separator=","):
    text = "\n".join(separator.join(map(str, row)) for row in [("a", "b", "c"), *rows])
    (folder / name).write_text(text)
    return str(folder / name)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One small file of each kind, by the kind of problem that reads it."""
    folder = tmp_path_factory.mktemp("files")
    numbers, texts = RNG.random((60, 2)), RNG.choice(["yes", "no"], 60)
    np.save(folder / "volume.npy", RNG.random((5, 6, 7)))
    np.save(folder / "mask.npy", RNG.random((5, 6, 7)) > 0.5)
    np.savez(folder / "table.npz", x=numbers, y=numbers.sum(axis=1))
    return {
        "photo": ("image", write_png(folder / "photo.PNG", RNG.random((12, 10, 3)))),
        "sound": ("audio", write_wav(folder / "a.wav", Sound(RNG.random((99, 1)), 99, "FLOAT"))),
        "clip": ("video", write_video(folder / "a.gif", Clip(RNG.random((3, 8, 8, 1)), 9.0))),
        "part": ("occupancy", write_mesh(folder / "part.stl", CORNERS, FACES)),
        "grey": ("volume", folder / "volume.npy"),
        "mask": ("occupancy", folder / "mask.npy"),
        "arrays": ("regression", folder / "table.npz"),
        "real": ("regression", table(folder, "r.csv", [(*x, x.sum()) for x in numbers])),
        "text": ("classification", table(folder, "t.csv", [*zip(*numbers.T, texts, strict=True)])),
        "codes": ("classification", table(folder, "c.csv", [(*x, int(x[0] * 4)) for x in numbers])),
        "counts": ("regression", table(folder, "n.csv", [(*x, i) for i, x in enumerate(numbers)])),
        "tabs": (
            "classification",
            table(folder, "t.tsv", [(1, 2, i % 2) for i in range(20)], "\t"),
        ),
    }


NAMES = (
    *("photo", "sound", "clip", "part", "grey", "mask", "arrays"),
    *("real", "text", "codes", "counts", "tabs"),
)


@pytest.mark.parametrize("name", NAMES)
def test_the_file_chooses_the_problem(files, name):
    kind, path = files[name]
    assert is_data_file(str(path))
    assert problem_of_file(str(path)) == {"kind": kind, "source": str(path)}


@pytest.mark.parametrize("name", ["photo", "sound", "grey", "real", "text"])
def test_a_file_is_fitted_by_its_name_alone(files, name, tmp_path, capsys):
    kind, path = files[name]
    assert main(["fit", str(path), "--training.steps", "3", "--out", str(tmp_path / "run")]) == 0
    shown = capsys.readouterr().out
    assert f"\nfitted    {kind} by " in shown
    assert (tmp_path / "run" / "summary.json").stat().st_size > 0


def test_another_target_is_another_problem_and_none_is_kept(files, tmp_path):
    _, path = files["text"]
    words = f"--problem.target a --training.steps 3 --training.patience none --out {tmp_path}/run"
    assert main(["fit", str(path), *words.split()]) == 0
    config = (tmp_path / "run" / "config.toml").read_text()
    assert 'kind = "regression"' in config and "patience" not in config


def test_a_folder_of_images_is_a_video(tmp_path):
    for number in range(2):
        write_png(tmp_path / f"{number}.png", RNG.random((6, 6, 1)))
    assert problem_of_file(str(tmp_path))["kind"] == "video"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("https://a.org/b.png", "https://a.org/b.png is a URL: download the file"),
        ("--problem.source ftp://a/b.wav --problem.kind audio", "is a URL: download the file"),
        ("a.wav --problem.kind image", "'image' does not read a.wav; --problem.kind audio does"),
        ("a.csv --problem.kind ct", "'ct' does not read a.csv; --problem.kind regression does"),
        ("a.png --problem.source b.png", "a.png is the source already, got 'b.png' too"),
        ("a.png", "cannot read a.png: No such file"),
        ("--steps 9", "unknown argument --steps; did you mean '--training.steps'?"),
        ("--model siren", "unknown argument --model; did you mean '--model.kind siren'?"),
        ("--problem a.png", "unknown argument --problem; did you mean '--problem.kind a.png'?"),
        ("--lr 1e-3", "did you mean '--training.learning_rate'?"),
        ("--help problem.cd", "--help: unknown topic 'problem.cd'; did you mean 'problem.ct'?"),
    ],
)
def test_one_line_says_what_would_be_right(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["fit", *words.split()]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_file_of_an_unknown_kind_is_not_an_experiment(tmp_path):
    (tmp_path / "a.docx").write_text("")
    assert is_data_file(str(tmp_path / "a.docx"))
    with pytest.raises(InputError, match=r"no problem reads such a file by its suffix; known: png"):
        problem_of_file(str(tmp_path / "a.docx"))
    require_readable("image", "a.docx")  # the reader itself decides
    assert not is_data_file("image/siren") and not is_data_file("mine.toml")


# The fields of the user and those of the recipe ---------------------------------------------------


FILE = {
    "problem": {"kind": "image", "source": "camera", "size": [16, 16]},
    "model": {"kind": "lrnn", "rank": 8},
    "training": {"steps": 7, "learning_rate": 0.5},
}


def test_a_complete_file_is_taken_as_it_is():
    found, origin = complete(FILE, {"training": {"steps": 9}}, "mine.toml")
    assert found == FILE | {"training": {"steps": 9, "learning_rate": 0.5}}
    assert origin == "mine.toml"


def test_another_model_never_takes_the_settings_of_the_first():
    found, origin = complete(FILE, {"model": {"kind": "siren"}})
    assert found["problem"] == FILE["problem"]
    assert "rank" not in found["model"]
    assert found["training"]["learning_rate"] != 0.5
    assert found["training"]["steps"] != 7
    assert experiment_from(found).model.omega0 == 30.0
    assert origin == "the recipe of the pair"


def test_another_problem_takes_nothing_from_the_file():
    found, _ = complete(FILE, {"problem": {"kind": "regression"}})
    assert found["problem"] == {"kind": "regression"}
    assert found["model"]["kind"] == default_model("regression")
    assert found["training"]["learning_rate" if "learning_rate" in found["training"] else "steps"]


def test_a_field_that_the_user_sets_wins_over_the_recipe():
    own = {"kind": "siren", "width": 5}
    found, _ = complete({"problem": FILE["problem"]}, {"model": own, "training": {"steps": 11}})
    assert found["model"]["width"] == 5
    assert found["training"]["steps"] == 11
    deep, _ = complete({"problem": FILE["problem"]}, {"model": {"kind": "siren", "depth": 5}})
    plain, _ = complete({"problem": FILE["problem"]}, {"model": {"kind": "siren"}})
    counts = [experiment_from(t).model.parameter_count for t in (deep, plain)]
    assert deep["model"]["depth"] == 5
    assert deep["model"]["width"] < plain["model"]["width"]  # the size follows the data
    assert max(counts) <= 1000


def test_a_table_of_150_rows_gets_a_small_model():
    found, _ = complete({}, {"problem": {"kind": "classification", "source": "iris"}})
    assert experiment_from(found).model.parameter_count < 1000


def test_batches_and_validations_fit_the_data_and_the_steps():
    found, _ = complete({}, {"problem": FILE["problem"], "model": {"kind": "siren"}})
    assert "batch" not in found["training"]  # 256 pixels
    large = {"kind": "image", "source": "camera"}
    assert complete({}, {"problem": large})[0]["training"]["batch"] == 16384
    short, _ = complete({}, {"problem": {"kind": "regression"}, "training": {"steps": 3}})
    assert short["training"]["validate_every"] == 3


def test_an_exponent_is_an_integer(tmp_path):
    words = "--problem.source camera --problem.size 8 8 --training.steps 1e1 --training.batch none"
    assert main(["fit", *words.split(), "--out", str(tmp_path / "run")]) == 0
    assert "steps = 10\n" in (tmp_path / "run" / "config.toml").read_text()


@pytest.mark.parametrize(
    ("topic", "inside", "outside"),
    [
        ("problem.ct", "--problem.views", "--problem.crop"),
        ("model.siren", "--model.omega0", "--model.rank"),
        ("training", "--training.steps", "--model.width"),
        ("omega0", "--model.kind wire", "--training.steps"),
        ("--training.steps", "--training.steps", "--training.seed"),
    ],
)
def test_the_help_of_a_topic(topic, inside, outside, capsys):
    with pytest.raises(SystemExit) as end:
        main(["fit", "--help", topic.removeprefix("--")])
    shown = capsys.readouterr().out
    assert end.value.code == 0
    assert inside in shown and outside not in shown


def test_the_help_is_short_and_all_of_it_is_there_on_request(capsys):
    for words, most, least in ((["--help"], 60, 30), (["--help-all"], 2000, 700)):
        with pytest.raises(SystemExit):
            main(["fit", *words])
        assert least < capsys.readouterr().out.count("\n") < most


def test_a_wrong_kind_for_an_array_names_the_kind_that_takes_its_axes(tmp_path, capsys):
    for axes, kind in ((2, "field"), (3, "volume")):
        path = tmp_path / f"{axes}.npy"
        np.save(path, np.random.default_rng(0).random((4,) * axes))
        assert main(["fit", "--problem.kind", "image", "--problem.source", str(path)]) == 2
        assert f"--problem.kind {kind} does" in capsys.readouterr().err
