"""Settings of Sphinx, which builds the documentation."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "trio_chat"
author = "The trio_chat authors"
project_copyright = "The trio_chat authors"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "facts", "mentions", "terminals"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "trio_chat"
html_static_path = ["_static"]
html_css_files = ["terminal.css"]
html_show_sourcelink = False

default_role = "mention"
add_module_names = False
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 90
python_use_unqualified_type_names = True

nitpicky = True
nitpick_ignore_regex = [
    # Links into the documentation of Python and trio would need the network at build time.
    ("py:.*", r"(trio|collections|typing|pathlib|enum|contextlib)\..*"),
    ("py:.*", r"(str|int|float|bool|bytes|object|dict|set|list|tuple|Exception|None)"),
    # Not for users: the network that tests replace, how a transaction runs, and the classes of the two stores.
    ("py:class", r"trio_chat\.(transport\.\w+\.Network|storage\..*\.(Runner|Sqlite\w+Store))"),
]
