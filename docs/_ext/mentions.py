"""Links in docstrings: `x` becomes a link if x is documented, and plain code if it is not.

Names are documented as trio_chat.x, the name that users import, whichever module defines them.
"""

import re

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxRole

import trio_chat


class Mention(SphinxRole):
    """The role of text between single backticks."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        shown = nodes.literal("", self.text)
        called = self.text.partition("(")[0]
        if not re.fullmatch(r"[A-Za-z_][\w.]*", called):
            return [shown], []
        link = pending_xref("", shown, refdoc=self.env.docname, refdomain="py", reftype="obj", mention=True)
        link["reftarget"] = f"trio_chat.{called}"
        return [link], []


def find(app: Sphinx, env: BuildEnvironment, node: pending_xref, shown: nodes.Node) -> nodes.Node | None:
    """Resolve a name of an inner module, such as a type in a signature, to its public name."""
    name = node["reftarget"].rpartition(".")[2]
    if node.get("refdomain") == "py" and name in trio_chat.__all__ and node["reftarget"] != f"trio_chat.{name}":
        node["reftype"] = "obj"
        python = env.domains.python_domain
        return python.resolve_xref(
            env, node.get("refdoc", env.docname), app.builder, "obj", f"trio_chat.{name}", node, shown
        )
    return shown if node.get("mention") else None


def describe(app: Sphinx, what: str, name: str, one: object, options: object, lines: list[str]) -> None:
    """Write a dash for the first colon: napoleon would read the words before it as the type of the property."""
    if what == "property":
        lines[0] = lines[0].replace(": ", " \N{EN DASH} ")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_role("mention", Mention())
    app.connect("missing-reference", find)
    app.connect("autodoc-process-docstring", describe, priority=400)  # before napoleon
    return {"parallel_read_safe": True}
