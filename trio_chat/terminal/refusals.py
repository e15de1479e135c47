"""Errors of commands that are understood, but cannot be carried out as they were typed.

They are raised in conversation.py. Those of lines that are no commands are in commands.py.
"""

from collections.abc import Iterable

from trio_chat.errors import ChatError


class AlreadyRegistered(ChatError):
    """`reg` while online."""


class OnlyYourself(ChatError):
    """`reg` or `dereg` with the name of somebody else."""


class InNoGroup(ChatError):
    """A command for the current room, and there is none. `instead`: what to type; empty if nothing is left to do."""

    def __init__(self, instead: str = "") -> None:
        super().__init__("you are in no group")
        self.instead = instead


class GroupsUnknown(ChatError):
    """`send_group` while the server does not respond, and nobody knows which group is the current one.

    It is not kept until that is known: what is typed for a group by its name meanwhile would be sent before it.
    """

    line = "the server is not responding, so your group is not known: type send #NAME TEXT"


class NoTable(ChatError):
    """`who` before the server has answered."""

    line = "the server is not responding: it is not known yet who is online"


class WaitsForServer(ChatError):
    """A command that only the server can answer, before it has answered anything."""

    def __init__(self, command: str) -> None:
        super().__init__(f"the server is not responding: {command} waits")


class WhichGroup(ChatError):
    """A command for the current group, and the user has not chosen one of these `groups`. `instead`: what to type."""

    def __init__(self, groups: Iterable[str], instead: str) -> None:
        self.groups = tuple(groups)
        self.instead = instead
        super().__init__(f"which group? You are in {', '.join(self.groups)}")
