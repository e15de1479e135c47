"""The requests of one party that wait for answers, by peer, kind and id.

When they are sent is decided in endpoint.py.
"""

from collections.abc import Callable

import attrs
import trio

from trio_chat.link.session import Peer
from trio_chat.protocol.messages import Answer, PartAck, Request
from trio_chat.protocol.parts import OutgoingRequest

RequestKey = tuple[bytes, int, bytes]
"""What identifies a request: the peer's key, the kind of the request, its id. Not the address, which may change."""


def request_key(peer: Peer, request: Request) -> RequestKey:
    """The key of a request to or from this peer."""
    return (peer.key, request.kind, request.id)


@attrs.define(eq=False)
class RequestGroup:
    """Requests that one task waits for: how many are still pending."""

    left: int
    all_done: trio.Event = attrs.Factory(trio.Event)


@attrs.define(eq=False)
class PendingRequest:
    """A request that waits for its answer. `peer` follows the peer when it moves.

    `session`: the only one of the link on which it is sent; None is any. `heard_at`: when the peer last said
    which of its parts it has.
    """

    key: RequestKey
    peer: Peer
    outgoing: OutgoingRequest
    on_answer: Callable[[Answer], object]
    group: RequestGroup
    session: bytes | None = None
    answer: Answer | None = None
    part_ack: PartAck | None = None
    heard_at: float = float("-inf")
    is_done: bool = False


class PendingRequests:
    """All that wait for an answer."""

    def __init__(self) -> None:
        # By the key of the peer.
        self._waiting: dict[bytes, dict[RequestKey, PendingRequest]] = {}

    def add(self, pending: PendingRequest) -> None:
        """Wait for an answer to this one."""
        self._waiting.setdefault(pending.peer.key, {})[pending.key] = pending

    def find(self, key: RequestKey) -> PendingRequest | None:
        """The request with this key."""
        return self._waiting.get(key[0], {}).get(key)

    def at(self, peer: Peer) -> list[PendingRequest]:
        """Those that wait for the peer at this address."""
        return [pending for pending in self._waiting.get(peer.key, {}).values() if pending.peer == peer]

    def is_alone(self, pending: PendingRequest) -> bool:
        """Whether no other one waits for the same peer."""
        return len(self._waiting[pending.peer.key]) == 1

    def settle(self, key: RequestKey, answer: Answer | None) -> bool:
        """End a request: with this answer, or None without one. Return False if there is no such request."""
        pending = self.find(key)
        if pending is None:
            return False
        self.remove(pending)
        pending.answer = answer
        pending.is_done = True
        pending.group.left -= 1
        if not pending.group.left:
            pending.group.all_done.set()
        # Called here, not by the task that waits: that runs later, when further datagrams of the peer may have been
        # handled, which may make sense only after this answer.
        if answer is not None:
            pending.on_answer(answer)
        return True

    def remove(self, pending: PendingRequest) -> None:
        """Wait for this one no longer. One that is done has been removed: its key may belong to another one by now."""
        if not pending.is_done:
            of_peer = self._waiting[pending.key[0]]
            del of_peer[pending.key]
            if not of_peer:
                del self._waiting[pending.key[0]]
