"""Reports: statistics, tables, and the page, which is opened in a browser."""

import csv
import io
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lrnn_jax as lj
from lrnn_jax.cli import main
from lrnn_jax.io import write_png
from lrnn_jax.metrics import psnr
from lrnn_jax.reports import csv_text, fits_page, markdown_text, summary_rows, tasks, write_rows
from lrnn_jax.reports.statistics import front
from lrnn_jax.reports.tables import parquet_bytes, read_parquet

RATE, SEED, SOURCE, KIND = "training.learning_rate", "training.seed", "problem.source", "model.kind"
NAMES = [KIND, RATE, SOURCE, SEED]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def fit(kind, rate, source, seed, psnr, **more):
    """A row of a study with 100 steps of 10 ms."""
    settings = {KIND: kind, RATE: rate, SOURCE: source, SEED: seed}
    costs = {"parameters": 100, "flops": 200, "steps": 100, "loss": 0.1, "seconds_alone": 1.0}
    reached = {"steps_to_30": 40 if psnr >= 30 else None}
    curve = {"curve": [[0, 1.0, 5.0], [50, 0.2, psnr + 1], [100, 0.1, psnr]]}
    score = {"main_score": "psnr", "psnr": psnr, "ssim": psnr / 100}
    return settings | score | costs | reached | {"reason": ""} | curve | more


ROWS = [
    fit("lrnn", 1e-3, "a.png", 0, 30.0),
    fit("lrnn", 1e-3, "a.png", 1, 32.0),
    fit("lrnn", 1e-3, "b.png", 0, 20.0),
    fit("lrnn", 1e-3, "b.png", 1, 22.0),
    fit("lrnn", 1e-2, "a.png", 0, 50.0, reason="the loss is not finite"),
    fit("lrnn", 1e-2, "b.png", 0, 50.0),
    fit("siren", 1e-3, "a.png", 0, 25.0, parameters=50),
    {KIND: "siren", RATE: 1e-3, SOURCE: "c.png", SEED: 0, "reason": "cannot read c.png"},
]


def test_spreads_over_sources_and_seeds_are_separate():
    (task,) = tasks(ROWS, NAMES)
    best = next(r for r in summary_rows(task, [30]) if r[RATE] == 1e-3 and r[KIND] == "lrnn")
    assert (best["psnr"], best["fits"], best["failed"]) == (26.0, 4, 0)
    assert best["psnr_std_sources"] == 5.0  # of 31 and 21
    assert best["psnr_std_seeds"] == 1.0  # of 30, 32 and of 20, 22
    assert best["ssim"] == pytest.approx(0.26)
    assert best["psnr_best"] == 27.0  # 1 dB more at step 50
    assert best["reached_30"] == 0.5
    assert best["median_steps_to_30"] == 40
    assert best["median_seconds_to_30"] == pytest.approx(0.4)


def test_an_entry_is_the_best_rate_and_failures_come_before_the_mean():
    (task,) = tasks(ROWS, NAMES)
    entries = {entry.label: entry for entry in task.entries()}
    assert list(entries) == ["lrnn", "siren"]
    assert entries["lrnn"].best.settings[RATE] == 1e-3  # 1e-2 has a mean of 50 dB and a failure
    assert len(entries["lrnn"].trials) == 2
    fine = [row | {"reason": ""} for row in ROWS]
    (task,) = tasks(fine, NAMES)
    assert task.entries()[0].best.settings[RATE] == 1e-2


def test_problems_with_different_scores_are_not_pooled():
    rows = [
        fit("lrnn", 1e-3, "a.png", 0, 30.0) | {"problem.kind": "image"},
        {KIND: "lrnn", "problem.kind": "heat", "main_score": "relative_l2", "relative_l2": 0.1},
    ]
    found = tasks(rows, [KIND, "problem.kind"])
    assert [(task.label, task.score) for task in found] == [
        ("image", "psnr"),
        ("heat", "relative_l2"),
    ]


def test_fits_without_a_main_score_are_compared_by_their_loss():
    rows = [
        {KIND: kind, "main_score": None, "loss": loss, "reason": ""}
        for kind, loss in (("mlp", 0.5), ("siren", 0.25))
    ]
    (task,) = tasks(rows, [KIND])
    assert [(row[KIND], row["loss"]) for row in summary_rows(task)] == [
        ("siren", 0.25),
        ("mlp", 0.5),
    ]
    assert ". loss: siren 0.25; mlp 0.5" in fits_page("study", rows, [KIND]).html()


