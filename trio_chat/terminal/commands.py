"""A typed line -> a command object, by the table of commands, from which help is made, too.

Commands are carried out in conversation.py; nothing is sent or printed here. They are msgspec's classes, which are made
twenty times as fast as those of attrs: so many would delay each start of a client.
"""

import re
from collections.abc import Callable, Iterable
from difflib import get_close_matches

from msgspec import Struct

from trio_chat.errors import ChatError

DEFAULT_COUNT, MAX_COUNT = 20, 1000
"""How many messages of the history are shown when no number is given, and at most."""

USAGE_WIDTH = 30
"""Columns for the usage of a command in the help. None is longer, and what follows still fits into 80 columns."""


class UnknownCommand(ChatError):
    """There is no command with that name. `similar`: those that may be meant."""

    def __init__(self, word: str, similar: Iterable[str] = ()) -> None:
        super().__init__(f"no such command: {word}")
        self.word = word
        self.similar = tuple(similar)


class WrongUsage(ChatError):
    """Words are missing after a command, or are not what it takes, if any. `usage` is how it is typed."""

    def __init__(self, usage: str) -> None:
        super().__init__(f"usage: {usage}")
        self.usage = usage


class Send(Struct, frozen=True):
    """A message to one person. Both are as typed, and not empty."""

    recipient: str
    text: str


class SendAll(Struct, frozen=True):
    """A message to everyone, as typed, and not empty."""

    text: str


class CreateGroup(Struct, frozen=True):
    """Create a room. `private`: only those whom an owner invites are in it."""

    room: str
    private: bool = False


class JoinGroup(Struct, frozen=True):
    """Join a room, which becomes the current one."""

    room: str


class LeaveGroup(Struct, frozen=True):
    """Leave a room; None is the current one. `anyway`: also as the last owner of a private one."""

    room: str | None
    anyway: bool = False


class SendGroup(Struct, frozen=True):
    """A message to a room, as typed, and not empty. `room`: None is the current one."""

    text: str
    room: str | None = None


class ListGroups(Struct, frozen=True):
    """Show which rooms there are."""


class ListGroupMembers(Struct, frozen=True):
    """Show who is in a room; None is the current one."""

    room: str | None


class Invite(Struct, frozen=True):
    """Put somebody into the current room, which is private."""

    name: str


class Remove(Struct, frozen=True):
    """Remove somebody from the current room, which is private."""

    name: str


class Owners(Struct, frozen=True):
    """Show who owns the current room, which is private; with a name, make this member one of them."""

    name: str | None


class ListOutbox(Struct, frozen=True):
    """Show which messages wait to be sent."""


class CancelMessage(Struct, frozen=True):
    """Withdraw the message with this number, which waits to be sent."""

    number: int


class Reg(Struct, frozen=True):
    """Come back online. The name is the user's own, as the ancestors want it; None if it is left out."""

    name: str | None


class Dereg(Struct, frozen=True):
    """Go offline and keep the program running. The name is as in `Reg`."""

    name: str | None


class Who(Struct, frozen=True):
    """Show who is online, and who was; `everybody`: all whom the server knows."""

    everybody: bool = False


class TrustKey(Struct, frozen=True):
    """Accept somebody's new key."""

    name: str


class Block(Struct, frozen=True):
    """Show nothing more from the owner of a name."""

    name: str


class Unblock(Struct, frozen=True):
    """Block them no longer."""

    name: str


class ListBlocked(Struct, frozen=True):
    """Show who is blocked."""


class History(Struct, frozen=True):
    """Show the newest messages: all, those to and from one person, or after a `#` those of a room."""

    name: str | None
    count: int


class Search(Struct, frozen=True):
    """Show the newest messages that contain all these words; after a `#` and the name of a room, those of the room."""

    words: str
    room: str | None = None


class Help(Struct, frozen=True):
    """Show the commands, or only this one, which is one of COMMANDS."""

    command: str | None = None


class Exit(Struct, frozen=True):
    """Go offline and end the program."""


class Empty(Struct, frozen=True):
    """A blank line."""


