"""How Sphinx builds the documentation: `sphinx-build -W docs build/site`. What it generates is in `generate/`."""

import os
import sys
from importlib.metadata import version as version_of
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
os.environ.setdefault("FASTCONV_QUIET", "1")

from generate import algorithms, api, benchmarks, lessons, measured  # noqa: E402 # by the path above

project = "fastconv"
author = "The fastconv developers"
copyright = "The fastconv developers"
version = release = version_of("fastconv")

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "generate.explained",
    "generate.mathml",
    "generate.references",
    "generate.shown",
]
exclude_patterns = ["generate", "_lessons", "_measured", "_shown"]
default_role = "named"  # `generate.references`
templates_path = ["_templates"]
nitpicky = False
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
suppress_warnings = ["config.cache"]  # the gallery's settings have functions, which Sphinx cannot pickle

autosummary_generate = True
autosummary_ignore_module_all = False
autodoc_typehints = "none"
numpydoc_show_class_members = False

html_theme = "pydata_sphinx_theme"
html_title = "fastconv"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_math_renderer = "mathml"
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system
#: Pages with none below them have no list of those.
alone = ("index", "install", "tutorial", "explain", "accuracy", "benchmarks", "changelog")
html_sidebars = {page: [] for page in alone}
html_theme_options = {
    "show_prev_next": False,
    "navigation_with_keys": False,
    "header_links_before_dropdown": 7,
    "secondary_sidebar_items": {"**": ["page-toc"], "index": []},
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_version_warning_banner": False,
    "pygments_light_style": "tango",
    "pygments_dark_style": "monokai",
}

sphinx_gallery_conf = {
    "examples_dirs": "_lessons",
    "gallery_dirs": "lessons",
    "filename_pattern": r"[\\/]\d\d_",
    "within_subsection_order": "FileNameSortKey",
    "image_scrapers": (lessons.pictures,),
    "default_thumb_file": str(HERE / "algorithms" / "conv_naive.png"),  # of lessons that draw nothing
    "reset_modules": (),
    "download_all_examples": False,
    "show_signature": False,
    "remove_config_comments": True,
    "write_computation_times": False,
    "min_reported_time": 1e9,
    "plot_gallery": "True",
    "show_memory": False,
}

api.write(HERE / "api")
lessons.write(HERE.parent / "examples", HERE / "_lessons")
measured.write(HERE / "measured", HERE / "_measured")


def setup(app):
    """Pages that take more than a moment are written when Sphinx has begun, before the gallery, which shows one."""
    app.connect("builder-inited", lambda app: algorithms.write(HERE / "algorithms"), priority=1)
    app.connect("build-finished", benchmarks.publish)
