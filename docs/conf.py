"""How Sphinx makes web pages of these files; they can be read as they are, too.

The pages of the lecture are programs. They run each time the documentation is made, and one that fails stops it.
"""

project = "vitrail"
author = "The vitrail authors"
extensions = ["myst_nb"]  # reads Markdown as myst_parser does, and runs the cells in it
exclude_patterns = ["_build", "**.ipynb"]  # a page that somebody made a notebook of
html_title = "vitrail"

myst_enable_extensions = ["colon_fence", "dollarmath"]
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300  # seconds for one cell
nb_merge_streams = True  # a cell that prints ten lines has one block of output
myst_heading_anchors = 2  # pages may link to headings of other pages
