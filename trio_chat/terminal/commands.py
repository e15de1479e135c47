"""A typed line -> a command object. The command table lives here, and help is printed from it.

Nothing is sent or printed here.
"""

import re
from collections.abc import Callable

import attrs

__all__ = [
    "COMMANDS",
    "Command",
    "CommandRow",
    "Dereg",
    "Empty",
    "Exit",
    "Help",
    "History",
    "Reg",
    "Search",
    "Send",
    "SendAll",
    "Trust",
    "Unknown",
    "Who",
    "help_lines",
    "parse",
]

SHOWN, MOST = 20, 1000
"""How many messages of the history are shown, if nothing else is said, and at most."""


@attrs.frozen
class Send:
    """A message to one person. Both are as typed; what is missing is empty."""

    recipient: str
    text: str


@attrs.frozen
class SendAll:
    """A message to everyone."""

    text: str


@attrs.frozen
class Reg:
    """Come back on line. The ancestors give their own name; None when it is left out."""

    name: str | None


@attrs.frozen
class Dereg:
    """Go off line and keep the program. The name as in `Reg`."""

    name: str | None


@attrs.frozen
class Who:
    """Show the table."""


@attrs.frozen
class Trust:
    """Accept the key that somebody has now."""

    name: str


@attrs.frozen
class History:
    """Show the newest messages: of all, or to and from one person."""

    name: str | None
    count: int


@attrs.frozen
class Search:
    """Show the newest messages with these words."""

    words: str


@attrs.frozen
class Help:
    """Show the commands."""


@attrs.frozen
class Exit:
    """Go off line and leave."""


@attrs.frozen
class Empty:
    """A line of nothing but blanks."""


@attrs.frozen
class Unknown:
    """No command begins with that word, or it takes no words behind it."""

    words: str


Command = Send | SendAll | Reg | Dereg | Who | Trust | History | Search | Help | Exit | Empty | Unknown


@attrs.frozen
class CommandRow:
    """One command: how it is typed, what it does, and what makes it out of the rest of its line (None: it cannot)."""

    usage: str
    meaning: str
    build: Callable[[str], Command | None]


def parse(line: str) -> Command:
    """The command that a line, without its line end, stands for.

    A text is everything after exactly one space, kept as typed, blanks at its ends included. Elsewhere blanks
    more or less do not matter.
    """
    word, _, rest = line.lstrip().partition(" ")
    if not word:
        return Empty()
    row = COMMANDS.get(word)
    command = row.build(rest) if row else None
    return command or Unknown(word if row is None else line.strip())


def help_lines() -> tuple[str, ...]:
    """The command table, one line for each command."""
    width = max(len(row.usage) for row in COMMANDS.values())
    return tuple(f"{row.usage:<{width}}  {row.meaning}" for row in COMMANDS.values())


def _send(rest: str) -> Send:
    recipient, _, text = rest.lstrip().partition(" ")
    return Send(recipient, text)


def _trust(rest: str) -> Trust | None:
    words = rest.split()
    return Trust(words[0]) if len(words) == 1 else None


def _history(rest: str) -> History | None:
    words = rest.split()
    count = words.pop() if words and re.fullmatch("[0-9]+", words[-1]) else str(SHOWN)
    if len(words) > 1 or len(count) > len(str(MOST)) or not 1 <= int(count) <= MOST:
        return None
    return History(words[0] if words else None, int(count))


def _search(rest: str) -> Search | None:
    return Search(rest.strip()) if rest.strip() else None


def _alone(command: Command) -> Callable[[str], Command | None]:
    return lambda rest: None if rest.strip() else command


COMMANDS: dict[str, CommandRow] = {
    "send": CommandRow("send NAME TEXT", "a message to one person; kept while they are away", _send),
    "send_all": CommandRow("send_all TEXT", "a message to everyone", SendAll),
    "reg": CommandRow("reg [NAME]", "come back on line", lambda rest: Reg(rest.strip() or None)),
    "dereg": CommandRow("dereg [NAME]", "go off line, and stay here", lambda rest: Dereg(rest.strip() or None)),
    "who": CommandRow("who", "who is on line, who is away, and the key of each", _alone(Who())),
    "trust": CommandRow("trust NAME", "accept somebody's new key, after a warning", _trust),
    "history": CommandRow("history [NAME] [N]", f"the newest messages, N or {SHOWN} of them, of all or NAME", _history),
    "search": CommandRow("search WORDS", f"the newest {SHOWN} messages with all these words", _search),
    "help": CommandRow("help", "this list", _alone(Help())),
    "exit": CommandRow("exit", "go off line, and leave; so does Ctrl-D", _alone(Exit())),
}
