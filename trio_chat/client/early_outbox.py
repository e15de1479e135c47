"""The outbox before there is a chat, or without one: messages are put on the disk, and the next chat sends them.

How they are sent is in outbox.py.
"""

from collections.abc import Callable

import attrs

from trio_chat import errors
from trio_chat.client.outgoing_queue import check_room, new_message
from trio_chat.protocol.records import check_name, fold
from trio_chat.storage.client_interface import ClientStore
from trio_chat.storage.outgoing import Outgoing as Outgoing


@attrs.frozen(eq=False)
class EarlyOutbox:
    """Keeps messages of this name in this store. `clock`: seconds since 1970, UTC."""

    _name: str
    store: ClientStore
    _clock: Callable[[], float]

    async def put(self, recipient: str, room: str, text: str) -> Outgoing:
        """Keep a message to a person or to a room, one of which is empty. When this returns it is on the disk.

        Raises InvalidName, InvalidRecipient, InvalidText, OutboxFull.
        """
        check_name(recipient or room)
        if fold(recipient) == fold(self._name):
            raise errors.InvalidRecipient
        check_room(self.store, text)
        private = (one.key for one in self.store.epochs() if one.body and not one.is_ended)
        room_id = next((key.room for key in private if room and fold(key.name) == fold(room)), "")
        message = new_message(recipient, room, text, self._clock())
        return await self.store.put_outgoing(attrs.evolve(message, room_id=room_id))

    def waiting(self) -> list[Outgoing]:
        """The messages that wait, in the order in which they were put."""
        return self.store.outgoing()

    async def cancel(self, number: int) -> Outgoing:
        """Withdraw the message with this number; return it. Raises NotWaiting."""
        # Not what was told to be received: if it is lost with their program after all, it is sent again (seed 90084).
        waiting = [one for one in self.waiting() if not one.is_received]
        message = next((one for one in waiting if one.number == number), None)
        if message is None:
            raise errors.NotWaiting(number)
        await self.store.cancel_outgoing(message)
        return message
