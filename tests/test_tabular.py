"""Tables: files in, the split and its scales, scores by hand, stopping by validation."""

import csv
import dataclasses
import math

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss, root_mean_squared_error

import lrnn_jax as lj
from lrnn_jax import InputError
from lrnn_jax.cli import main
from lrnn_jax.experiments import Experiment, RunFolder, resume, start
from lrnn_jax.io import BUNDLED, read_picture, read_table_file
from lrnn_jax.plot import write_confusion

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 3)) * [1.0, 10.0, 0.1] + [0.0, 5.0, 2.0]
NUMBERS = 7 + 3 * X[:, 0] - X[:, 1]
CLASSES = np.where(X[:, 0] > 0.3, "yes", "no")


@pytest.fixture
def stored(tmp_path):
    """Writes a CSV and returns its path."""

    def store(y=NUMBERS, name="table.csv"):
        with (tmp_path / name).open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("length", "width", "depth", "target"))
            writer.writerows([*map(float, row), label] for row, label in zip(X, y, strict=True))
        return str(tmp_path / name)

    return store


# Files --------------------------------------------------------------------------------------------


def test_a_csv_is_read_as_it_was_written(stored):
    table = read_table_file(stored(), None)
    np.testing.assert_array_equal(table.x, X)
    np.testing.assert_allclose(table.y.astype(float), NUMBERS, rtol=1e-12)
    assert table.names == ("length", "width", "depth")
    other = read_table_file(stored(), "width")
    np.testing.assert_array_equal(other.x[:, 1], X[:, 2])
    assert other.names == ("length", "depth", "target")


def test_the_last_column_is_the_target_whatever_its_name(tmp_path):
    (tmp_path / "twice.csv").write_text("y,a,y\n1,2,3\n4,5,6\n")
    table = read_table_file(str(tmp_path / "twice.csv"), None)
    np.testing.assert_array_equal(table.x, [[1, 2], [4, 5]])
    with pytest.raises(InputError, match=r"target: .* has 2 columns 'y'"):
        read_table_file(str(tmp_path / "twice.csv"), "y")
    with pytest.raises(InputError, match="target: only a CSV has columns to choose from"):
        read_table_file("diabetes", "bmi")


def test_a_column_of_one_value_stays_small(stored):
    """0.1 has a standard deviation of 1e-17 by rounding."""
    x = np.column_stack([RNG.normal(size=30), np.full(30, 0.1)])
    path = stored(name="other.csv")
    np.savez(path.replace(".csv", ".npz"), x=x, y=np.arange(30.0))
    parts = lj.Regression(source=path.replace(".csv", ".npz")).split().parts
    assert max(np.abs(part.x).max() for part in parts.values()) < 10


def test_an_npz_is_read_as_it_was_written(tmp_path):
    np.savez(tmp_path / "table.npz", x=X, y=CLASSES)
    table = read_table_file(str(tmp_path / "table.npz"), None)
    np.testing.assert_array_equal(table.x, X)
    np.testing.assert_array_equal(table.y, CLASSES)


@pytest.mark.parametrize("name", BUNDLED)
def test_the_sets_of_scikit_learn_need_no_file(name):
    table = read_table_file(name, None)
    assert table.x.shape[0] == len(table.y) > 100
    assert len(table.names) == table.x.shape[1]


BAD_CSV = {
    "a,b\n1,2\nx,3\n": "line 3, column 'a': expected a finite number, got 'x'",
    "a,b\nnan,2\n": "line 2, column 'a': expected a finite number, got 'nan'",
    "a,b\n1_10,2\n": "line 2, column 'a': expected a finite number, got '1_10'",
    "a,b\n١,2\n": "line 2, column 'a': expected a finite number",
    "a,b\ninfinity,2\n": "line 2, column 'a': expected a finite number, got 'infinity'",
    "a,b\n,2\n": "line 2, column 'a': expected a finite number, got ''",
    "a|b\n1|2\n": r"has one column, 'a\|b': expected several, separated by commas, semicolons",
    "a,b\n1,2\n,3\n": "column 'a': expected a finite number, got '' .an empty cell; problem.m",
    "a,b\nx,2\n,3\n": "line 3, column 'a': an empty cell; problem.missing = 'mean' takes the mean",
    "a,b\n" + "".join(f"x{i},1\n" for i in range(101)): "101 different texts, expected at most 100",
    "a,b\n1,2\n\n3,\n": "line 4: the target 'b' is missing",
    "a,b\n1\n": "line 2: 1 fields, expected 2 as in the header",
    "a,b\n": "has 1 lines: expected a header and rows",
    "": "has 0 lines: expected a header and rows",
    'a,b\n"1,2\n': "no CSV",
}


