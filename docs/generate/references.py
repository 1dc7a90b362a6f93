"""The default role: what stands in single backticks is linked where it is a public name or an algorithm's page.

In the package's docstrings a name in backticks is an argument, a function, a module or an algorithm. It becomes code,
and a link where there is something to lead to.
"""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref

from . import algorithms, api


def setup(app: Any) -> dict[str, bool]:
    """What Sphinx calls."""
    app.add_role("named", role)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def role(
    name: str, rawtext: str, text: str, lineno: int, inliner: Any, options: Any = None, content: Any = None
) -> tuple[list[Any], list[Any]]:
    """What docutils calls of a role: the nodes, and messages."""
    environment = inliner.document.settings.env
    literal = nodes.literal(text, text)
    target = find(text, environment.docname, environment.ref_context.get("py:module"))
    if target is None:
        return [literal], []
    domain, kind, full = target
    cross = pending_xref("", literal, refdomain=domain, reftype=kind, reftarget=full, refexplicit=True,
                         refwarn=True, refdoc=environment.docname)  # fmt: skip
    return [cross], []


def find(text: str, page: str, module: str | None) -> tuple[str, str, str] | None:
    """What a name leads to: Sphinx's domain, kind and target; None if to nothing."""
    plain = text.removesuffix("()")
    if page.startswith("algorithms/"):
        stem = algorithms.page_of(plain, page.removeprefix("algorithms/"))
        if stem is not None:
            return None if f"algorithms/{stem}" == page else ("std", "doc", f"/algorithms/{stem}")
    known = api.names()
    for full in (f"{module}.{plain}" if module else "", f"fastconv.{plain}", plain):
        if full in known and full != page.removeprefix("api/"):
            return "py", "obj", full
    return None
