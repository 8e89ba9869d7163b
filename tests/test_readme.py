"""Every Python block of the README and the docs runs as it stands, and docstring examples hold."""

import doctest
import importlib.util
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest
import trimesh

import lrnn_jax
from lrnn_jax.cli import main
from lrnn_jax.experiments.options import dotted_options
from lrnn_jax.experiments.trackers import require_trackers
from lrnn_jax.io import Sound, write_png, write_wav
from lrnn_jax.training import check_compatible

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def python_blocks(text: str) -> list[str]:
    """The Python blocks of a page; one behind `<!-- continues -->` is a part of the one before it.

    Such a block uses the names of the block before it, like the cells of a notebook.
    """
    blocks: list[str] = []
    found = re.findall(r"(<!-- continues -->\n)?```python\n(.*?)```", text, re.DOTALL)
    for continues, code in found:
        blocks.append(blocks.pop() + code if continues else code)
    return blocks


BLOCKS = [
    pytest.param(code, id=f"{page.name}-{number}")
    for page in PAGES
    for number, code in enumerate(python_blocks(page.read_text()))
]
SHELL = "".join(
    part
    for page in PAGES
    for part in re.findall(r"```(?:sh|bash)\n(.*?)```", page.read_text(), re.DOTALL)
)
COMMANDS = sorted({line.split("#")[0].strip() for line in SHELL.splitlines()})
MODULES = [m.name for m in pkgutil.walk_packages(lrnn_jax.__path__, "lrnn_jax.")] + ["lrnn_jax"]


# Packages that are not installed on every platform, or with every release of JAX.
OPTIONAL = ("grain", "onnxruntime")

# What the text says of the result of a block, or lets expect.
QUALITY = {
    "adding_model.md-0": "result.scores['psnr'] > 29",
    "adding_optimizer.md-0": "losses[-1] < losses[0] / 100",
    "adding_problem.md-0": "with_slopes < 0.02 and without > 10 * with_slopes",
    "README.md-0": "result.scores['psnr'] > 30 and not result.warnings",
    "experiments.md-0": "outcome.status == 'finished'",
    "experiments.md-1": "min(row['psnr'] for row in comparison.rows) > 20",
    "faq.md-1": "max(scores, key=scores.get) == 30.0",
    # Where the float32 fit ends depends on the rounding of the processor.
    "faq.md-5": "results['float64'].losses[-1] < results['float32'].losses[-1] / 10",
    "faq.md-6": "len(result.warnings) == 2",
    "performance.md-1": "len(losses) == 100 and losses[-1] < 0.1",
    "performance.md-3": "int(state.step) == 20",
    "pde.md-0": "found.scores['relative_l2'] < 1e-3 and not found.warnings",
    "signals.md-0": "found.scores['psnr'] > found.scores['psnr_given'] + 10",
    "signals.md-1": "found.scores['accuracy'] > 0.9",
    "tutorial_image.md-0": "result.scores['psnr_held_out'] > 24 and not result.warnings",
    "tutorial_image.md-1": "lj.metrics.psnr(model.apply(params, x), y, peak=2) > 25",
    "tutorial_pde.md-0": "error < 5e-4",
    "tutorial_pde.md-1": "float(jnp.sqrt(jnp.mean(rest**2))) < 0.05",
    "tutorial_sound.md-0": "result.scores['snr'] > 24 > narrow.scores['snr'] + 3",
    "signals.md-3": "result.scores['relative_l2'] < 0.05 and result.scores['rmse_held_out'] < 0.02",
}


