"""The program behind `send`: one message, and an exit code that tells what became of it.

It reads nothing that others send: see `backlog`. The command itself is declared in cli/main.py, which also runs this
and turns what it raises into exit codes.
"""

import sys
from collections.abc import Callable

from trio_chat.cli.client import ClientOptions
from trio_chat.client.chat import Chat, open_chat
from trio_chat.client.events import Delivery
from trio_chat.crypto.identities import Identity
from trio_chat.errors import (
    AddressError,
    ChatError,
    InvalidText,
    NotRegistered,
    ServerNotResponding,
    SignedInElsewhere,
    StoreHeld,
)
from trio_chat.protocol.records import MAX_TEXT, check_name, check_text
from trio_chat.storage.interface import ClientStore
from trio_chat.terminal.results import Failed, MessageSent
from trio_chat.terminal.styling import Line
from trio_chat.terminal.wordings import Phrasebook

__all__ = ["send_one"]

RECEIVED, REFUSED, SAVED = 0, 2, 3

Say = Callable[[Line], object]

_LONGEST_INPUT = 1024 * 1024
_LINE_END = len("\r\n")


async def send_one(place: ClientOptions, recipient: str, text: str, say: Say, book: Phrasebook) -> int:
    """Register, send one message, say what became of it, and leave; return the exit code.

    The text is standard input, without its last line end, where `-` is given; it is read before anything else.

    Raises:
        StoreHeld: another program here uses the same store, most likely the client of that name.
        ServerNotResponding: before anything was known of the message.
        ChatError: whatever else keeps the message from being sent.
    """
    check_name(place.name)
    check_name(recipient)
    text = _read(text)
    check_text(text)
    if not 1 <= place.server[1] <= 65535:
        raise AddressError(f"not a port: {place.server[1]}")
    identity = place.open_identity()
    try:
        async with place.open_store() as store:
            return await _send(place, identity, store, recipient, text, say, book)
    except StoreHeld as error:
        raise StoreHeld(f"{place.name} is in use by another program here") from error


async def _send(
    place: ClientOptions, identity: Identity, store: ClientStore, recipient: str, text: str, say: Say, book: Phrasebook
) -> int:
    outcome: Delivery | ChatError | None = None
    try:
        async with open_chat(
            place.name, place.server, identity=identity, server_key=place.server_key, store=store, backlog=0
        ) as chat:
            outcome = await _outcome(chat, recipient, text)
            if isinstance(outcome, Delivery):
                for line in book.render(MessageSent(recipient, outcome.how, outcome.sent_at)):
                    say(line)
    except ServerNotResponding:
        if outcome is None:  # else it is silent as we leave, and what became of the message is known
            raise
    except (NotRegistered, SignedInElsewhere):
        for line in book.render(Failed(SignedInElsewhere())):
            say(line)
        return REFUSED
    if isinstance(outcome, ChatError):
        raise outcome
    return SAVED if outcome and outcome.how == "saved" else RECEIVED


async def _outcome(chat: Chat, recipient: str, text: str) -> Delivery | ChatError:
    """What became of the message. A refusal is returned: after it, the chat still has to be left politely."""
    try:
        return await chat.send(recipient, text)
    except (ServerNotResponding, NotRegistered, SignedInElsewhere):
        raise
    except ChatError as error:
        return error


def _read(given: str) -> str:
    """The text that is meant. Raises InvalidText if standard input has far too much, or no UTF-8."""
    if given != "-":
        return given
    try:
        data = sys.stdin.buffer.read(_LONGEST_INPUT) if sys.stdin is not None else b""
    except OSError:
        data = b""  # a folder, or a terminal that was hung up
    if len(data) > MAX_TEXT + _LINE_END:
        raise InvalidText(len(data))
    try:
        return data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise InvalidText(None) from None
