"""Tells those who keep their direct messages until these are on our disk that they are: `MessagesKept`.

Which messages we have is decided in inbox.py. A notice that is lost is not sent again after its window: the sender
sends the message again, and each copy asks for another notice.
"""

from collections import Counter
from collections.abc import Iterator, Mapping

import attrs
import trio

from trio_chat.client.context import ClientContext
from trio_chat.link.session import Peer
from trio_chat.protocol.limits import is_fair
from trio_chat.protocol.messages import MAX_KEPT, MessagesKept
from trio_chat.tasks import WakeUp
from trio_chat.transport.ids import new_id

NOTICE_PAUSE = 0.1
"""Seconds for which ids are gathered, while the store gathers what it writes. So one id is told ten times a second at
most, however often its message comes.
"""

MAX_UNTOLD = 4096
"""Ids that wait to be told, of all peers. Of one key, a quarter of them at most."""


@attrs.define
class _Untold:
    """What is to be told to one peer, which has sent it in this name. An id is in it once, however often it came."""

    sender: str
    ids: dict[bytes, None] = attrs.field(factory=dict)


@attrs.define(eq=False)
class KeptNotices:
    """The notices of one client. Run `notices_loop` as a task. `dropped`: ids for which there was no room."""

    _context: ClientContext
    dropped: int = attrs.field(init=False, default=0)
    # By address, too: two programs of one owner, with two names, have one key.
    _untold: dict[Peer, _Untold] = attrs.field(init=False, factory=dict)
    _counts: Counter[bytes] = attrs.field(init=False, factory=Counter)
    _wake_up: WakeUp = attrs.field(init=False, factory=WakeUp)

    def add(self, peer: Peer, sender: str, id: bytes) -> None:
        """The store was given a message of this peer: tell them when it is on the disk."""
        if peer in self._untold and id in self._untold[peer].ids:
            return
        if not is_fair(self._counts[peer.key], 1, MAX_UNTOLD - self._counts.total()):
            self.dropped += 1
            return
        self._untold.setdefault(peer, _Untold(sender)).ids[id] = None
        self._counts[peer.key] += 1
        self._wake_up.set()

    async def notices_loop(self) -> None:
        """Tell each peer, once what it sent is on the disk, until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                await self._wake_up.wait()
                await trio.sleep(NOTICE_PAUSE)
                untold, self._untold, self._counts = self._untold, {}, Counter()
                # What came after this line may not be on the disk when `flush` returns.
                await self._context.store.flush()
                # Not waited for: one peer that does not answer would hold up the others for a window. A window is as
                # long as five pauses, and a key has MAX_UNTOLD / 4 ids at most: so there are few of these tasks.
                for notices in self._notices(untold):
                    nursery.start_soon(self._context.endpoint.fan_out, notices, lambda peer, answer: None)

    def _notices(self, untold: Mapping[Peer, _Untold]) -> Iterator[Mapping[Peer, MessagesKept]]:
        """The first notice to each peer, then the second one to those who get another, and so on."""
        blocked, signing_key = self._context.store.blocked(), self._context.pins.signing_key
        # They may have been blocked since their message came.
        ids_of = {peer: [*one.ids] for peer, one in untold.items() if signing_key(one.sender) not in blocked}
        for first in range(0, max(map(len, ids_of.values()), default=0), MAX_KEPT):
            yield {
                peer: MessagesKept(new_id(), tuple(ids[first : first + MAX_KEPT]))
                for peer, ids in ids_of.items()
                if len(ids) > first
            }
