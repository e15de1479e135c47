"""Links in docstrings: `x` is a link where x is documented, and code where it is not.

Things are documented under the names of the front door, trio_chat.x, wherever they live.
"""

import re

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxRole

import trio_chat


class Mention(SphinxRole):
    """What stands between single backticks."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        shown = nodes.literal("", self.text)
        called = self.text.partition("(")[0]
        if not re.fullmatch(r"[A-Za-z_][\w.]*", called):
            return [shown], []
        link = pending_xref("", shown, refdoc=self.env.docname, refdomain="py", reftype="obj", mention=True)
        link["reftarget"] = f"trio_chat.{called}"
        return [link], []


def find(app: Sphinx, env: BuildEnvironment, node: pending_xref, shown: nodes.Node) -> nodes.Node | None:
    """What a type is called at the front door."""
    name = node["reftarget"].rpartition(".")[2]
    if node.get("refdomain") == "py" and name in trio_chat.__all__ and node["reftarget"] != f"trio_chat.{name}":
        node["reftype"] = "obj"
        python = env.domains.python_domain
        return python.resolve_xref(
            env, node.get("refdoc", env.docname), app.builder, "obj", f"trio_chat.{name}", node, shown
        )
    return shown if node.get("mention") else None


def describe(app: Sphinx, what: str, name: str, one: object, options: object, lines: list[str]) -> None:
    """What stands before a colon would be taken for the type of a property: give it a dash."""
    if what == "property":
        lines[0] = lines[0].replace(": ", " \N{EN DASH} ")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_role("mention", Mention())
    app.connect("missing-reference", find)
    app.connect("autodoc-process-docstring", describe, priority=400)  # before napoleon
    return {"parallel_read_safe": True}
