"""How Sphinx makes web pages of these files; they can be read as they are, too."""

project = "vitrail"
author = "The vitrail authors"
extensions = ["myst_parser"]
exclude_patterns = ["_build"]
html_title = "vitrail"