@pytest.mark.parametrize("code", BLOCKS)
def test_python_blocks_run_and_are_as_good_as_the_text_says(code, request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for module in re.findall(rf"^import ({'|'.join(OPTIONAL)})$", code, re.MULTILINE):
        pytest.importorskip(module)
    names = {}
    exec(compile(code, "README", "exec"), names)
    assert eval(QUALITY.get(request.node.callspec.id, "True"), names)


def test_every_statement_of_quality_is_about_a_block():
    assert set(QUALITY) <= {block.id for block in BLOCKS}


def test_there_are_blocks():
    assert len(BLOCKS) >= 1


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("lrnn-jax ")])
def test_commands_of_the_pages_exist(line, capsys):
    """Each command's verb and options are known; the fits themselves are tested elsewhere."""
    words = line.split()[1:]
    with pytest.raises(SystemExit) as stop:
        main(words if "--help" in words else [*words, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for option in (word for word in words if word.startswith("--") and word != "--help"):
        known = option[2:] in dotted_options() or option in text
        assert known, f"{option} is not in the help"


class StartedError(Exception):
    """A fit would start."""


@pytest.mark.parametrize(
    "line",
    [
        line
        for line in COMMANDS
        if line.startswith("lrnn-jax fit")
        and not re.search("resume|compilation|mine.toml|--help", line)
    ],
)
def test_fits_of_the_pages_are_valid_experiments(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).random((40, 50, 3))
    tone = np.sin(np.arange(30_000) / 10)[:, None]
    for name in ("photo.png", "slice.png"):
        write_png(Path(name), pixels)
    for name in ("sound.wav", "my.wav"):
        write_wav(Path(name), Sound(tone, 8000, "PCM_16"))
    Path("table.csv").write_text("area,price\n" + "".join(f"{i},{i**0.5}\n" for i in range(50)))
    Path("iris.csv").write_text(
        "width,species\n" + "".join(f"{i},{'ab'[i % 2]}\n" for i in range(50))
    )
    np.save("volume.npy", pixels[:30].reshape(30, 30, 5))
    for name in ("statue.ply", "part.stl"):
        trimesh.creation.icosphere().export(name)

    def start(experiment, *_, track, render):
        require_trackers(track)
        check_compatible(experiment.model, experiment.problem, experiment.training)
        raise StartedError

    monkeypatch.setattr("lrnn_jax.cli.start", start)
    with pytest.raises(StartedError):
        main(line.split()[1:])


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    module = importlib.import_module(name)
    found = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.failed == 0


@pytest.mark.parametrize("name", MODULES)
def test_public_names_are_documented(name):
    module = importlib.import_module(name)
    assert module.__doc__
    for public in getattr(module, "__all__", ()):
        thing = getattr(module, public)
        if callable(thing) and getattr(thing, "__module__", "").startswith("lrnn_jax"):
            assert thing.__doc__, f"{name}.{public} has no docstring"


TABLES = {
    "zoo": ("zoo", "table", "zoo.md"),
    "speed": ("speed", "table", "performance.md"),
    "scaling": ("scaling", "table", "performance.md"),
    "precision": ("image_study", "precision_table", "performance.md"),
    "pinn": ("pinn", "table", "pde.md"),
    "signals": ("signals", "table", "signals.md"),
    "between": ("between", "table", "signals.md"),
    "operators": ("operators", "table", "performance.md"),
    "recipes": ("recipes", "table", "recipes.md"),
}


@pytest.mark.parametrize("name", TABLES)
def test_the_tables_of_the_docs_are_those_of_the_results(name, monkeypatch):
    """Between the marks is what `python benchmarks/... table` prints."""
    file, function, page = TABLES[name]
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    spec = importlib.util.spec_from_file_location(f"of_{file}", ROOT / "benchmarks" / f"{file}.py")
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    text = (ROOT / "docs" / page).read_text()
    if f"<!-- {name} -->" not in text:  # the whole page
        assert text == getattr(benchmark, function)(benchmark.RESULTS.read()) + "\n"
        return
    table = text.split(f"<!-- {name} -->\n")[1].split(f"\n<!-- /{name} -->")[0]
    assert table == getattr(benchmark, function)(benchmark.RESULTS.read())
