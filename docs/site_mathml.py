"""Sphinx extension: equations become MathML when the site is built.

Browsers typeset MathML themselves, so a page needs neither a network nor a JavaScript library.
"""

import html
import re
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging

LOGGER = logging.getLogger(__name__)
# What latex2mathml leaves of a command or an environment that it does not know.
UNKNOWN = re.compile(r"<m(?:i|text)>(?:&(?:amp;)?|\\\w+)</m(?:i|text)>")


def mathml(node: nodes.Element, display: str) -> str:
    """The MathML of a node; a warning, which is an error of the build, if a part is unknown."""
    latex = node.astext()
    if display == "block":  # limits above and below the sign
        latex = re.sub(r"\\(sum|prod)(?!\\limits)(?![A-Za-z])", r"\\\1\\limits", latex)
    result = convert(latex, display=display)
    if UNKNOWN.search(result):
        LOGGER.warning("latex2mathml does not know a part of this equation: %s", latex)
    return result


def _inline(self: Any, node: nodes.math) -> None:
    self.body.append(mathml(node, "inline"))
    raise nodes.SkipNode


def _block(self: Any, node: nodes.math_block) -> None:
    label = node.get("label")
    target = f' id="equation-{html.escape(label)}"' if label else ""
    self.body.append(f'<div class="equation"{target}>{mathml(node, "block")}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
