"""Sphinx extension: equations become MathML when the site is built.

Browsers typeset MathML themselves, so a page needs neither a network nor a JavaScript library.
"""

import html
import re
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx


def _inline(self: Any, node: nodes.math) -> None:
    self.body.append(convert(node.astext()))
    raise nodes.SkipNode


def _with_limits(latex: str) -> str:
    """Limits of sums and products above and below the sign, as in a displayed equation."""
    return re.sub(r"\\(sum|prod)(?!\\limits)(?![A-Za-z])", r"\\\1\\limits", latex)


def _block(self: Any, node: nodes.math_block) -> None:
    label = node.get("label")
    target = f' id="equation-{html.escape(label)}"' if label else ""
    equation = convert(_with_limits(node.astext()), "block")
    self.body.append(f'<div class="equation"{target}>{equation}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
