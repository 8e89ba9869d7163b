"""Prints docs/api.md: every public name once, with the first sentence of its docstring.

python docs/api.py > docs/api.md
"""

import importlib
import inspect
from typing import Any

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
    "lrnn_jax.plotting",
    "lrnn_jax.flax",
    "lrnn_jax.experiments",
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


def first_sentence(thing: Any) -> str:
    """The first paragraph of a docstring on one line; the value of a constant."""
    if not (inspect.isclass(thing) or callable(thing)):
        text = repr(thing)
        return f"`{text}`" if len(text) <= 60 else f"a {type(thing).__name__}"
    paragraph = inspect.cleandoc(inspect.getdoc(thing) or "").split("\n\n")[0]
    return " ".join(paragraph.split()).replace("|", "\\|")


def page() -> str:
    """The page as Markdown."""
    lines = [HEAD]
    for path, things in public_names().items():
        if things:
            lines += [f"## `{path}`", "", "| name | what |", "| --- | --- |"]
            lines += [f"| `{name}` | {first_sentence(thing)} |" for name, thing in things.items()]
            lines += [""]
    return "\n".join(lines)


if __name__ == "__main__":
    print(page(), end="")
