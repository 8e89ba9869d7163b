"""The documentation site and the notebooks: what the build itself does not check."""

import importlib
import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
LARGEST = 150_000  # bytes of a picture


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A script of docs/, imported."""
    monkeypatch.syspath_prepend(DOCS)
    spec = importlib.util.spec_from_file_location(f"of_docs_{name}", DOCS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_notebooks_are_those_of_the_tutorials(monkeypatch):
    """If this fails: python docs/notebooks.py"""
    notebooks = script("notebooks", monkeypatch)
    files = {path.stem: path.read_text() for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert files.keys() == set(notebooks.PAGES)
    for page, text in files.items():
        assert text == notebooks.written(page), page


def test_the_notebooks_are_valid_and_have_no_outputs(monkeypatch):
    for page in script("notebooks", monkeypatch).PAGES:
        book = nbformat.read(ROOT / "notebooks" / f"{page}.ipynb", as_version=4)
        nbformat.validate(book)
        cells = [cell for cell in book.cells if cell.cell_type == "code"]
        assert all(not cell.outputs and cell.execution_count is None for cell in cells)
        fences = re.findall(r"```python\n", (DOCS / f"{page}.md").read_text())
        assert len(cells) == len(fences) + 1
        for cell in cells:
            compile(re.sub(r"%pip .*", "pass", cell.source), page, "exec")


def test_links_between_the_notebooks_and_the_pages_exist():
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        for target in re.findall(r"\]\((\.\./[\w./]+)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_every_page_is_in_the_contents_once():
    text = (DOCS / "index.md").read_text()
    trees = re.findall(r"```\{toctree\}\n(.*?)```", text, re.DOTALL)
    lines = [line for tree in trees for line in tree.splitlines() if line and line[0] != ":"]
    listed = [re.sub(r".*<(.*)>", r"\1", line) for line in lines]
    assert sorted(listed) == sorted(page.stem for page in PAGES if page.stem != "index")


def test_pictures_are_used_and_small():
    texts = "".join(page.read_text() for page in (*PAGES, ROOT / "README.md"))
    pictures = [path for path in (DOCS / "images").iterdir() if path.suffix != ".json"]
    for path in pictures:
        assert f"images/{path.name}" in texts, f"{path.name} is on no page"
        assert path.stat().st_size < LARGEST, path.name
    assert sum(path.stat().st_size for path in pictures if "gallery" in path.name) < 1e6


def test_the_gallery_has_every_kind_of_signal_and_says_what_was_measured(monkeypatch):
    gallery = script("gallery", monkeypatch)
    results = json.loads(gallery.RESULTS.read_text())
    assert (DOCS / "gallery.md").read_text() == gallery.page(results)
    assert len(gallery.EQUATIONS) >= 4
    from lrnn_jax.experiments import PROBLEMS
    from lrnn_jax.pde import PDE

    kinds = {name for name, kind in PROBLEMS.items() if not issubclass(kind, PDE)}
    assert kinds <= results.keys()


def test_the_table_of_models_is_that_of_the_results(monkeypatch):
    """If this fails: python docs/choosing.py"""
    choosing = script("choosing", monkeypatch)
    table = choosing.table(json.loads(choosing.RESULTS.read_text()))
    text = (DOCS / "choosing.md").read_text()
    assert text.split("<!-- choosing -->\n")[1].split("\n<!-- /choosing -->")[0] == table


def test_the_tables_of_reliability_are_those_of_the_results(monkeypatch):
    """If this fails: python docs/reliability.py"""
    reliability = script("reliability", monkeypatch)
    text = reliability.PAGE.read_text()
    assert reliability.page(text) == text


@pytest.mark.parametrize("name", ["lrnn", "nestnet", "reach"])
def test_a_diagram_has_a_light_and_a_dark_form(name):
    light, dark = ((DOCS / "images" / f"{name}-{theme}.svg") for theme in ("light", "dark"))
    assert light.read_text() != dark.read_text()


def test_no_page_needs_a_network():
    """Neither a font, nor a script, nor a picture of another host."""
    for page in PAGES:
        assert not re.search(r"!\[[^]]*\]\(https?:|<script|<link", page.read_text()), page.name
    assert "https:" not in (DOCS / "_static" / "site.css").read_text()


REFERENCE_CASES = {
    "Fit `LRNN` to x_.": "Fit :py:obj:`LRNN <lrnn_jax.LRNN>` to x\\_.",
    "`y = f(x)`, |z|": "``y = f(x)``, \\|z\\|",
    "* one *n": "* one \\*n",
}


@pytest.mark.parametrize("line", REFERENCE_CASES)
def test_docstrings_become_restructured_text(line, monkeypatch):
    pytest.importorskip("sphinx")
    reference = script("site_reference", monkeypatch)
    assert reference.restructured([line]) == [REFERENCE_CASES[line]]


def test_an_indented_equation_becomes_a_literal_block(monkeypatch):
    pytest.importorskip("sphinx")
    reference = script("site_reference", monkeypatch)
    lines = ["A law.", "", "    y = |x|", "", "Args:", "  x: a *number*."]
    found = reference.restructured(lines)
    block = [".. code-block:: text", "", "    y = |x|", ""]
    assert found == ["A law.", "", *block, "Args:", "  x: a \\*number\\*."]


def test_an_equation_that_cannot_be_typeset_is_a_warning(monkeypatch):
    nodes = pytest.importorskip("docutils.nodes")
    pytest.importorskip("latex2mathml")
    mathml = script("site_mathml", monkeypatch)
    warnings = []
    monkeypatch.setattr(mathml.LOGGER, "warning", lambda *words: warnings.append(words))
    good = mathml.mathml(nodes.math_block(text=r"\sum_j x_j"), "block")
    assert 'display="block"' in good and "<munder>" in good and not warnings
    mathml.mathml(nodes.math_block(text=r"\begin{aligned} a &= b \end{aligned}"), "block")
    assert len(warnings) == 1
