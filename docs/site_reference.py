"""Sphinx extension: the pages of the reference, made from the docstrings of all public names.

`api.py` knows the names. For each package this writes `reference/PACKAGE.md`, which autodoc fills;
the names in the tables of `api.md` become links to these pages.
"""

import dataclasses
import functools
import inspect
import re
from pathlib import Path
from typing import Any

import api
from sphinx.application import Sphinx
from sphinx.util.inspect import stringify_signature

HEADER = re.compile(
    r"^(Args|Arguments|Attributes|Example|Examples|Raises|References|Returns|Yields|Note):"
)
PATHS = {
    name: f"{package}.{name}" for package, things in api.public_names().items() for name in things
}
BULLET = re.compile(r"\s*([*-]|\d+\.|>>>) ")


def entry(package: str, name: str, thing: Any) -> str:
    """The directive of a public name."""
    path = f"{package}.{name}"
    if inspect.isclass(thing):
        return f".. autoclass:: {path}\n"
    if inspect.isfunction(thing):
        return f".. autofunction:: {path}\n"
    text = inspect.cleandoc(api.ASSIGNMENTS.get(name) or f"``{thing!r}``")
    lines = [f"   {line}".rstrip() for line in restructured(text.splitlines())]
    return "\n".join([f".. py:data:: {path}", "", *lines, ""])


def page(package: str, things: dict[str, Any]) -> str:
    """The page of a package: its docstring, then every name."""
    entries = [entry(package, name, thing) for name, thing in things.items()]
    module = f".. automodule:: {package}\n   :no-members:\n"
    return "\n".join([f"# {package}", "", "```{eval-rst}", module, *entries, "```", ""])


def write_pages(app: Sphinx) -> None:
    folder = Path(app.srcdir) / "reference"
    folder.mkdir(exist_ok=True)
    for package, things in api.public_names().items():
        path, text = folder / f"{package}.md", page(package, things)
        if things and (not path.exists() or path.read_text(encoding="utf-8") != text):
            path.write_text(text, encoding="utf-8")


def link_names(app: Sphinx, docname: str, source: list[str]) -> None:
    """In `api.md`: each name is a link, and each page of the reference a part of the contents."""
    if docname != "api":
        return
    lines, package = [], ""
    for line in source[0].splitlines():
        heading = re.fullmatch(r"## `(.+)`", line)
        row = re.fullmatch(r"\| `(\w+)` \| (.*)", line)
        if heading:
            package = heading[1]
            line = f"## [`{package}`](reference/{package}.md)"
        elif row:
            line = f"| {{py:obj}}`{row[1]} <{package}.{row[1]}>` | {row[2]}"
        lines.append(line)
    pages = [f"reference/{package}" for package, things in api.public_names().items() if things]
    source[0] = "\n".join([*lines, "", "```{toctree}", ":hidden:", "", *pages, "```", ""])


def restructured(lines: list[str]) -> list[str]:
    """A docstring as reStructuredText: the package's docstrings are plain text with backticks.

    Code that is no name becomes literal, characters that are markup are escaped, and an indented
    paragraph, which is an equation, becomes a literal block.
    """
    result: list[str] = []
    text: list[str] = []  # lines of text that are not yet escaped
    literal = 0  # the indent of the literal block that is open
    in_section = False
    above = ""  # the last line that is not empty
    for number, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if not line.strip():
            text.append(line)
            continue
        literal = literal if indent >= literal else 0
        if indent == 0:
            in_section = HEADER.match(line) is not None
        above_indent = len(above) - len(above.lstrip())
        starts = number > 0 and not lines[number - 1].strip() and not BULLET.match(line)
        if indent > above_indent and starts and not in_section and not literal:
            text += [f"{' ' * above_indent}.. code-block:: text", ""]
            literal = indent
        if literal or line.lstrip().startswith((">>>", "...")):
            result += [*_escaped(text), line]
            text = []
        else:
            text.append(line)
        above = line
    return result + _escaped(text)


def _escaped(lines: list[str]) -> list[str]:
    """Lines of text: a public name in backticks becomes a link, other code literal."""
    parts = re.split(r"(``.*?``|`[^`]*`)", "\n".join(lines), flags=re.DOTALL)
    for index, part in enumerate(parts):
        if part.startswith("`"):
            code = " ".join(part.strip("`").split())
            path = PATHS.get(code.removesuffix("()").removeprefix("lrnn_jax.").split(".")[-1])
            # A lower-case word is more often an argument than the function of that name.
            known = path and path.endswith(code.removesuffix("()")) and re.search("[A-Z.]", code)
            parts[index] = f":py:obj:`{code} <{path}>`" if known else f"``{code}``"
        else:
            part = part.replace("\\", "\\\\")
            parts[index] = re.sub(
                r"([|])|(?<!^)(?<!\n)(\*)(?! )|(?<=\w)(_)(?!\w)", r"\\\g<0>", part
            )
    return "".join(parts).split("\n") if lines else []


def process(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    lines[:] = restructured(lines)
    if what in ("attribute", "data", "property") and lines:
        # Napoleon takes what stands before a colon for the type of the attribute.
        lines[0] = lines[0].replace(": ", " – ")


def signature(
    app: Any, what: str, name: str, thing: Any, options: Any, arguments: str | None, result: Any
) -> tuple[str | None, Any]:
    """The fields of a dataclass as its arguments, and short names of types."""
    del app, name, options
    if (
        what == "class"
        and dataclasses.is_dataclass(thing)
        and thing.__init__ is not object.__init__
    ):
        parameters = list(inspect.signature(thing.__init__).parameters.values())[1:]
        shown = [p.replace(annotation=p.empty) for p in parameters]
        arguments = stringify_signature(inspect.Signature(shown), show_return_annotation=False)
    elif what == "class" and arguments == "(*arguments: Any, **named: Any)":
        arguments = ""  # of a base class that only checks the names
    short = functools.partial(re.sub, r"\b(?:jaxlib\._jax|jax\._src\.\w+|jaxtyping)\.", "")
    return (short(arguments) if arguments else arguments), (short(result) if result else result)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("builder-inited", write_pages)
    app.connect("source-read", link_names)
    app.connect("autodoc-process-signature", signature)
    app.connect("autodoc-process-docstring", process, priority=400)  # before napoleon's 500
    return {"version": "1", "parallel_read_safe": True}
