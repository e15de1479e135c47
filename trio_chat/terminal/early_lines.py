"""What is typed while the chat is not open yet, because the server is away: messages are kept until it is.

Other commands wait for the chat; see line_reader.py.
"""

from collections.abc import Callable

import attrs

from trio_chat.client.early_outbox import EarlyOutbox, Outgoing
from trio_chat.client.events import MessageState, OutgoingChanged
from trio_chat.errors import ChatError, ServerNotResponding, StoreFailed
from trio_chat.protocol.records import EVERYONE_NAME
from trio_chat.terminal import commands, results
from trio_chat.terminal.outbox_words import waiting_messages


@attrs.frozen(eq=False)
class EarlyLines:
    """Carries out what needs no server."""

    _outbox: EarlyOutbox
    _tell: Callable[[results.Result], None]

    async def carry_out(self, line: str) -> bool:
        """Carry out a command for which no server is needed; return whether it is one."""
        try:
            match commands.parse(line):
                case commands.Send(recipient, text):
                    self._kept(await self._outbox.put(recipient, "", text))
                case commands.SendAll(text):
                    self._kept(await self._outbox.put("", EVERYONE_NAME, text))
                case commands.SendGroup(text, str(room)):
                    self._kept(await self._outbox.put("", room, text))
                case commands.ListOutbox():
                    self._tell(results.OutboxList(tuple(waiting_messages(self._outbox.waiting()))))
                case commands.CancelMessage(number):
                    one = await self._outbox.cancel(number)
                    was_tried = one.attempted_at is not None
                    self._tell(results.MessageCancelled(number, one.id, one.recipient, one.room, one.at, was_tried))
                case _:
                    return False
        except StoreFailed:
            raise
        except ChatError as error:
            self._tell(results.Failed(error))
        return True

    def _kept(self, one: Outgoing) -> None:
        about = (one.number, one.id, one.recipient, one.room, one.at)
        self._tell(results.MessageQueued(*about))
        self._tell(OutgoingChanged(*about, MessageState.WAITING, error=ServerNotResponding()))

    def tell_waiting(self) -> None:
        """If messages wait, say how many."""
        if waiting := waiting_messages(self._outbox.waiting()):
            self._tell(results.MessagesWait(len(waiting)))
