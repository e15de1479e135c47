"""What can go wrong for a user of trio_chat: one exception for each thing, all of them ChatError.

They are raised to the task that asked. What a network peer does wrong is no ChatError: see protocol/wire.py.
"""

__all__ = [
    "AddressError",
    "ChatError",
    "ForgedReceipt",
    "IdentityError",
    "InvalidName",
    "InvalidRecipient",
    "InvalidText",
    "KeyChanged",
    "MailboxFull",
    "NameTaken",
    "NoHistory",
    "NotOpened",
    "NotRegistered",
    "PresenceLost",
    "PresenceRefused",
    "ServerKeyChanged",
    "ServerNotResponding",
    "SignedInElsewhere",
    "StoreError",
    "StoreFailed",
    "StoreHeld",
    "TooFast",
    "UnknownRecipient",
    "WrongServerKey",
]


class ChatError(Exception):
    """The base of everything that trio_chat raises for a user to handle; its text is one readable line."""


class AddressError(ChatError):
    """An address that cannot be used: a host that does not resolve, a port that is taken."""


class ServerNotResponding(ChatError):
    """Five windows of 0.5 seconds passed without an answer of the server."""

    def __init__(self) -> None:
        super().__init__("the server is not responding")


class InvalidName(ChatError):
    """Not a name: 1 to 32 of letters, digits, `_`, `.` and `-`, the first one a letter or a digit."""

    def __init__(self, name: str) -> None:
        super().__init__(f"not a valid name: {name!r}")
        self.name = name


class NameTaken(ChatError):
    """The name belongs to somebody else: it was first registered with another key than ours."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the name {name} is taken")
        self.name = name


class SignedInElsewhere(ChatError):
    """The owner of our name and key has registered from another place, and is on line there."""

    def __init__(self) -> None:
        super().__init__("signed in from another place")


class ServerKeyChanged(ChatError):
    """The server does not have the key that we know it by. `pinned`, `offered`: the fingerprints of both."""

    def __init__(self, pinned: str, offered: str) -> None:
        super().__init__(f"the key of the server has changed: it was {pinned}, now it is {offered}")
        self.pinned = pinned
        self.offered = offered


class WrongServerKey(ChatError):
    """The server does not have the key that the user gave for it. `expected`, `offered`: the fingerprints of both."""

    def __init__(self, expected: str, offered: str) -> None:
        super().__init__(f"the key given for the server is {expected}, but the server's key is {offered}")
        self.expected = expected
        self.offered = offered


class KeyChanged(ChatError):
    """A name does not have the key that we know it by. `pinned`, `offered`: the fingerprints of both.

    Nothing is sent to it or taken from it until `Chat.trust(name)`.
    """

    def __init__(self, name: str, pinned: str, offered: str) -> None:
        super().__init__(f"the key of {name} has changed: it was {pinned}, now it is {offered}")
        self.name = name
        self.pinned = pinned
        self.offered = offered


class NotRegistered(ChatError):
    """This needs a registration: `Chat.register()` first."""

    def __init__(self) -> None:
        super().__init__("not registered with the server")


class UnknownRecipient(ChatError):
    """The server has never heard of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no such user: {name}")
        self.name = name


class InvalidRecipient(ChatError):
    """A message to oneself."""

    def __init__(self) -> None:
        super().__init__("you cannot send to yourself")


class InvalidText(ChatError):
    """Not 1 to 16,384 bytes of UTF-8. `size` is the length in bytes: 0 for nothing, None for no UTF-8 at all."""

    def __init__(self, size: int | None) -> None:
        super().__init__("not valid Unicode" if size is None else f"a text has 1 to 16384 bytes, not {size}")
        self.size = size


class MailboxFull(ChatError):
    """The recipient is away and holds 1,000 letters or 1 MiB already."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the mailbox of {name} is full")
        self.name = name


class TooFast(ChatError):
    """More than 300 letters at once, or 100 a minute, to one recipient who does not get them directly."""

    def __init__(self) -> None:
        super().__init__("too many letters at once, try again in a minute")


class NotOpened(ChatError):
    """The recipient has got the message and could not open it: it was sealed to another key, or changed on its way."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} could not open the message")
        self.name = name


class ForgedReceipt(ChatError):
    """The server says that the recipient has the message, but what it shows for it is not from the recipient."""

    def __init__(self, name: str) -> None:
        super().__init__(f"a forged receipt in the name of {name}")
        self.name = name


class IdentityError(ChatError):
    """An identity file that cannot be used: others can read it, it is damaged, or it cannot be made."""


class StoreError(ChatError):
    """A store that cannot be opened: not ours, too new, held by another program, or not to be written."""


class StoreHeld(StoreError):
    """Another program holds the store."""


class StoreFailed(ChatError):
    """The store could not make something durable, and must not be used any longer."""


class NoHistory(ChatError):
    """The store keeps no history."""

    def __init__(self) -> None:
        super().__init__("no history is kept")


class PresenceLost(ChatError):
    """The presence server cannot be reached, or is gone."""


class PresenceRefused(ChatError):
    """The presence server did not accept a request: error `code`, and what it said, which is not ours."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"refused with error {code}: {text!r}")
        self.code = code
        self.text = text
