"""What can go wrong for a user of trio_chat: one exception class for each problem, all derived from ChatError.

They are raised in the task that made the call. Invalid data from a network peer is not a ChatError, but a WireError,
which never reaches the user: see protocol/wire.py.
"""

import math
from typing import ClassVar


class ChatError(Exception):
    """The base of all errors that trio_chat raises for its user to handle. The text of each is one readable line."""

    line: ClassVar[str] = ""

    def __init__(self, *args: object) -> None:
        super().__init__(*(args or (self.line,)))


class PersonError(ChatError):
    """The base of errors about one person, whose name is `name`; perhaps in a room, or with an `other` name or key."""

    def __init__(self, name: str, room: str = "", other: str = "") -> None:
        super().__init__(self.line.format(name=name, room=room, other=other))
        self.name, self.room = name, room


class AddressError(ChatError):
    """An address cannot be used: the host cannot be found, or the port is in use."""


class ServerNotResponding(ChatError):
    """The server did not answer any of 5 attempts, each with a window of 500 ms."""

    line = "the server is not responding"


class InvalidName(ChatError):
    """Not a name. The rule is `NAME` in protocol/records.py, and is in the text of the error."""

    def __init__(self, name: str) -> None:
        rule = "a name has 1 to 32 letters A-Z, digits, '.', '_' or '-', and begins with a letter or a digit"
        super().__init__(f"not a valid name: {name!r} ({rule})")
        self.name = name


class NameTaken(PersonError):
    """The name belongs to somebody else: it was first registered with a different key. `everyone` is nobody's."""

    line = "the name {name} is taken: choose another one"


class TooManyNames(ChatError):
    """The key owns as many names as one key may have."""

    line = "your key has too many names here: use one of them, or ask the operator"


class NoRoom(ChatError):
    """The server takes no new names: it has as many as it can, or too many were registered from this address."""

    line = "the server has no room for new names: try again later, or ask its operator"


class Banned(ChatError):
    """The operator has banned the name, the key or the address."""

    line = "you are banned from this server: ask its operator"


class RegistrationClosed(ChatError):
    """The server registers no new names."""

    line = "the server takes no new names: ask its operator"


class NotInvited(ChatError):
    """The server registers new names with an invitation only, and none was given, or it was used or is too old."""

    line = "the server needs a valid invitation for this name: ask its operator for one (--invitation CODE)"


class Kicked(ChatError):
    """The operator has ended the registration. The name can register again."""

    line = "the operator of the server has signed you off"


class NameDeleted(ChatError):
    """The operator has deleted the name, or freed it for another key. The registration has ended."""

    line = "the operator of the server has freed your name"


class SignedInElsewhere(ChatError):
    """The owner of this name and key has registered from another program, and is online there."""

    line = "signed in from another place"


class ServerKeyChanged(ChatError):
    """The server has another key than the pinned one, at the start or later. `pinned`, `offered`: the fingerprints."""

    def __init__(self, pinned: str, offered: str) -> None:
        advice = "ask its operator which one is right"
        super().__init__(f"the key of the server has changed: it was {pinned}, now it is {offered}; {advice}")
        self.pinned, self.offered = pinned, offered


class WrongServerKey(ChatError):
    """The server does not have the key that the user gave for it. `expected`, `offered`: the fingerprints of both."""

    def __init__(self, expected: str, offered: str) -> None:
        super().__init__(f"the key given for the server is {expected}, but the server's key is {offered}")
        self.expected, self.offered = expected, offered


class ServerTooOld(ChatError):
    """The server speaks an older version of the protocol, at the start or later, if it was exchanged."""

    line = "the server is older than this program: ask its operator to upgrade it"


class ServerTooNew(ChatError):
    """The server speaks a newer version of the protocol, at the start or later, if it was upgraded."""

    line = "this program is older than the server: upgrade it"


class KeyChanged(ChatError):
    """A message was not sent: its recipient has another key than the pinned one. `KeyWarning` says more."""

    def __init__(self, name: str, pinned: str, offered: str) -> None:
        advice = "ask them which one is right, then trust it"
        super().__init__(f"not sent: the key of {name} has changed: it was {pinned}, now it is {offered}; {advice}")
        self.name, self.pinned, self.offered = name, pinned, offered


class KeyNotRemembered(PersonError):
    """A message was not sent: 50,000 keys are pinned, so that of this name was not. See `Chat.trust`, which pins it."""

    line = "not sent: no more keys are remembered; ask {name} if theirs is {other}, then trust it"


class TooManyPeople(ChatError):
    """The server names more people at once than a client takes. This client is offline, and has what came before."""

    line = "the server sends more names than 20,000: ask its operator"


class ListTooLong(ChatError):
    """The server's list of rooms, or of members, goes on after as many as a client takes. No honest server's does."""

    line = "the list of the server goes on and on: ask its operator"


class NotRegistered(ChatError):
    """The call needs a registration with the server: call `Chat.register()` first."""

    line = "not registered with the server: register first"


class UnknownRecipient(PersonError):
    """The server does not know this name."""

    line = "no such user: {name}"


class InvalidRecipient(ChatError):
    """A message to one's own name."""

    line = "you cannot send to yourself"


class BlockedYourself(ChatError):
    """Blocking one's own name or key."""

    line = "you cannot block yourself"


class NotBlocked(PersonError):
    """Nobody who is blocked has this name."""

    line = "you do not block {name}"


class TooManyBlocked(ChatError):
    """256 people are blocked."""

    line = "you block 256 people already: unblock somebody first"