@pytest.mark.parametrize(("text", "message"), BAD_CSV.items())
def test_unusable_csvs_are_refused(tmp_path, text, message):
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_table_file(str(tmp_path / "bad.csv"), None)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_the_separator_is_recognised_and_text_is_a_category(tmp_path, separator):
    rows = [("size", "colour", "kind", "y"), (1.5, "red", "a", 3), (2, "blue", "b", 4)]
    rows += [(0.5, "green", "a", 5)]
    text = "\n".join(separator.join(map(str, row)) for row in rows)
    (tmp_path / "table.csv").write_text(text)
    table = read_table_file(str(tmp_path / "table.csv"), None)
    assert table.names == ("size", "colour=blue", "colour=green", "colour=red", "kind=b")
    expected = [[1.5, 0, 0, 1, 0], [2, 1, 0, 0, 1], [0.5, 0, 1, 0, 0]]
    np.testing.assert_array_equal(table.x, expected)


def test_decimal_commas_are_read_between_semicolons(tmp_path):
    (tmp_path / "table.csv").write_text("a;b\n1,5;-2,25\n2;1e3\n")
    table = read_table_file(str(tmp_path / "table.csv"), None)
    np.testing.assert_array_equal(table.x, [[1.5], [2]])
    np.testing.assert_array_equal(table.y.astype(float), [-2.25, 1000])


def test_missing_values_are_the_mean_of_the_training_part(tmp_path):
    """NaN in arrays and empty cells in files, with the same result."""
    x = RNG.normal(size=(60, 2))
    x[::7, 1] = np.nan
    y = x[:, 0]
    with pytest.raises(InputError, match=r"x\[0, 1\] is not finite"):
        lj.Regression(x, y).load()
    problem = lj.Regression(x, y, missing="mean")
    split = problem.split()
    train = split.rows["training"]
    empty = np.isnan(x[train, 1])
    assert empty.any()
    np.testing.assert_allclose(np.asarray(split.parts["training"].x)[empty, 1], 0, atol=1e-6)
    lines = [f"{a!r},{'' if np.isnan(b) else repr(b)},{a!r}" for a, b in x.tolist()]
    (tmp_path / "table.csv").write_text("\n".join(["a,b,c", *lines]))
    same = lj.Regression(str(tmp_path / "table.csv"), missing="mean")
    np.testing.assert_allclose(same.load().x, problem.load().x, rtol=1e-6)
    gone = np.where(np.isin(np.arange(60), train)[:, None] & [False, True], np.nan, x)
    with pytest.raises(InputError, match="feature column 2 has no value in the training part"):
        lj.Regression(gone, y, missing="mean").load()


def test_a_frame_of_pandas_is_its_csv(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": X[:, 0], "colour": np.where(X[:, 1] > 0, "red", "blue")})
    frame["y"] = NUMBERS
    frame.to_csv(tmp_path / "table.csv", index=False)
    frame.loc[3, "a"] = np.nan
    with pytest.raises(InputError, match="source, row 3, column 'a': expected a finite number"):
        lj.Regression(frame).load()
    frame.loc[3, "a"] = X[3, 0]
    for own, other in ((frame, "table.csv"), (frame[["y", "a", "colour"]], "table.csv")):
        left = lj.Regression(own, "y")
        right = lj.Regression(str(tmp_path / other), "y")
        assert left.in_dim == right.in_dim == 2
        np.testing.assert_array_equal(left.load().x, right.load().x)
    assert lj.Regression(frame) == lj.Regression(frame.copy())
    assert lj.Regression(frame) != lj.Regression(frame.rename(columns={"a": "b"}))
    features = lj.Regression(frame[["a"]], frame["y"])
    assert features.in_dim == 1


def test_an_unknown_target_is_named_with_the_nearest(stored):
    with pytest.raises(InputError, match=r"has no column 'widht'.*width"):
        read_table_file(stored(), "widht")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X}, "holds x: expected arrays x and y"),
        ({"x": X, "y": np.where(NUMBERS > 7, np.nan, 1.0)}, "y has values that are neither text"),
        ({"x": X[:, :0], "y": NUMBERS}, r"has x float64\(50, 0\)"),
        ({"x": X, "y": NUMBERS[1:]}, r"has x float64\(50, 3\) and y \(49,\)"),
        ({"x": np.where(X > 2, np.inf, X), "y": NUMBERS}, r"x\[\d+, \d+\] is not finite"),
    ],
    ids=["alone", "nan", "none", "lengths", "inf"],
)
def test_unusable_npzs_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(InputError, match=message):
        read_table_file(str(tmp_path / "bad.npz"), None)


