"""Write notebooks/*.ipynb from the tutorials: python docs/notebooks.py

The notebooks have no outputs. Their code is that of the pages, which the tests run.
"""

import re
from pathlib import Path
from typing import Any

import jupytext
import nbformat

FOLDER = Path(__file__).parent
TARGET = FOLDER.parent / "notebooks"
PAGES = (
    "tutorial_image",
    "tutorial_sound",
    "tutorial_volume",
    "tutorial_pde",
    "tutorial_coefficients",
    "tutorial_study",
    "tutorial_meta",
    "flax",
    "adding_model",
    "adding_problem",
    "adding_optimizer",
)
INSTALL = """# Install the package where it is missing, for example in Colab.
import importlib.util

if importlib.util.find_spec("lrnn_jax") is None:
    %pip install --quiet "lrnn-jax[audio,tabular]"
"""


def notebook(page: str) -> Any:
    """The notebook of a page: its text and its Python blocks, and how to install the package."""
    text = (FOLDER / f"{page}.md").read_text(encoding="utf-8")
    text = text.replace("<!-- continues -->\n", "")
    text = text.replace("```sh\n", "```console\n")  # jupytext would make it a cell that runs
    text = re.sub(r"\]\((?!https?:)([\w.]+)", r"](../docs/\1", text)  # links to other pages
    book = jupytext.reads(text, fmt="md")
    book.cells.insert(1, nbformat.v4.new_code_cell(INSTALL.strip()))
    for number, cell in enumerate(book.cells):
        cell.id = f"cell-{number}"  # a random one would change with every call
        cell.metadata = {}
    book.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    book.nbformat, book.nbformat_minor = 4, 5
    return book


def written(page: str) -> str:
    """The content of the file of a page."""
    return nbformat.writes(notebook(page)) + "\n"


def main() -> None:
    TARGET.mkdir(exist_ok=True)
    for page in PAGES:
        (TARGET / f"{page}.ipynb").write_text(written(page), encoding="utf-8")


if __name__ == "__main__":
    main()
