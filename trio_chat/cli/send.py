"""The program behind `send`: one message, and an exit code for its result.

Its arguments and the handling of its errors are in cli/main.py. It receives nothing that others send.
"""

import sys

from trio_chat.cli.client import ClientOptions
from trio_chat.cli.exit_codes import DONE, REFUSED, SAVED
from trio_chat.client.chat import Chat
from trio_chat.client.events import Delivery
from trio_chat.errors import (
    AddressError,
    ChatError,
    InvalidText,
    NotRegistered,
    ServerKeyChanged,
    ServerNotResponding,
    SignedInElsewhere,
    StoreHeld,
)
from trio_chat.protocol.records import MAX_TEXT, check_name, check_text
from trio_chat.terminal.results import Failed, MessageSent
from trio_chat.terminal.screen import Screen
from trio_chat.terminal.wordings import Phrasebook

_LONGEST_INPUT = 1024 * 1024
_LINE_END = len("\r\n")


async def run_send(options: ClientOptions, recipient: str, text: str, screen: Screen, book: Phrasebook) -> int:
    """Register, send one message, print the result, and leave; return the exit code.

    If the text is `-`, standard input is sent, without its last line end.

    Raises:
        StoreHeld: another program here uses the same store, most likely the client of that name.
        ServerNotResponding, ServerKeyChanged: no answer; the result of the message is not known.
        ChatError: any other reason why the message cannot be sent.
    """
    # All that can be checked is checked before the first file is made.
    check_name(recipient)
    text = _read(text)
    check_text(text)
    if not 1 <= options.server[1] <= 65535:
        raise AddressError(f"not a port: {options.server[1]}")
    identity = options.open_identity()
    outcome: Delivery | ChatError | None = None
    try:
        # Without a backlog nothing is taken from others, and all of it waits for the client of that name.
        async with options.open_store() as store, options.open_chat(identity, store, backlog=0) as chat:
            outcome = await _outcome(chat, recipient, text)
            if isinstance(outcome, Delivery):
                for line in book.render(MessageSent(recipient, outcome.how, outcome.sent_at)):
                    screen.show(line)
    except StoreHeld as error:
        raise StoreHeld(f"{options.name} is in use by another program here") from error
    except (ServerNotResponding, ServerKeyChanged):
        # If the server fell silent only while we were leaving, the result of the message is known.
        if outcome is None:
            raise
    except (NotRegistered, SignedInElsewhere):
        # Another program has the name now. For a client that is a normal end; here the message was not sent.
        for line in book.render(Failed(SignedInElsewhere())):
            screen.show(line)
        return REFUSED
    if isinstance(outcome, ChatError):
        raise outcome
    return SAVED if outcome and outcome.how == "saved" else DONE


async def _outcome(chat: Chat, recipient: str, text: str) -> Delivery | ChatError:
    """The result of the message. A refusal is returned, not raised: an exception would skip deregistering."""
    try:
        return await chat.send(recipient, text)
    except (ServerNotResponding, NotRegistered, SignedInElsewhere):
        raise
    except ChatError as error:
        return error


def _read(given: str) -> str:
    """The text to send. Raises InvalidText if standard input is too long, or not UTF-8."""
    if given != "-":
        return given
    try:
        data = sys.stdin.buffer.read(_LONGEST_INPUT) if sys.stdin is not None else b""
    except OSError:
        data = b""  # a directory, or a terminal that has hung up
    if len(data) > MAX_TEXT + _LINE_END:
        raise InvalidText(len(data))
    try:
        return data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise InvalidText(None) from None
