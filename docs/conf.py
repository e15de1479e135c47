"""How Sphinx builds the documentation. Settings only."""

project = "trio_chat"
author = "The trio_chat authors"
project_copyright = "The trio_chat authors"

extensions = ["myst_parser"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "trio_chat"
