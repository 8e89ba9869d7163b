"""Settings of the documentation site: sphinx-build -W --keep-going -b html docs site"""

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # the local extensions, and api.py

project = "lrnn_jax"
version = release = installed_version("lrnn-jax")
copyright = "the lrnn-jax contributors"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "site_mathml",
    "site_reference",
]
exclude_patterns = ["README.md"]

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
html_math_renderer = "mathml"

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 90

html_theme = "furo"
html_title = "lrnn_jax"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_show_search_summary = False  # a page of a file system cannot load the text of another
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#1857a4", "color-brand-content": "#1857a4"},
    "dark_css_variables": {"color-brand-primary": "#7fb2f0", "color-brand-content": "#7fb2f0"},
}
pygments_style = "friendly"
pygments_dark_style = "monokai"
copybutton_exclude = ".linenos, .gp, .go"
