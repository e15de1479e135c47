"""Messages to one person that go directly, from client to client, and whether it is worth a try.

Who that is, is in people.py. Those that have to go by the server are in letter_sender.py.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

import attrs
import trio

from trio_chat.client.context import ClientContext
from trio_chat.client.events import Fallback
from trio_chat.client.registration import Registration
from trio_chat.crypto.addresses import open_address_untrusted, seal_address
from trio_chat.crypto.letters import Unreadable
from trio_chat.errors import KeyChanged, KeyNotRemembered
from trio_chat.link.session import Peer
from trio_chat.protocol.limits import LIMITS
from trio_chat.protocol.messages import Ack, DirectMessage, Introduce, Introduced
from trio_chat.protocol.records import RETENTION, PublicKeys, Record, fold, is_loopback, is_of_private_network
from trio_chat.protocol.token_buckets import TokenBuckets
from trio_chat.transport.ids import new_id

DETOUR = 60.0
"""Seconds for which messages to a peer that did not answer directly go to the server at once."""


class _Silence(NamedTuple):
    """Somebody did not answer directly: their row, the newest link with them before, and until when that counts."""

    row: Record
    link: bytes
    until: float


@attrs.define(eq=False)
class DirectSender:
    """Sends messages of one person to their recipients' programs."""

    _context: ClientContext
    _registration: Registration
    on_kept: Callable[[Peer, Sequence[bytes]], object] = attrs.field(init=False, default=lambda peer, ids: None)
    """Called with a peer, and the ids of messages that are on its disk, as it says. Others' ids may be among them."""
    _silent: dict[str, _Silence] = attrs.field(init=False, factory=dict)
    # Those who are reached where their newest link comes from, and not at the address in this row.
    _elsewhere: dict[str, Record] = attrs.field(init=False, factory=dict)
    # A server that lies must not make its clients flood an address that it puts into a row.
    _greeted: TokenBuckets = attrs.field(init=False, factory=lambda: TokenBuckets(LIMITS.introductions_per_key, 1))

    def heard(self, name: str, peer: Peer) -> None:
        """A message of theirs has come directly: ours may reach them, too, where that came from."""
        record = self._context.table.get(name)
        if record is not None and record.address != peer.address:
            self._elsewhere[fold(name)] = record
        if self._silent:
            self._silent.pop(fold(name), None)

    def peer(self, record: Record, link_key: bytes) -> Peer:
        """Where somebody with this row is reached: at the address in it, or where they have come from since."""
        at_row = Peer(record.address, link_key)
        is_elsewhere = self._elsewhere.get(fold(record.name)) == record
        return self._context.endpoint.latest_peer(link_key) or at_row if is_elsewhere else at_row

    def introduced(self, request: Introduced) -> None:
        """They send to us directly, says the server. Our router may let that in when something was sent to them."""
        context = self._context
        record, own = context.table.get(request.name), context.table.get(context.name)
        if record is None or not record.online or not self._greeted.take("", trio.current_time()):
            return
        with suppress(KeyChanged, KeyNotRemembered):
            keys = context.pins.keys(record)
            if keys is None or keys.signing in context.store.blocked():
                return
            context.endpoint.greet(Peer(record.address, keys.link))
            # Both have one address outside: perhaps they are behind one router, which does not send back inside.
            if request.at and own is not None and own.host == record.host:
                with suppress(Unreadable):
                    at = open_address_untrusted(
                        request.at, context.identity, sender=record.name, recipient=context.name
                    )
                    if is_of_private_network(at[0]):
                        context.endpoint.greet(Peer(at, keys.link))

    async def send(
        self,
        message: DirectMessage,
        record: Record,
        keys: PublicKeys,
        *,
        in_order: bool = True,
        session: bytes | None = None,
    ) -> Fallback | None:
        """Send a message to somebody who has this row. None: they have it. Else why it has to go by the server.

        `in_order`: not directly while the server keeps an earlier message for them. `session`: the only one of the link
        on which it is sent; None is any.
        """
        if not record.online:
            return Fallback.OFFLINE
        # It would arrive before that one.
        if in_order and self._context.store.is_at_server(record.name, self._context.clock() - RETENTION):
            return Fallback.IN_ORDER
        latest = self._context.endpoint.latest_peer(keys.link)
        link = self._context.endpoint.session(latest) if latest else b""
        introduce, peer = partial(self._introduce, record, keys), self._way_to(record, keys, latest, link)
        if peer is None:
            return Fallback.DETOUR
        answer = await self._context.endpoint.request(
            peer, message, is_patient=False, session=session, on_pause=introduce
        )
        # Not signed: it came on a link with the recipient's key, so nobody else has sent it.
        if isinstance(answer, Ack):
            if peer.address != record.address:
                self._elsewhere[fold(record.name)] = record
            return None
        # For a while, further messages to them need not wait for a window first.
        self._elsewhere.pop(fold(record.name), None)
        self._silent[fold(record.name)] = _Silence(record, link, trio.current_time() + DETOUR)
        return Fallback.NO_ACK

    def _way_to(self, record: Record, keys: PublicKeys, latest: Peer | None, link: bytes) -> Peer | None:
        """Where to send to; None: it is not worth a try. `latest`, `link`: where their newest link is, and which."""
        peer, silent = self.peer(record, keys.link), self._silent.get(fold(record.name))
        # If their row has changed since, it is worth another try: they may have registered at another address.
        if silent is not None and silent.row == record and silent.until > trio.current_time():
            # So it is with a new link: they have come through from there.
            return None if silent.link == link else latest
        # The server sees a client on its own machine as 127.0.0.1 or ::1, which for others is their own machine. What
        # that client sends to us comes from another address.
        if is_loopback(peer.address[0]) and not is_loopback(self._registration.server.address[0]):
            if latest is None or is_loopback(latest.address[0]):
                self._introduce(record, keys)
                return None
            return latest
        return peer

    def _introduce(self, record: Record, keys: PublicKeys) -> None:
        context, server = self._context, self._registration.server
        own, at = context.table.get(context.name), b""
        if own is not None and own.host == record.host:
            address = context.endpoint.own_address(server.address)
            if address is not None and address != own.address:
                at = seal_address(address, keys, sender=context.name, recipient=record.name)
        context.endpoint.tell(server, Introduce(new_id(), record.name, at))