MessageCommand = Send | SendAll | SendGroup
PrivateGroupCommand = Invite | Remove | Owners
GroupCommand = CreateGroup | JoinGroup | LeaveGroup | ListGroups | ListGroupMembers | PrivateGroupCommand
Command = (
    MessageCommand
    | GroupCommand
    | ListOutbox
    | CancelMessage
    | Reg
    | Dereg
    | Who
    | TrustKey
    | Block
    | Unblock
    | ListBlocked
    | History
    | Search
    | Help
    | Exit
    | Empty
)


class CommandRow(Struct, frozen=True):
    """One command: how it is typed, what it does, and what builds it from the words after it (None: it cannot)."""

    usage: str
    meaning: str
    build: Callable[[str], Command | None]


def parse(line: str) -> Command:
    """The command that a line, without its line end, stands for.

    Its first word is taken in any case, and with a / before it. A text is everything after exactly one space, kept as
    typed, with blanks at its ends. Elsewhere extra blanks do not matter. Raises UnknownCommand, WrongUsage.
    """
    word, _, rest = line.lstrip().partition(" ")
    if not word:
        return Empty()
    row = COMMANDS[_known(word)]
    if command := row.build(rest):
        return command
    raise WrongUsage(row.usage)


def _known(word: str) -> str:
    """The name of a command, as it is in COMMANDS. Raises UnknownCommand."""
    name = word.lower().removeprefix("/")
    name = _ALIASES.get(name, name)
    if name not in COMMANDS:
        raise UnknownCommand(word, _similar(name))
    return name


def _similar(word: str) -> list[str]:
    """The commands that begin like this word, or else are spelled almost like it."""
    beginning = [name for name in COMMANDS if name.startswith(word)] if len(word) > 1 else []
    return beginning or get_close_matches(word, COMMANDS, n=1, cutoff=0.75)


def help_lines(command: str | None = None) -> tuple[str, ...]:
    """How each command, or this one, is typed and what it does, one line for each."""
    rows = COMMANDS.values() if command is None else [COMMANDS[command]]
    return tuple(f"{row.usage:<{USAGE_WIDTH}}  {row.meaning}" for row in rows)


def _send(rest: str) -> Send | SendGroup | None:
    recipient, _, text = rest.lstrip().partition(" ")
    if not recipient.strip("#") or not text:
        return None
    # As with the command `trio-chat send`, and as `history` wants it.
    return SendGroup(text, recipient[1:]) if recipient.startswith("#") else Send(recipient, text)


def _with_name(command: Callable[[str], Command]) -> Callable[[str], Command | None]:
    return lambda rest: command(rest.strip()) if len(rest.split()) == 1 else None


def _with_name_or_none(command: Callable[[str | None], Command]) -> Callable[[str], Command | None]:
    return lambda rest: _with_name(command)(rest) if rest.strip() else command(None)


def _without_option(rest: str, option: str) -> tuple[str, bool]:
    """What is left of the words without an option, which may be at any place, and whether it was there."""
    words = rest.split()
    is_there = words.count(option) == 1
    if is_there:
        words.remove(option)
    return " ".join(words), is_there


def _create_group(rest: str) -> Command | None:
    name, private = _without_option(rest, "--private")
    return _with_group(lambda group: CreateGroup(group, private))(name)


def _leave_group(rest: str) -> Command | None:
    name, anyway = _without_option(rest, "--anyway")
    return _with_group_or_none(lambda group: LeaveGroup(group, anyway))(name)


def _with_group(command: Callable[[str], Command]) -> Callable[[str], Command | None]:
    # With or without the # that `history` wants. A # alone is no group, and not the current one either.
    return lambda rest: _with_name(command)(rest.strip().removeprefix("#"))


def _with_group_or_none(command: Callable[[str | None], Command]) -> Callable[[str], Command | None]:
    return lambda rest: _with_group(command)(rest) if rest.strip() else command(None)


def _history(rest: str) -> History | None:
    words = rest.split()
    count = words.pop() if words and re.fullmatch("[0-9]+", words[-1]) else str(DEFAULT_COUNT)
    # No name begins with -: a number with a sign is meant.
    if len(words) > 1 or (words and words[0].startswith("-")):
        return None
    if len(count) > len(str(MAX_COUNT)) or not 1 <= int(count) <= MAX_COUNT:
        return None
    return History(words[0] if words else None, int(count))


