"""The directive `terminal`: a transcript of one terminal, with the name of its user above.

Only its look is defined here. The tests run each transcript; its language is described in tests/docs/running.py.
"""

from docutils import nodes
from pygments.lexer import RegexLexer, bygroups
from pygments.lexers.special import TextLexer
from pygments.token import Generic, Keyword, Text
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from trio_chat.terminal.commands import COMMANDS

_COMMAND = "|".join(COMMANDS)


class Transcript(RegexLexer):
    """Highlights what is typed."""

    name = "trio_chat transcript"
    tokens = {  # noqa: RUF012
        "root": [
            (r"^(\$ )(.*(?:\\\n.*)*\n)", bygroups(Generic.Prompt, Generic.Strong)),
            (rf"^(>>> )((?:{_COMMAND})\b(?!.*   ).*\n)", bygroups(Generic.Prompt, Generic.Strong)),
            (r"^(?:>>> )?\^[CD]\n", Keyword),
            (r"^(>>> )(.*\n)", bygroups(Generic.Prompt, Generic.Output)),
            (r".*\n", Text),
        ]
    }


class Terminal(SphinxDirective):
    """The directive. Its argument is the name of the terminal."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        text = "\n".join(self.content)
        block = nodes.literal_block(text, text, language="trio-chat")
        self.set_source_info(block)
        title = "The server" if name == "server" else name.title()
        box = nodes.container("", literal_block=True, classes=["literal-block-wrapper", "terminal"])
        box += [nodes.caption("", title), block]
        return [box]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_lexer("trio-chat", Transcript)
    app.add_lexer("usage", TextLexer)
    app.add_directive("terminal", Terminal)
    return {"parallel_read_safe": True}