def test_a_target_far_from_all_of_training_is_refused(stored):
    y = NUMBERS.copy()
    y[lj.Regression(source=stored()).split().rows["test"][0]] = 1e50
    with pytest.raises(InputError, match="targets too large or too far apart to scale"):
        lj.Regression(source=stored(y, "far.csv")).load()


@pytest.mark.parametrize("kind", [lj.Regression, lj.Classification])
@pytest.mark.parametrize("scale", [1e300, 1e-300])
def test_features_whose_variance_overflows_are_refused(tmp_path, kind, scale):
    path = str(tmp_path / "a.npz")
    np.savez(path, x=X * [1, scale, 1], y=NUMBERS if kind is lj.Regression else CLASSES)
    with pytest.raises(InputError, match=r"features too large or .* in column 2: expected") as told:
        kind(source=path).load()
    assert len(str(told.value)) < 300


def test_features_of_1e100_are_scaled(tmp_path):
    np.savez(tmp_path / "a.npz", x=1e100 * X, y=NUMBERS)
    found = lj.Regression(source=str(tmp_path / "a.npz")).load().x
    np.testing.assert_allclose(np.std(found, axis=0), 1, rtol=1e-5)


# The split ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [lj.Regression, lj.Classification])
def test_every_row_is_in_one_part_and_the_parts_are_scaled_by_the_first(stored, kind):
    y = NUMBERS if kind is lj.Regression else CLASSES
    problem = kind(source=stored(y), validation=0.3, test=0.2)
    split = problem.split()
    assert sorted(np.concatenate(list(split.rows.values()))) == list(range(50))
    counts = [len(rows) for rows in split.rows.values()]
    np.testing.assert_allclose(counts, [25, 15, 10], atol=1)
    train = X[split.rows["training"]]
    for name, part in split.parts.items():
        expected = (X[split.rows[name]] - train.mean(axis=0)) / train.std(axis=0)
        np.testing.assert_allclose(part.x, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(problem.load().x, split.parts["training"].x)
    again, other = problem.split(), kind(source=stored(y), split_seed=1).split()
    np.testing.assert_array_equal(split.rows["test"], again.rows["test"])
    assert set(split.rows["test"]) != set(other.rows["test"])


def test_classes_are_divided_alike():
    split = lj.Classification(source="digits").split()
    for part in split.parts.values():
        counts = np.bincount(np.asarray(part.y)[:, 0], minlength=10)
        assert counts.max() - counts.min() <= 0.06 * counts.sum() / 2


def test_targets_are_scaled_by_the_training_part(stored):
    split = lj.Regression(source=stored()).split()
    train = NUMBERS[split.rows["training"]]
    assert (split.centre, split.width) == pytest.approx((train.mean(), train.std()))
    values = np.asarray(split.parts["test"].y)
    np.testing.assert_allclose(
        split.centre + split.width * values[:, 0], NUMBERS[split.rows["test"]], rtol=1e-5
    )


@pytest.mark.parametrize(
    ("kind", "y", "message"),
    [
        (lj.Regression, CLASSES, "is no finite number; for classes take the problem"),
        (lj.Regression, np.full(50, 2.0), "all targets of the training part are 2"),
        (lj.Regression, ["1_0", *NUMBERS[1:]], "row 1: the target '1_0' is no finite number"),
        (lj.Regression, 1e300 * NUMBERS, "targets too large or too far apart to scale"),
        (lj.Regression, 1e-300 * NUMBERS, "targets too large or too far apart to scale"),
        (lj.Classification, NUMBERS, "is the target a number"),
        (lj.Classification, np.full(50, "a"), "has one class only"),
        (lj.Classification, np.where(np.arange(50) == 3, "b", "a"), "class 'b' has 1 rows"),
    ],
    ids=["text", "constant", "underscore", "huge", "tiny", "numbers", "alike", "rare"],
)
def test_targets_of_another_kind_are_refused(stored, kind, y, message):
    with pytest.raises(InputError, match=message):
        kind(source=stored(y)).load()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"test": 0.0}, "test: expected a fraction"),
        ({"validation": 1.0}, "validation: expected a fraction"),
        ({"validation": 0.5, "test": 0.5}, "validation, test: expected less than 1 together"),
        ({"split_seed": -1}, "split_seed: expected an integer >= 0"),
    ],
)
def test_impossible_fields_are_named(fields, message):
    with pytest.raises(InputError, match=message):
        lj.Regression(**fields)