def _cancel(rest: str) -> CancelMessage | None:
    # A store has no longer numbers.
    return CancelMessage(int(rest)) if re.fullmatch(" *[0-9]{1,18} *", rest) else None


def _search(rest: str) -> Search | None:
    first, _, words = rest.strip().partition(" ")
    # Alone it is a word.
    if first.startswith("#") and words:
        return Search(words.strip(), first)
    return Search(rest.strip()) if rest.strip() else None


def _help(rest: str) -> Help | None:
    words = rest.split()
    return Help(*map(_known, words)) if len(words) <= 1 else None


def _who(rest: str) -> Command | None:
    return {"": Who(), "--all": Who(everybody=True)}.get(rest.strip())


def _without_words(command: Command) -> Callable[[str], Command | None]:
    return lambda rest: None if rest.strip() else command


COMMANDS: dict[str, CommandRow] = {
    "send": CommandRow("send NAME TEXT", "a message to one person, or to #GROUP", _send),
    "send_all": CommandRow("send_all TEXT", "a message to everyone", lambda rest: SendAll(rest) if rest else None),
    "create_group": CommandRow(
        "create_group GROUP [--private]",
        "create a group, open or by invitation",
        _create_group,
    ),
    "join_group": CommandRow("join_group GROUP", "join a group, and make it the current one", _with_group(JoinGroup)),
    "send_group": CommandRow(
        "send_group TEXT", "a message to the current group", lambda rest: SendGroup(rest) if rest else None
    ),
    "list_groups": CommandRow("list_groups", "which groups there are", _without_words(ListGroups())),
    "list_members": CommandRow(
        "list_members [GROUP]", "who is in a group, or in the current one", _with_group_or_none(ListGroupMembers)
    ),
    "leave_group": CommandRow(
        "leave_group [GROUP] [--anyway]",
        "leave a group, or the current one",
        _leave_group,
    ),
    "invite": CommandRow("invite NAME", "add somebody to the current private group", _with_name(Invite)),
    "remove": CommandRow("remove NAME", "remove somebody from the private group", _with_name(Remove)),
    "owners": CommandRow("owners [NAME]", "who owns the private group, or add NAME", _with_name_or_none(Owners)),
    "outbox": CommandRow("outbox", "which messages wait to be sent", _without_words(ListOutbox())),
    "cancel": CommandRow("cancel NUMBER", "withdraw the message with this number", _cancel),
    "reg": CommandRow(
        "reg [NAME]", "come back online; NAME can only be your own", lambda rest: Reg(rest.strip() or None)
    ),
    "dereg": CommandRow(
        "dereg [NAME]", "go offline, stay; NAME can only be your own", lambda rest: Dereg(rest.strip() or None)
    ),
    "who": CommandRow("who [--all]", "who is online, or all; with their keys", _who),
    "trust": CommandRow("trust NAME", "accept somebody's new key, after a warning", _with_name(TrustKey)),
    "block": CommandRow("block NAME", "show nothing from somebody, who is not told", _with_name(Block)),
    "unblock": CommandRow("unblock NAME", "block somebody no longer", _with_name(Unblock)),
    "blocked": CommandRow("blocked", "who is blocked", _without_words(ListBlocked())),
    "history": CommandRow(
        f"history [NAME] [1-{MAX_COUNT}]",
        f"newest {DEFAULT_COUNT} messages: all, of NAME, or #GROUP",
        _history,
    ),
    "search": CommandRow("search [#GROUP] WORDS", f"newest {DEFAULT_COUNT} messages with all these words", _search),
    "help": CommandRow("help [COMMAND]", "this list, or the line about a command", _help),
    "exit": CommandRow("exit", "go offline, and leave; so do quit and Ctrl-D", _without_words(Exit())),
}
_ALIASES = {"quit": "exit"}
"""Words that people type because other programs know them, as they type a / before a command. Not completed."""
