"""The outbox of a chat that is a fake: `messages` wait in it. Nothing is sent from here."""

import attrs

from trio_chat.errors import NotWaiting


@attrs.define
class FakeOutbox:
    messages: list = attrs.field(factory=list)

    def waiting(self):
        return [*self.messages]

    async def cancel(self, number):
        for one in self.messages:
            if one.number == number:
                self.messages.remove(one)
                return one
        raise NotWaiting(number)