# Loss and scores ----------------------------------------------------------------------------------


def halved(x):
    return np.asarray(x)[..., :1] / 2


def test_errors_are_in_the_unit_of_the_target(stored, key):
    problem = lj.Regression(source=stored())
    split = problem.split()
    scores = problem.evaluate(halved, problem.load())
    for name, score in (("test", "rmse"), ("training", "rmse_training")):
        said = split.centre + split.width * halved(split.parts[name].x)[:, 0]
        expected = root_mean_squared_error(NUMBERS[split.rows[name]], said)
        assert scores[score] == pytest.approx(expected, rel=1e-5)
    loss = float(problem.loss(halved, problem.load(), key)[0])
    assert np.sqrt(loss) * split.width == pytest.approx(scores["rmse_training"], rel=1e-5)
    assert problem.validation_score in scores


def test_accuracy_and_cross_entropy_are_those_of_scikit_learn(stored, key):
    problem = lj.Classification(source=stored(CLASSES))
    assert (problem.in_dim, problem.out_dim) == (3, 2)
    split, field = problem.split(), lambda x: np.asarray(x)[..., :2]
    scores = problem.evaluate(field, problem.load())
    u = np.float64(field(split.parts["test"].x))
    chances = np.exp(u) / np.exp(u).sum(axis=1, keepdims=True)
    true = CLASSES[split.rows["test"]]
    said = np.array(["no", "yes"])[u.argmax(axis=1)]
    assert scores["accuracy"] == pytest.approx(accuracy_score(true, said))
    assert scores["cross_entropy"] == pytest.approx(log_loss(true, chances), rel=1e-6)
    loss = float(problem.loss(field, problem.load(), key)[0])
    assert loss == pytest.approx(scores["cross_entropy_training"], rel=1e-5)


@pytest.mark.parametrize("kind", [lj.Regression, lj.Classification])
def test_predictions_are_written_row_by_row(stored, tmp_path, kind):
    y = NUMBERS if kind is lj.Regression else CLASSES
    problem = kind(source=stored(y))
    field = halved if kind is lj.Regression else lambda x: np.asarray(x)[..., :2]
    with problem.decode(field, None, tmp_path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["row"]) for row in rows] == list(range(50))
    if kind is lj.Regression:
        np.testing.assert_allclose([float(row["target"]) for row in rows], NUMBERS, rtol=1e-5)
    else:
        assert [row["target"] for row in rows] == list(CLASSES)
    right = np.mean([row["target"] == row["prediction"] for row in rows if row["part"] == "test"])
    scores = problem.evaluate(field, None)
    assert kind is lj.Regression or right == pytest.approx(scores["accuracy"])
    with pytest.raises(InputError, match="size: a table has none"):
        problem.decode(field, (3,), tmp_path / "no.csv")


@pytest.mark.parametrize("kind", [lj.Regression, lj.Classification])
def test_a_short_fit_learns_and_what_it_draws_can_be_read(stored, tmp_path, kind):
    y = NUMBERS if kind is lj.Regression else CLASSES
    problem = kind(source=stored(y))
    model = lj.MLP(in_dim=3, out_dim=problem.out_dim, width=16, depth=2)
    found = lj.solve(model, problem, lj.Training(steps=150, learning_rate=1e-2), score_every=2)
    name = problem.validation_score
    assert found.scores[name] < 0.5 * found.evaluations[0][1][name]
    (file,) = problem.render(found.field, problem.load(), tmp_path)
    assert min(read_picture(str(file)).pixels.shape[:2]) > 100


def test_a_figure_of_many_classes_stays_one_screen(tmp_path):
    """Of 400 classes, only shares; of 3, counts."""
    sides = []
    for count in (3, 30, 400):
        names = [f"class {index}" for index in range(count)]
        path = write_confusion(tmp_path / f"{count}.png", np.eye(count, dtype=int), names)
        sides.append(max(read_picture(str(path)).pixels.shape))
    assert sides[0] < sides[1] == sides[2] < 2000


# Stopping by validation ---------------------------------------------------------------------------


STOPPED = lj.Training(
    steps=2000, learning_rate=1e-2, schedule="constant", validate_every=10, patience=3
)