class InvalidText(ChatError):
    """Not 1 to 16,384 bytes of UTF-8. `size` is the length in bytes; None if the text cannot be encoded."""

    def __init__(self, size: int | None) -> None:
        super().__init__("not valid Unicode" if size is None else f"a text has 1 to 16384 bytes, not {size}")
        self.size = size


class MailboxFull(PersonError):
    """The recipient is offline, and too much waits: 1,000 letters or 1 MiB, of one sender a quarter of that."""

    line = "the mailbox of {name} is full: try again later"


class TooFast(ChatError):
    """The server has refused a request because too many came. `after`: seconds until it may be tried again."""

    def __init__(self, after: float) -> None:
        self.after, self.seconds = after, max(1, math.ceil(after))  # for people; after 0 s it would be too early
        super().__init__(f"too many at once: try again in {self.seconds} s")


class OutboxFull(ChatError):
    """As many messages wait to be sent as may."""

    line = "10,000 messages, or 64 MiB, wait to be sent: cancel some, or wait until they are sent"


class NotWaiting(ChatError):
    """No message with this number waits to be sent."""

    def __init__(self, number: int) -> None:
        super().__init__(f"no message {number} waits to be sent")
        self.number = number


class TriedTooLong(ChatError):
    """A message was tried for 14 days. Nobody knows whether it has arrived."""

    line = "it was tried for 14 days, and nobody knows whether it has arrived: ask its recipient"


class IdInUse(ChatError):
    """The server has another message under the id of this one. Ids are random: no honest server says so."""

    line = "the server has another message with the same id: send it again"


class NotOpened(PersonError):
    """The recipient could not open the message: it was changed, sealed for another key, or its id was used before."""

    line = "{name} could not open the message: send it again"


class WrongReceipt(PersonError):
    """The recipient got the message, but signed that they have another text."""

    line = "{name} signed a receipt for another text: their program may not be honest"


class ForgedReceipt(PersonError):
    """The server says that the recipient has the message, but the receipt it shows is not signed by the recipient."""

    line = "the server showed a forged receipt of {name}: the message may not have arrived"


class RoomError(ChatError):
    """The base of errors about one room, whose name is `room`."""

    def __init__(self, room: str) -> None:
        super().__init__(self.line.format(room=room))
        self.room = room


class NoSuchRoom(RoomError):
    """No room has this name."""

    line = "no such room: {room}: create it, or list the rooms that there are"


class RoomExists(RoomError):
    """A room has this name already."""

    line = "the room {room} exists already: join it, or choose another name"


class NotAMember(RoomError):
    """We are not in this room; or it is `everyone`, which nobody can leave."""

    line = "you are not in the room {room}: join it first"

    def __init__(self, room: str) -> None:
        super().__init__(room)
        if room.lower() == "everyone":
            self.args = ("everybody is in the room everyone: nobody can leave it",)


class RoomFull(RoomError):
    """As many names are in this room as can be."""

    line = "the room {room} is full: try again later, or create another one"


class RoomIsPrivate(RoomError):
    """We are not in this room, or not any more, and only an owner can bring somebody into it."""

    line = "the room {room} is private, and you are not in it: ask one of its owners to invite you"


class RoomIsOpen(RoomError):
    """This room is not private: anybody may join it, and nobody can be removed."""

    line = "the room {room} is not private: anybody may join it"


class NotAnOwner(RoomError):
    """Only the owners of a private room decide who is in it."""

    line = "you do not own the room {room}: ask one of its owners"


class NotInRoom(PersonError):
    """Somebody whom we want to remove from a private room, or to make an owner of it, is not in it."""

    line = "{name} is not in the room {room}"


class InRoomAlready(PersonError):
    """Somebody cannot be invited under this name: their key is in the room under another one."""

    line = "the key of {name} is in the room {room} already, as {other}"


class RemovedYourself(RoomError):
    """An owner cannot remove themselves: that is leaving."""

    line = "you cannot remove yourself: leave the room {room}"


class LastOwner(RoomError):
    """We are the only owner of a private room that others are in: nobody could invite or remove anybody after us."""

    line = "you are the only owner of the room {room}: make somebody else an owner first, or leave anyway"


class TooManyOwners(RoomError):
    """A private room has as many owners as it can."""

    line = "the room {room} has 10 owners: remove one of them first"


class TheyAreInTooManyRooms(PersonError):
    """Somebody cannot be invited: their key is in as many rooms as it may be, or we have put it into too many."""

    line = "{name} is in too many rooms: ask them to leave one"


class MembersNotTrusted(RoomError):
    """The server gives no members of a private room that its owners have signed, or gives old ones."""

    line = "the server does not show who is in the private room {room}: ask an owner, or the operator"


class TooManyRooms(ChatError):
    """Our key is in as many rooms as one key may be."""

    line = "you are in too many rooms: leave one of them first"


class NoMoreRooms(ChatError):
    """The server has as many rooms as it can, or our key or our address has its share of them."""

    line = "the server takes no more rooms from you: join one, or try again later"


class IdentityError(ChatError):
    """The identity file cannot be used: other users can read it, it is damaged, or it cannot be created."""


class StoreError(ChatError):
    """The store cannot be opened: another format, a newer version, held by another program, or not writable."""


class StoreHeld(StoreError):
    """Another program has the store open."""


class StoreFailed(ChatError):
    """The store could not write something to disk, and must not be used any longer."""


class NoHistory(ChatError):
    """The store keeps no history."""

    line = "no history is kept"


class PresenceLost(ChatError):
    """The presence server cannot be reached, or the connection to it was lost."""


class PresenceRefused(ChatError):
    """The presence server refused a request. `code` and `text` are the server's own."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"refused with error {code}: {text!r}")
        self.code, self.text = code, text
