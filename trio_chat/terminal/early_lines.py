"""What is typed while the chat is not open yet, because the server is away: messages are kept until it is.

Other commands wait for the chat; see line_reader.py.
"""

from collections.abc import Callable

import attrs

from trio_chat.client.events import MessageState, OutgoingChanged
from trio_chat.client.outgoing_queue import keep_message
from trio_chat.errors import ChatError, InvalidRecipient, NotWaiting, ServerNotResponding, StoreFailed
from trio_chat.protocol.records import EVERYONE_NAME, check_name, fold
from trio_chat.storage.interface import ClientStore
from trio_chat.terminal import commands, results
from trio_chat.terminal.outbox_words import waiting_messages


@attrs.frozen(eq=False)
class EarlyLines:
    """Keeps messages of this name in this store. `clock`: seconds since 1970, UTC."""

    _name: str
    _store: ClientStore
    _clock: Callable[[], float]
    _tell: Callable[[results.Result], None]

    async def carry_out(self, line: str) -> bool:
        """Carry out a command for which no server is needed; return whether it is one."""
        try:
            command = commands.parse(line)
            match command:
                case commands.Send(recipient, text):
                    await self._keep(recipient, "", text)
                case commands.SendAll(text):
                    await self._keep("", EVERYONE_NAME, text)
                case commands.SendGroup(text, str(room)):
                    await self._keep("", room, text)
                case commands.ListOutbox():
                    self._tell(results.OutboxList(tuple(waiting_messages(self._store.outgoing()))))
                case commands.CancelMessage(number):
                    await self._cancel(number)
                case _:
                    return False
        except StoreFailed:
            raise
        except ChatError as error:
            self._tell(results.Failed(error))
        return True

    async def _keep(self, recipient: str, room: str, text: str) -> None:
        check_name(recipient or room)
        if fold(recipient) == fold(self._name):
            raise InvalidRecipient
        one = await keep_message(self._store, recipient, room, text, self._clock())
        about = (one.number, one.id, one.recipient, one.room, one.at)
        self._tell(results.MessageQueued(*about))
        self._tell(OutgoingChanged(*about, MessageState.WAITING, error=ServerNotResponding()))

    async def _cancel(self, number: int) -> None:
        one = next((one for one in self._store.outgoing() if one.number == number), None)
        if one is None:
            raise NotWaiting(number)
        await self._store.cancel_outgoing(one)
        was_tried = one.attempted_at is not None
        self._tell(results.MessageCancelled(number, one.id, one.recipient, one.room, one.at, was_tried))
