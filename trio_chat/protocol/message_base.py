"""What all messages have in common, and the answers that any request may get.

The messages are in messages.py and room_messages.py, which import this.
"""

from typing import ClassVar

import attrs

from trio_chat.protocol.records import Id, Kind, Reason, Seconds


@attrs.frozen
class OfRequest:
    """What names the request that is answered: its kind and id."""

    kind: ClassVar[int]
    of: Kind
    id: Id


@attrs.frozen
class Ack(OfRequest):
    """The request was received, and accepted if there was something to accept."""

    kind: ClassVar[int] = 1


@attrs.frozen
class Busy(OfRequest):
    """No room at the moment. The sender keeps the request and tries again later."""

    kind: ClassVar[int] = 2


@attrs.frozen
class Refused(OfRequest):
    """The request is refused. Sending the same again does not help, except after registering, or some time later.

    `after`: with TOO_FAST, the seconds after which it is accepted if nothing else is sent meanwhile.
    """

    kind: ClassVar[int] = 3
    reason: Reason
    after: Seconds = 0.0


@attrs.frozen
class Answerable:
    """What all requests have: an id of 16 random bytes, and the answers that any request may get."""

    kind: ClassVar[int]
    id: Id

    def ack(self) -> Ack:
        return Ack(self.kind, self.id)

    def busy(self) -> Busy:
        return Busy(self.kind, self.id)

    def refused(self, reason: Reason, after: float = 0.0) -> Refused:
        return Refused(self.kind, self.id, reason, after)