@pytest.mark.parametrize("higher", [True, False])
def test_on_the_front_nothing_is_both_cheaper_and_better(higher):
    rng = np.random.default_rng(0)
    costs, scores = rng.integers(1, 9, 40).astype(float), rng.integers(1, 9, 40).astype(float)
    scores[3] = math.nan
    found = front(costs, scores, higher)
    value = scores if higher else -scores
    for index in range(40):
        better = (value >= value[index]) & (costs <= costs[index])
        better &= (value > value[index]) | (costs < costs[index])
        assert found[index] == (not better.any() and np.isfinite(scores[index]))


def test_tables_keep_their_values(tmp_path):
    read = list(csv.DictReader(io.StringIO(csv_text(ROWS))))
    assert [float(row["psnr"]) for row in read[:-1]] == [row["psnr"] for row in ROWS[:-1]]
    assert json.loads(read[0]["curve"]) == ROWS[0]["curve"] and read[-1]["psnr"] == ""
    lines = markdown_text([{"a|b": 1.23456, "c": None}]).splitlines()
    assert lines == ["| a\\|b | c |", "| --- | --- |", "| 1.235 |  |"]
    mixed = [*ROWS, {"a": [1, 2], "b": None}, {"a": "x"}, {"a": 5, "b": 1.5}, {"c": math.inf}]
    expected = [*mixed[:-1], {"c": None}]
    assert read_parquet(parquet_bytes(mixed)) == expected
    written = write_rows(ROWS, tmp_path / "rows.jsonl").read_text()
    assert [json.loads(line) for line in written.splitlines()] == ROWS
    with pytest.raises(lj.InputError, match=r"expected a name that ends in \.csv or"):
        write_rows(ROWS, tmp_path / "rows.xlsx")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Two models, two rates, two images, two seeds; one image is unreadable."""
    folder = tmp_path_factory.mktemp("study")
    rng = np.random.default_rng(0)
    for name in "ab":
        write_png(folder / f"{name}.png", rng.random((12, 10, 1)))
    (folder / "c.png").write_bytes(b"no image")
    spec = lj.Study(
        problem={"kind": "image"},
        training={"steps": 30, "precision": "float64"},
        grid={
            KIND: ["lrnn", "siren"],
            RATE: [1e-3, 3e-3, 1e-2],
            SOURCE: str(folder / "*.png"),
            SEED: [0, 1],
        },
        budget=300,
        targets=[12.0, 99.0],
        rows="parquet",
    )
    return lj.study(spec, folder / "study")


def test_a_study_is_loaded_with_its_fields(study):
    loaded = lj.load_study(study.folder)
    assert loaded.rows == study.rows and len(loaded.rows) == 36
    row = loaded.rows[5]
    problem: Any = loaded.experiment(5).problem
    assert str(problem.source).endswith("a.png") and loaded.experiment(5).training.seed == row[SEED]
    with lj.fields.precision_of(loaded.field(5)):
        values = problem.section(loaded.field(5))
    assert psnr(values.value, values.truth) == pytest.approx(row["psnr"], rel=1e-9)
    with pytest.raises(lj.InputError, match="has no finished member 99"):
        loaded.field(99)


def test_the_command_writes_the_page_and_the_tables(study, capsys, tmp_path):
    words = ["report", str(study.folder), "--out", str(tmp_path / "page.html")]
    words += ["--rows", str(tmp_path / "rows.csv"), "--summary", str(tmp_path / "summary.md")]
    assert main(words) == 0
    assert capsys.readouterr().out.split() == [
        str(tmp_path / name) for name in ("rows.csv", "summary.md", "page.html")
    ]
    rows = list(csv.DictReader(io.StringIO((tmp_path / "rows.csv").read_text())))
    assert len(rows) == 36 and "curve" not in rows[0]
    assert len((tmp_path / "summary.md").read_text().splitlines()) == 2 + 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["report", "nowhere"], "nowhere is not the folder of a study: it has no study.toml"),
        (["report", "{study}", "--rows", "a.xls"], "a.xls: expected a name that ends in .csv"),
        (["report", "{study}", "--out", "no/such/page.html"], "cannot write no/such/page.html"),
        (["report"], "the following arguments are required: STUDY"),
    ],
)
def test_one_line_says_what_is_wrong(words, message, study, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([word.format(study=study.folder) for word in words]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_study_without_blocks_has_no_report(tmp_path):
    from lrnn_jax.studies import StudyFolder

    StudyFolder(tmp_path / "new").prepare(lj.Study(problem={"kind": "image"}))
    with pytest.raises(lj.InputError, match="has no finished block: nothing to report"):
        lj.load_study(tmp_path / "new").report()


# The page -----------------------------------------------------------------------------------------


def test_the_page_needs_no_other_file_and_names_everything(study, tmp_path):
    page = study.report(tmp_path / "page.html").read_text()
    assert not re.search(r"(?:src|href)=[\"'](?!data:|#)", page)
    assert not re.search(r"url\((?!#)|@import|fetch\(", page)
    names = re.findall(r' id="([^"]+)"', page)
    assert len(names) == len(set(names))
    assert page.count('<svg role="img" aria-label="') == page.count("class='plot'") >= 6
    assert page.count("<details>") == page.count("class='plot'")  # each figure has its numbers
    assert page.count("<img") == page.count('alt="') == 2 * 2 * 3  # signals, series, three images
    for text in ("Sensitivity to the learning rate", "No fit reached PSNR 99 dB", "Failed fits"):
        assert text in page
    assert "cannot read" in page and "12 failed" in page


def test_a_moved_image_leaves_the_rest_of_the_page(study, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(study.folder, moved)
    loaded = lj.load_study(moved)
    for row in loaded.rows:
        row[SOURCE] = row[SOURCE].replace("a.png", "gone.png")
    page = loaded.report(tmp_path / "page.html").read_text()
    assert re.search("gone: no pictures: cannot read .*gone.png", page)
    assert page.count("<img") == 2 * 3 and "Success" in page and "Learned functions" in page
    with pytest.raises(lj.InputError, match=r"cannot read .*gone\.png"):
        loaded.experiment(5)
    assert loaded.field(5).model.rank  # needs no data


@pytest.fixture(scope="module")
def browser():
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip("there is no Chromium")
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


def test_the_page_is_opened_clicked_and_photographed(study, tmp_path, browser):
    path = study.report(tmp_path / "page.html")
    shots = {}
    for scheme in ("light", "dark"):
        tab = browser.new_page(viewport={"width": 1200, "height": 900}, color_scheme=scheme)
        errors, requests = [], []
        tab.on("pageerror", lambda error, errors=errors: errors.append(str(error)))
        tab.on("request", lambda request, requests=requests: requests.append(request.url))
        tab.goto(path.as_uri())
        shots[scheme] = tab.screenshot(path=tmp_path / f"{scheme}.png")
        assert errors == [] and not [url for url in requests if url.startswith("http")]
    assert shots["light"] != shots["dark"]
    # A series is hidden and shown, with the keyboard.
    line, display = tab.locator("svg .series-0").first, "part => getComputedStyle(part).display"
    tab.locator('[data-series="0"]').focus()
    shown = [line.evaluate(display)]
    for _ in range(2):
        tab.keyboard.press("Space")
        shown.append(line.evaluate(display))
    assert shown == ["inline", "none", "inline"]
    # A heading sorts the table, downwards first.
    button = tab.get_by_role("button", name="PSNR (dB)").first
    button.click()
    column = button.evaluate("button => button.parentElement.cellIndex")
    cells = tab.locator("table", has=button).first.locator(f"tbody td:nth-child({column + 1})")
    values = [float(text) for text in cells.all_text_contents()]
    assert values == sorted(values, reverse=True) and len(values) == 6
    # The slider uncovers the truth.
    fit_image = tab.locator(".stack .fit").first
    before = fit_image.evaluate("image => getComputedStyle(image).clipPath")
    tab.locator(".pictures input").first.focus()
    tab.keyboard.press("Home")
    after = fit_image.evaluate("image => getComputedStyle(image).clipPath")
    assert before != after and "0%" in after
    # The numbers of a figure are a file.
    tab.locator("summary").first.click()
    with tab.expect_download() as download:
        tab.locator("details a").first.click()
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text())))
    assert {row["series"] for row in rows} == {"lrnn", "siren"}
    tab.close()