@pytest.fixture
def noisy(stored):
    """A regression that a network of 32 neurons learns by heart."""
    noise = NUMBERS + 30 * np.random.default_rng(3).normal(size=50)
    return lj.Regression(source=stored(noise)), lj.MLP(in_dim=3, out_dim=1, width=32, depth=2)


@pytest.mark.usefixtures("x32")
def test_training_stops_when_validation_does_and_the_best_is_kept(noisy):
    problem, model = noisy
    found = lj.solve(model, problem, STOPPED)
    errors = [scores["rmse_validation"] for _, scores in found.evaluations]
    best = int(np.argmin(errors))
    assert len(errors) == best + 4 < 200
    assert found.scores == found.evaluations[best][1]
    assert problem.evaluate(found.field, None) == found.scores
    assert (
        f"3 validations no better; the parameters are those of step {10 * (best + 1)}"
        in found.stop_reason
    )
    often = lj.solve(model, problem, STOPPED, score_every=4)  # looks that are no validation
    assert often.scores == found.scores
    assert len(often.evaluations) > 2 * len(errors)


def test_a_run_stops_as_solve_does_and_a_resumed_one_to_the_bit(noisy, tmp_path):
    """Interrupted between two validations, and again after the best of them."""
    problem, model = noisy
    whole = Experiment(model=model, problem=problem, training=STOPPED)
    finished = start(whole, tmp_path / "whole")
    found = lj.solve(model, problem, STOPPED)
    assert finished.summary["stop_reason"] == found.stop_reason
    assert finished.summary["scores"] == pytest.approx(found.scores)
    end = finished.summary["step"]
    short = dataclasses.replace(whole, training=dataclasses.replace(STOPPED, steps=17))
    start(short, tmp_path / "parts")
    for steps in (end - 5, 2000):
        folder = RunFolder.open(tmp_path / "parts")
        parts = resume(folder, {"steps": steps})
    assert parts.summary["stop_reason"] == found.stop_reason
    for file in ("model.safetensors", f"checkpoints/{end}.safetensors"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "parts" / file).read_bytes()
    with pytest.raises(InputError, match=f"has ended: after {end} steps: 3 validations no better"):
        resume(RunFolder.open(tmp_path / "parts"), {"steps": 3000})
    longer = resume(RunFolder.open(tmp_path / "parts"), {"patience": 4})
    assert longer.summary["step"] > end


def test_patience_can_be_left_and_taken_up_when_a_run_is_resumed(noisy, tmp_path):
    problem, model = noisy
    plain = dataclasses.replace(STOPPED, steps=15, patience=None)
    experiment = Experiment(model=model, problem=problem, training=plain)
    start(experiment, tmp_path / "run")

    def on(**training):
        return resume(RunFolder.open(tmp_path / "run"), training).summary

    stopped = on(patience=3, steps=2000)
    assert stopped["params_step"] == stopped["step"] - 30 > 15
    with pytest.raises(InputError, match=r"wait for more with --training.patience, or 'none'"):
        on()
    further = on(patience=None, steps=stopped["step"] + 5)
    assert further["step"] == further["params_step"] == stopped["step"] + 5


def test_a_validation_that_is_never_finite_is_told(noisy, monkeypatch):
    problem, model = noisy
    evaluate = lj.Regression.evaluate
    nan = {lj.Regression.validation_score: math.nan}
    monkeypatch.setattr(lj.Regression, "evaluate", lambda *given: evaluate(*given) | nan)
    found = lj.solve(model, problem, STOPPED)
    assert found.stop_reason.startswith(
        "after 30 steps: 3 validations no better; no validation was finite"
    )
    last = lj.solve(model, problem, dataclasses.replace(STOPPED, steps=30, patience=None))
    assert found.scores == last.scores


def test_a_table_is_read_again_once_its_file_has_changed(stored):
    problem = lj.Regression(source=stored())
    first = problem.split()
    assert problem.split() is first
    stored(2 * NUMBERS)
    assert problem.split().width == pytest.approx(2 * first.width)


def test_patience_needs_a_validation_part(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "--training.patience", "3"]) == 2
    assert "patience: Image has no validation part; leave it out" in capsys.readouterr().err
    model = lj.MLP(in_dim=10, out_dim=1)
    with pytest.raises(InputError, match="validate_every: expected at most the 9 steps, got 10"):
        lj.solve(model, lj.Regression(), lj.Training(steps=9, patience=1, validate_every=10))
    for name in ("patience", "validate_every"):
        with pytest.raises(InputError, match=f"{name}: expected an integer >= 1"):
            lj.Training(**{name: 0})
    assert not list(tmp_path.iterdir())
