"""The program behind `send --queue`: one message, which waits on the disk until it is sent.

What it has in common with `send` is in cli/send.py. How messages are sent is in client/outbox.py.
"""

import time

import attrs

from trio_chat.cli.client import ClientOptions
from trio_chat.cli.exit_codes import DONE, QUEUED, SAVED
from trio_chat.cli.send import NotInGroup, name_in_use, read_message
from trio_chat.client.early_outbox import EarlyOutbox
from trio_chat.client.events import MessageState, OutgoingChanged
from trio_chat.errors import (
    AddressError,
    ChatError,
    NotAMember,
    ServerNotResponding,
    SignedInElsewhere,
    StoreFailed,
    StoreHeld,
    TooFast,
)
from trio_chat.protocol.records import fold
from trio_chat.storage.client_interface import ClientStore
from trio_chat.storage.outgoing import Outgoing
from trio_chat.terminal.phrases import Phrase
from trio_chat.terminal.screen import Screen
from trio_chat.terminal.wordings import Phrasebook

_WAITS = (ServerNotResponding, TooFast, SignedInElsewhere, AddressError)
"""If the server cannot be reached because of these, the message waits. The network may be down, and with it the name of
the server's host. With all others the name is not let in, and its user has to do something.
"""


async def run_queued_send(options: ClientOptions, recipient: str, text: str, screen: Screen, book: Phrasebook) -> int:
    """Put one message on the disk, register, send it and all others that wait, and leave; return the exit code.

    Raises as `run_send` does, if the message has failed. Then it does not wait any more.
    """
    text = read_message(options, recipient, text)
    try:
        async with options.open_store() as store:
            change, others = await _put_and_send(options, store, recipient, text, screen, book)
    except StoreHeld as held:
        raise name_in_use(options) from held
    match change.state, change.error:
        case MessageState.FAILED, NotAMember(room=room):
            raise NotInGroup(options, room)
        case MessageState.FAILED, ChatError() as error:
            raise error
        case MessageState.WAITING, _:
            lines = book.queued(change)
        case _:
            lines = book.render(change)
    # Not `MessagesWait`: its advice is for clients.
    for line in (*lines, *(book.lines(Phrase.OTHERS_WAIT, count=others) if others else ())):
        screen.show(line)
    return {MessageState.WAITING: QUEUED, MessageState.SAVED: SAVED}.get(change.state, DONE)


async def _put_and_send(
    options: ClientOptions, store: ClientStore, recipient: str, text: str, screen: Screen, book: Phrasebook
) -> tuple[OutgoingChanged, int]:
    """What has become of the message, and how many others wait."""
    identity = options.open_identity()
    room = recipient[1:] if recipient.startswith("#") else ""
    # Before the first datagram: whatever happens to this program now, the next one sends it.
    message = await EarlyOutbox(options.name, store, time.time).put("" if room else recipient, room, text)
    change = _waits(message, None)

    def report(news: OutgoingChanged) -> None:
        nonlocal change
        called = next((known for known in chat.known_rooms if fold(known) == fold(news.room)), news.room)
        news = attrs.evolve(news, room=called)
        if news.number == message.number:
            change = news
        elif news.state is not MessageState.WAITING:
            # Which one that was: they have not typed it now.
            for line in book.render(attrs.evolve(news, waited=True)):
                screen.show(line)

    try:
        # Without a backlog nothing is taken from others, as in `run_send`.
        async with options.open_chat(identity, store, backlog=0) as chat:
            await chat.outbox.send_waiting(report)
    except StoreFailed:
        raise
    except _WAITS as error:
        # If the server fell silent only while we were leaving, what became of the message is known.
        if change.error is None and change.state is MessageState.WAITING:
            change = _waits(message, error)
    except ChatError:
        await store.cancel_outgoing(message)
        raise
    return change, sum(one.number != message.number for one in store.outgoing())


def _waits(message: Outgoing, error: ChatError | None) -> OutgoingChanged:
    return OutgoingChanged(
        *(message.number, message.id, message.recipient, message.room, message.at), MessageState.WAITING, error=error
    )
