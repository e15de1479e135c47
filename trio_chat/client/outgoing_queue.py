"""What the outbox works with: queues of messages, how many may wait, and after which errors they are tried again.

When they are sent is in outbox.py; how they are stored is in storage/outgoing.py.
"""

import math
from collections import deque

import attrs
import trio

from trio_chat import errors
from trio_chat.protocol.records import Record, check_text, fold
from trio_chat.storage.client_interface import ClientStore
from trio_chat.storage.outgoing import Outgoing
from trio_chat.tasks import WakeUp
from trio_chat.transport.ids import new_id

MAX_OUTGOING, MAX_OUTGOING_BYTES = 10_000, 64 * 1024 * 1024
"""How many messages may wait, and how many bytes of text."""

RETRIED_FOR = 14 * 24 * 3600.0
"""Seconds (14 days) after its first attempt in which a message is sent again. Its recipient and the server remember its
id for longer than that; later, it could be shown twice."""

CLOCK_ERROR = 3600.0
"""Seconds by which a clock may be set back without any effect."""

AT_ONCE = 64
"""How many queues send at once: so many to the server, and so many to programs of others."""

QUIET_PAUSE = 5.0
"""The longest pause, in seconds, that the user is not told of."""

RESEND_UNKEPT = (1.0, 2.0, 4.0)
"""Seconds until a message is sent again to a program that has acknowledged it, and does not say that it has it on its
disk. After the last of these it is given to the server."""

PAUSES: dict[type[errors.ChatError], float] = {
    errors.ServerNotResponding: 15.0,
    errors.MailboxFull: 60.0,
    errors.MembersNotTrusted: 60.0,
    errors.TooFast: 1.0,
    errors.KeyChanged: math.inf,
    errors.KeyNotRemembered: math.inf,
    errors.NotRegistered: math.inf,
    errors.NameTaken: math.inf,
    errors.SignedInElsewhere: math.inf,
    errors.Banned: math.inf,
    errors.TooManyNames: math.inf,
    errors.NoRoom: math.inf,
    errors.RegistrationClosed: math.inf,
    errors.NotInvited: math.inf,
    errors.TooManyPeople: math.inf,
    errors.ServerKeyChanged: math.inf,
    errors.WrongServerKey: math.inf,
    errors.ServerTooOld: math.inf,
    errors.ServerTooNew: math.inf,
}
"""The errors after which a message is tried again, and the seconds until then; TooFast may say a longer time.

It is sooner if the server responds again, if we register again, or if the user trusts a key. After any other error a
message has failed, and the next one of its queue is sent.
"""


def check_room(store: ClientStore, text: str, count: int = 0, size: int = 0) -> None:
    """Raises InvalidText, and OutboxFull if no such text may be added to those that wait.

    `count`, `size`: how many more are being written to the disk, and their bytes.
    """
    check_text(text)
    waiting, bytes_waiting = store.outgoing_size()
    if waiting + count >= MAX_OUTGOING or bytes_waiting + size + len(text.encode()) > MAX_OUTGOING_BYTES:
        raise errors.OutboxFull


def new_message(recipient: str, room: str, text: str, now: float) -> Outgoing:
    """A message that nobody has tried to send yet."""
    return Outgoing(0, new_id(), recipient, room, text, now)


def is_too_old(message: Outgoing, now: float) -> bool:
    """Whether a message was tried for as long as it may be. Also if the clock was wrong: it may be older than that."""
    return message.attempted_at is not None and not -CLOCK_ERROR <= now - message.attempted_at <= RETRIED_FOR


@attrs.define(eq=False)
class QueuedMessage:
    """A message in a queue. `is_new`: nothing has become of it yet. `was_told`: its user knows that it has to wait.

    `was_tried`: the server may have it. `handed_to`: the row of the recipient whose program has acknowledged it; it is
    not sent again before `resend_at`, if they have the same row then, and the same `session` with this `link_key`.
    `times`: how often it was sent there. `is_kept`: it is on their disk.
    """

    message: Outgoing
    is_new: bool = True
    was_told: bool = False
    was_tried: bool = False
    attempt: trio.CancelScope | None = None
    handed_to: Record | None = None
    link_key: bytes = b""
    session: bytes = b""
    resend_at: float = 0.0
    times: int = 0
    is_kept: bool = False


@attrs.define(eq=False)
class MessageQueue:
    """The messages to one recipient or one room, by their numbers. `error`: why the first one waits."""

    messages: deque[QueuedMessage] = attrs.field(factory=deque)
    wake_up: WakeUp = attrs.field(factory=WakeUp)
    error: errors.ChatError | None = None

    def add(self, one: QueuedMessage) -> None:
        """Add a message. Several tasks that have put theirs at once come here in any order."""
        later: list[QueuedMessage] = []
        while self.messages and self.messages[-1].message.number > one.message.number:
            later.append(self.messages.pop())
        self.messages.extend((one, *reversed(later)))


QueueKey = tuple[str, str]
"""A recipient and a room, one of them empty, in lower case: what has a queue."""


def queue_of(message: Outgoing) -> QueueKey:
    """Which queue a message is in."""
    return fold(message.recipient), fold(message.room)
