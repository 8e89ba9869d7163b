"""Prints docs/api.md: every public name once, with the first sentence of its docstring.

python docs/api.py > docs/api.md
"""

import ast
import importlib
import inspect
import itertools
from pathlib import Path
from typing import Any

import lrnn_jax

PACKAGES = (
    "lrnn_jax",
    "lrnn_jax.models",
    "lrnn_jax.operators",
    "lrnn_jax.pde",
    "lrnn_jax.inverse",
    "lrnn_jax.signals",
    "lrnn_jax.tabular",
    "lrnn_jax.training",
    "lrnn_jax.optimizers",
    "lrnn_jax.diagnostics",
    "lrnn_jax.domains",
    "lrnn_jax.metrics",
    "lrnn_jax.plot",
    "lrnn_jax.flax",
    "lrnn_jax.interop",
    "lrnn_jax.experiments",
    "lrnn_jax.studies",
    "lrnn_jax.reports",
    "lrnn_jax.io",
    "lrnn_jax.typing",
)
HEAD = """# Public names

Each name is listed once, under the shortest path that it can be imported from. `python docs/api.py`
prints this page.
"""


def public_names() -> dict[str, dict[str, Any]]:
    """The public objects of each package; what an earlier package has is left out."""
    seen: set[tuple[str, int]] = set()
    listed: dict[str, dict[str, Any]] = {}
    for path in PACKAGES:
        package = importlib.import_module(path)
        things = {name: getattr(package, name) for name in sorted(package.__all__)}
        new = {
            n: t for n, t in things.items() if (n, id(t)) not in seen and not inspect.ismodule(t)
        }
        seen |= {(name, id(thing)) for name, thing in new.items()}
        listed[path] = new
    return listed


def documented_assignments() -> dict[str, str]:
    """The string below each assignment of a module: the docstrings of aliases and constants."""
    texts = {}
    for path in Path(lrnn_jax.__file__).parent.rglob("*.py"):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        for node, below in itertools.pairwise(body):
            if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(below, ast.Expr):
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                if isinstance(target, ast.Name) and isinstance(below.value, ast.Constant):
                    texts[target.id] = str(below.value.value)
    return texts


ASSIGNMENTS = documented_assignments()


def first_sentence(name: str, thing: Any) -> str:
    """The first paragraph of the documentation on one line; else the value of a constant."""
    ours = inspect.isclass(thing) or inspect.isfunction(thing)
    text = ASSIGNMENTS.get(name) or (inspect.getdoc(thing) or "" if ours else f"`{thing!r}`")
    paragraph = inspect.cleandoc(text).split("\n\n")[0]
    return " ".join(paragraph.split()).replace("|", "\\|")


def page() -> str:
    """The page as Markdown."""
    lines = [HEAD]
    for path, things in public_names().items():
        if things:
            lines += [f"## `{path}`", "", "| name | what |", "| --- | --- |"]
            lines += [
                f"| `{name}` | {first_sentence(name, thing)} |" for name, thing in things.items()
            ]
            lines += [""]
    return "\n".join(lines)


if __name__ == "__main__":
    print(page(), end="")
