"""What is said of commands that have no answer when the program ends.

When that is so is decided in conversation.py and lasting.py.
"""

from collections.abc import Callable, Iterable

from trio_chat.errors import ChatError
from trio_chat.terminal import commands, results


class NotDone(ChatError):
    """The program has ended before a command was carried out. `to`: for whom it was, if it was a message."""

    def __init__(self, line: str, to: str = "") -> None:
        super().__init__(f"not done, because the program ends: {line}")
        self.first_word = line.split()[0]
        self.to = to


class NotTold(ChatError):
    """The program has ended, and the server does not know that."""

    line = "the server is not responding: others may see you online for a minute"


def recipient_of(command: commands.Command | None, current_room: str = "") -> str:
    """For whom a command is, as people read it; empty if it is no message. `current_room`: empty if it is not known."""
    match command:
        case commands.Send(recipient):
            return recipient
        case commands.SendAll():
            return "everyone"
        case commands.SendGroup(room=named):
            room = named or current_room
            return f"group {room}" if room else "your group"
    return ""


def tell_not_done(tell: Callable[[results.Result], object], lines: Iterable[str]) -> None:
    """Say of each line that it will not be carried out, unless nothing is lost by that."""
    for line in lines:
        if error := not_done(line):
            tell(results.Failed(error))


def not_done(line: str) -> NotDone | None:
    """The error of a line that will not be carried out; None if nothing is lost by that."""
    try:
        command = commands.parse(line)
    except ChatError:
        return NotDone(line)
    return None if isinstance(command, commands.Exit | commands.Empty) else NotDone(line, recipient_of(command))
