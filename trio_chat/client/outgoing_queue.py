"""What the outbox works with: queues of messages, how many may wait, and after which errors they are tried again.

When they are sent is in outbox.py; how they are stored is in storage/outgoing.py.
"""

import math
from collections import deque
from collections.abc import Callable

import attrs
import trio

from trio_chat import errors
from trio_chat.link.session import Peer
from trio_chat.protocol.records import Record, check_text, fold
from trio_chat.storage.interface import ClientStore
from trio_chat.storage.outgoing import Outgoing
from trio_chat.tasks import WakeUp
from trio_chat.transport.endpoint import new_id

MAX_OUTGOING, MAX_OUTGOING_BYTES = 10_000, 64 * 1024 * 1024
"""How many messages may wait, and how many bytes of text."""

RETRIED_FOR = 14 * 24 * 3600.0
"""Seconds (14 days) after its first attempt in which a message is sent again. Its recipient and the server remember its
id for longer than that; later, it could be shown twice."""

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
    errors.ServerKeyChanged: math.inf,
    errors.WrongServerKey: math.inf,
}
"""The errors after which a message is tried again, and the seconds until then; TooFast may say a longer time.

It is sooner if the server responds again, if we register again, or if the user trusts a key. After any other error a
message has failed, and the next one of its queue is sent.
"""


def check_room(store: ClientStore, text: str) -> None:
    """Raises InvalidText, and OutboxFull if no such text may be added to those that wait."""
    check_text(text)
    count, size = store.outgoing_size()
    if count >= MAX_OUTGOING or size + len(text.encode()) > MAX_OUTGOING_BYTES:
        raise errors.OutboxFull


async def keep_message(
    store: ClientStore,
    recipient: str,
    room: str,
    text: str,
    now: float,
    attempted_at: float | None = None,
    on_stored: Callable[[Outgoing], object] | None = None,
) -> Outgoing:
    """Add a message to those that wait; when this returns it is on the disk. Raises InvalidText, OutboxFull."""
    check_room(store, text)
    return await store.put_outgoing(Outgoing(0, new_id(), recipient, room, text, now, attempted_at), on_stored)


@attrs.define(eq=False)
class QueuedMessage:
    """A message in a queue. `is_new`: nothing has become of it yet. `was_told`: its user knows that it has to wait.

    `was_tried`: the server may have it. `handed_to`: the row of the recipient whose program has acknowledged it; it is
    not sent again before `resend_at`, if they have the same row then, and `peer` the same `session` of its link.
    `times`: how often it was sent there. `is_kept`: it is on their disk.
    """

    message: Outgoing
    is_new: bool = True
    was_told: bool = False
    was_tried: bool = False
    attempt: trio.CancelScope | None = None
    handed_to: Record | None = None
    peer: Peer | None = None
    session: bytes = b""
    resend_at: float = 0.0
    times: int = 0
    is_kept: bool = False


@attrs.define(eq=False)
class MessageQueue:
    """The messages to one recipient or one room, in order. `error`: why the first one waits."""

    messages: deque[QueuedMessage] = attrs.field(factory=deque)
    wake_up: WakeUp = attrs.field(factory=WakeUp)
    error: errors.ChatError | None = None


QueueKey = tuple[str, str]
"""A recipient and a room, one of them empty, in lower case: what has a queue."""


def queue_of(message: Outgoing) -> QueueKey:
    """Which queue a message is in."""
    return fold(message.recipient), fold(message.room)
