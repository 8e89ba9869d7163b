"""Every Python block of the README and the docs runs as it stands, and docstring examples hold."""

import doctest
import importlib.util
import pkgutil
import re
from pathlib import Path

import pytest

import lrnn_jax
from lrnn_jax.cli import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [
    pytest.param(code, id=f"{page.name}-{number}")
    for page in PAGES
    for number, code in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
]
SHELL = "".join(
    re.findall(r"```(?:sh|bash)\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
)
MODULES = [m.name for m in pkgutil.walk_packages(lrnn_jax.__path__, "lrnn_jax.")] + ["lrnn_jax"]


@pytest.mark.parametrize("code", BLOCKS)
def test_python_blocks_run(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README", "exec"), {})


def test_there_are_blocks():
    assert len(BLOCKS) >= 1


@pytest.mark.parametrize("line", [n for n in SHELL.splitlines() if n.startswith("lrnn-jax ")])
def test_commands_of_the_readme_exist(line, capsys):
    """Each command's verb and options are known; the fits themselves are tested elsewhere."""
    words = line.split("#")[0].split()[1:]
    with pytest.raises(SystemExit) as stop:
        main([*words, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for option in (word for word in words if word.startswith("--")):
        assert option in text, f"{option} is not in the help"


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
    "operators": ("operators", "table", "performance.md"),
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
    table = text.split(f"<!-- {name} -->\n")[1].split(f"\n<!-- /{name} -->")[0]
    assert table == getattr(benchmark, function)(benchmark.RESULTS.read())
