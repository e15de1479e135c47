"""The program behind `send`: one message, and an exit code for its result.

Its arguments are in cli/main.py, the handling of its errors in cli/running.py. It receives nothing that others send.
"""

import shlex
import sys

from trio_chat.cli.client import ClientOptions
from trio_chat.cli.exit_codes import DONE, REFUSED, SAVED
from trio_chat.client.chat import Chat
from trio_chat.errors import (
    AddressError,
    ChatError,
    InvalidText,
    NotAMember,
    NotRegistered,
    ServerKeyChanged,
    ServerNotResponding,
    ServerTooNew,
    ServerTooOld,
    SignedInElsewhere,
    StoreHeld,
)
from trio_chat.protocol.records import EVERYONE_NAME, MAX_TEXT, check_name, check_text, fold
from trio_chat.terminal.results import Failed, MessageSent, PostAccepted
from trio_chat.terminal.screen import Screen
from trio_chat.terminal.wordings import Phrasebook, show_address

_LONGEST_INPUT = 1024 * 1024
_LINE_END = len("\r\n")


class NotInGroup(ChatError):
    """The sender is not in the group to which a message should go. The text is the command that helps."""

    def __init__(self, options: ClientOptions, room: str) -> None:
        files = {"--identity": options.identity, "--store": options.store}
        given = "".join(f" {option} {shlex.quote(path)}" for option, path in files.items() if path)
        join = f"echo join_group {room} | trio-chat client {options.name} {show_address(options.server)}{given}"
        super().__init__(f"{options.name} is not in the group {room}: to join it once, type: {join}")


async def run_send(options: ClientOptions, recipient: str, text: str, screen: Screen, book: Phrasebook) -> int:
    """Register, send one message, print the result, and leave; return the exit code.

    `recipient` is a person, or `#` and a group. If the text is `-`, standard input is sent, without its last line end.

    Raises:
        StoreHeld: another program here uses the same store, most likely the client of that name.
        NotInGroup: a message to a group that this name is not in.
        ServerNotResponding, ServerKeyChanged, ServerTooOld, ServerTooNew: no answer; the result is not known.
        ChatError: any other reason why the message cannot be sent.
    """
    text = read_message(options, recipient, text)
    identity = options.open_identity()
    outcome: MessageSent | PostAccepted | ChatError | None = None
    try:
        # Without a backlog nothing is taken from others, and all of it waits for the client of that name.
        async with options.open_store() as store, options.open_chat(identity, store, backlog=0) as chat:
            outcome = await _outcome(chat, recipient, text)
            if not isinstance(outcome, ChatError):
                for line in book.render(outcome):
                    screen.show(line)
    except StoreHeld as error:
        raise name_in_use(options) from error
    except (ServerNotResponding, ServerKeyChanged, ServerTooOld, ServerTooNew):
        # If the server fell silent only while we were leaving, the result of the message is known.
        if outcome is None:
            raise
    except (NotRegistered, SignedInElsewhere):
        # Another program has the name now. For a client that is a normal end; here the message was not sent.
        for line in book.render(Failed(SignedInElsewhere())):
            screen.show(line)
        return REFUSED
    if isinstance(outcome, NotAMember):
        raise NotInGroup(options, outcome.room)
    if isinstance(outcome, ChatError):
        raise outcome
    return SAVED if isinstance(outcome, MessageSent) and outcome.how == "saved" else DONE


async def _outcome(chat: Chat, recipient: str, text: str) -> MessageSent | PostAccepted | ChatError:
    """The result of the message. A refusal is returned, not raised: an exception would skip deregistering."""
    try:
        if recipient.startswith("#"):
            return await _post(chat, recipient.removeprefix("#"), text)
        delivery = await chat.send(recipient, text)
        return MessageSent(recipient, delivery.how, delivery.sent_at)
    except (ServerNotResponding, NotRegistered, SignedInElsewhere):
        raise
    except ChatError as error:
        return error


async def _post(chat: Chat, room: str, text: str) -> PostAccepted:
    if fold(room) == EVERYONE_NAME:
        await chat.send_all(text)
        return PostAccepted()
    await chat.post(room, text)
    return PostAccepted(next((known for known in chat.known_rooms if fold(known) == fold(room)), room))


def read_message(options: ClientOptions, recipient: str, text: str) -> str:
    """The text to send. Raises a ChatError if anything is wrong that can be seen before the first file is made."""
    check_name(recipient.removeprefix("#"))
    text = _read(text)
    check_text(text)
    if not 1 <= options.server[1] <= 65535:
        raise AddressError(f"not a port: {options.server[1]}")
    return text


def name_in_use(options: ClientOptions) -> StoreHeld:
    """The error of a name whose store another program has open."""
    return StoreHeld(f"{options.name} is in use by another program here: write there, or end it first")


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
