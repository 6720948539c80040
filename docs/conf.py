"""How Sphinx builds these pages: `python -m sphinx -W --keep-going -b html docs build/docs` (extra `docs`)."""

import re
from importlib.metadata import version as version_of
from typing import Any

project = "recall_async"
author = "the recall_async contributors"
version = release = version_of("recall-async")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.intersphinx", "sphinx.ext.viewcode"]
exclude_patterns = ["benchmarks/**", "programs/**"]
nitpicky = False

source_suffix = {".md": "markdown"}
myst_heading_anchors = 4
myst_enable_extensions = ["deflist"]
myst_links_external_new_tab = False

default_role = "py:obj"
"""A name in single backticks is code, and a link where the API reference has it."""
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
maximum_signature_line_length = 88
intersphinx_mapping: dict[str, tuple[str, None]] = {}
"""Filled where the machine that builds may look up other projects' pages."""

html_theme = "furo"
html_title = f"recall_async {release}"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_show_copyright = False
html_theme_options = {"navigation_with_keys": True}
pygments_style = "friendly"
pygments_dark_style = "monokai"


def setup(app: Any) -> None:
    """Adapt the pages, which are written to be read on a code host, too."""
    app.connect("source-read", _adapt)


def _adapt(app: Any, page: str, source: list[str]) -> None:
    # Anchors that are written in HTML become targets of links.
    source[0] = re.sub(r'^<a id="([\w-]+)"></a>$', r"(\1)=", source[0], flags=re.M)
    if page == "api":
        source[0] += _not_yet_mentioned(source[0])


def _not_yet_mentioned(reference: str) -> str:
    """What the package exports and the page does not place under a heading of its own."""
    import recall_async

    listed = set(re.findall(r"auto\w+:: recall_async\.(?:\w+\.)*(\w+)", reference))
    more = [name for name in recall_async.__all__ if name not in listed and not name.endswith("Error")]
    directives = "\n\n".join(f".. autoclass:: recall_async.{name}\n   :members:" for name in more)
    return f"\n## More\n\n```{{eval-rst}}\n{directives}\n```\n" if more else ""
