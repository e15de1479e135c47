"""Requests over sealed links, for one party: windows, attempts, resends, parts, and answers that are repeated.

One task reads the socket. Tasks that wait for an answer have an entry in one dict. What a request means is not known
here: the owner passes a function that takes a request and returns its answer, or says that there is none yet.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import attrs
import trio

from trio_chat.link.events import KeysLearned, LinkEvent, Moved, OtherVersion, Received, SessionReplaced, Transmit
from trio_chat.link.links import Links
from trio_chat.link.session import Peer
from trio_chat.protocol.duplicates import DuplicateMemory, Reaction, Seen
from trio_chat.protocol.frames import unpack_untrusted
from trio_chat.protocol.limits import origin
from trio_chat.protocol.messages import Answer, Part, PartAck, Request, is_repeatable
from trio_chat.protocol.parts import Assembly, OutgoingRequest, assembled_untrusted
from trio_chat.protocol.records import MAX_PARTS, Address, PublicKeys
from trio_chat.protocol.wire import WireError, decode_untrusted, encode
from trio_chat.transport.key_queries import KeyQuery
from trio_chat.transport.pending_requests import PendingRequest, PendingRequests, RequestGroup, RequestKey, request_key
from trio_chat.transport.sender import PeerSender
from trio_chat.transport.udp import DatagramSocket
from trio_chat.transport.windows import ACK_WINDOW, LINK_STEPS, SERVER_ATTEMPTS, send_until, windows_for

BURST = 256
CATCH_UP = 16
BEHIND_AFTER = 0.5
"""Seconds without a pause between datagrams after which this party is behind: many clients that start at the same time
are read in less."""
BEHIND_FOR = 5.0
"""Seconds for which it counts as behind: the reason may go on."""
CLEANUP_INTERVAL = 5.0
SHORTEST = 0.001
"""Seconds: nothing is sent again for less."""

FLUSH_AFTER = 32
"""How many datagrams are handled before their answers are sent: more together would let the first ones wait."""

Handler = Callable[[Peer, Request], Answer | Reaction]
OnLinkEvent = Callable[[LinkEvent], object]


@attrs.define
class DroppedCounts:
    """What was dropped: bytes that are not a message sealed for us, and answers that no request waits for."""

    not_a_message: int = 0
    unexpected_answers: int = 0


class Endpoint:
    """One party on a datagram socket, and its links. Run `listen` as a task for as long as it is used."""

    def __init__(self, socket: DatagramSocket, links: Links) -> None:
        self.counts = DroppedCounts()
        self._socket = socket
        self._links = links
        self._sender = PeerSender(socket, links)
        self._cleaned_at = float("-inf")
        self._bundled = 0
        self._is_behind = False
        self._caught_up_at = trio.current_time()
        self._behind_until = float("-inf")
        self._key_queries: set[KeyQuery] = set()
        self._pending = PendingRequests()
        self._memory = DuplicateMemory()
        self._assembly = Assembly()
        # Of the parts that arrived together, the last one tells of all. None is sent if the answer is there.
        self._part_acks: dict[RequestKey, tuple[Peer, PartAck]] = {}

    async def query_keys(
        self,
        addresses: Sequence[Address],
        attempts: int = SERVER_ATTEMPTS,
        is_wanted: Callable[[PublicKeys], bool] = lambda keys: True,
    ) -> KeysLearned | OtherVersion | None:
        """Ask for the keys of the party at one of these addresses, in at most `attempts` windows.

        Returns the first answer with keys that are wanted, or of several the one whose address is earlier in the list.
        If none has come after the last window: other keys, or another version, or None. Nothing of it is trusted yet.
        """
        query = KeyQuery(addresses, is_wanted)

        async def send_hellos() -> None:
            for address in addresses:
                self._sender.transmit(self._links.hello(address))

        self._key_queries.add(query)
        try:
            await send_until(query.answered.wait, send_hellos, attempts)
        finally:
            self._key_queries.discard(query)
            if not self._key_queries:
                self._links.forget_hellos()
        return query.best()

    async def request(
        self,
        peer: Peer,
        request: Request,
        *,
        attempts: int = 1,
        is_patient: bool = True,
        on_answer: Callable[[Answer], object] = lambda answer: None,
        on_pause: Callable[[], object] = lambda: None,
        session: bytes | None = None,
        begun: OutgoingRequest | None = None,
    ) -> Answer | PartAck | None:
        """Send a request in each of `attempts` windows, and again after each of RESEND_DELAYS in it, until answered.

        Returns the answer, a PartAck if the peer acknowledged parts but did not answer, or None if it stayed silent.
        The windows begin again when there is a link, and when the peer acknowledges parts. `is_patient`: a peer that is
        so far away that no answer can come in one window gets as many more as it needs. `on_answer` is called with the
        answer before any later datagram is handled, `on_pause` in the first windows as by `send_until`. `session`: the
        only one on which it is sent; None is any. `begun`: what was sent of it before.
        """
        group = RequestGroup(1)
        pending = self._add_pending(peer, request, begun or OutgoingRequest.of(request), on_answer, group)
        pending.session = session
        send = partial(self._send_pending, [pending])
        try:
            windows = attempts + (self._more_windows(peer) if is_patient else 0)
            if not await send_until(group.all_done.wait, send, windows, on_pause):
                await self._go_on(pending, attempts, is_patient=is_patient)
        finally:
            self._pending.remove(pending)
        return pending.answer or pending.part_ack

    async def _go_on(self, pending: PendingRequest, attempts: int, *, is_patient: bool) -> None:
        """The windows are over. They begin again at the time when the handshake went on, or parts were acknowledged."""
        # But not for ever: somebody could go on like that, and never answer.
        for _ in range(LINK_STEPS + MAX_PARTS):
            now, peer = trio.current_time(), pending.peer
            heard_at = max(self._links.progressed_at(peer, now), pending.heard_at)
            windows = attempts + (self._more_windows(peer) if is_patient else 0)
            end = heard_at + windows * ACK_WINDOW
            if end <= now + SHORTEST:
                return
            with trio.move_on_at(end):
                if await send_until(pending.group.all_done.wait, partial(self._send_pending, [pending]), windows):
                    return

    def _more_windows(self, peer: Peer) -> int:
        return windows_for(self._links.round_trip(peer))

    async def fan_out(
        self, requests: Mapping[Peer, Request], on_answer: Callable[[Peer, Answer], object]
    ) -> dict[Peer, OutgoingRequest]:
        """Send a request to each of many peers, and again to those that are silent, in one window for all.

        `on_answer` is called with each answer when it arrives, and never for a peer that stays silent. Returns those:
        `request` can go on with what they have of it.
        """
        if not requests:
            return {}  # nothing to wait for
        # One request may go to many: it is encoded once. By identity: to compare long requests costs time, too.
        distinct = {id(request): request for request in requests.values()}
        outgoing = {key: OutgoingRequest.of(request) for key, request in distinct.items()}
        group = RequestGroup(len(requests))
        pending = [
            self._add_pending(peer, request, outgoing[id(request)].copy(), partial(on_answer, peer), group)
            for peer, request in requests.items()
        ]
        try:
            await send_until(group.all_done.wait, partial(self._send_pending, pending), 1)
        finally:
            for one in pending:
                self._pending.remove(one)
        return {one.peer: one.outgoing for one in pending if not one.is_done}

    def answer(self, peer: Peer, request: Request, answer: Answer) -> None:
        """Answer a request, now and whenever a copy of it arrives."""
        data = encode(answer)
        key = request_key(peer, request)
        if is_repeatable(request, answer):
            self._memory.settle(key, data)
        else:
            self._memory.forget(key)
        self._assembly.drop(key)
        self._part_acks.pop(key, None)
        self._sender.gather(peer, data)

    def own_address(self, towards: Address) -> Address | None:
        """The address from which what is sent to that address goes; None if there is no way to it."""
        return self._socket.own_address(towards)

    def tell(self, peer: Peer, request: Request) -> None:
        """Send a request that is not answered, once."""
        self._sender.gather(peer, encode(request))

    def greet(self, peer: Peer) -> None:
        """Send something to this peer, which opens a router on our side for it; if there is no link, begin one."""
        self._sender.transmit(self._links.greet(peer, trio.current_time()))

    def session(self, peer: Peer) -> bytes:
        """Which session is used to send to this peer: another one after the peer has started again."""
        return self._links.session(peer)

    def latest_peer(self, key: bytes) -> Peer | None:
        """Where the owner of this link key is, by their newest link; None if there is none."""
        return self._links.latest_peer(key)

    def abandon(self, peer: Peer) -> None:
        """This peer is gone: requests to it end now, as if it had stayed silent."""
        for pending in self._pending.at(peer):
            self._pending.settle(pending.key, None)

    async def listen(self, handle: Handler, notify: OnLinkEvent = lambda event: None) -> None:
        """Read the socket until cancelled. `handle` gets each new request and must not raise.

        `notify` gets Moved, when requests to that peer have followed it, ServerCalled, and OtherVersion of no answer.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._sender.flush_loop)
            await self._read(handle, notify)

    async def _read(self, handle: Handler, notify: OnLinkEvent) -> None:
        while True:
            batch = await self._socket.receive_batch()
            self._is_behind = len(batch) >= BURST
            now = trio.current_time()
            if not self._is_behind:
                self._caught_up_at = now
            if now - self._caught_up_at > BEHIND_AFTER:
                self._behind_until = now + BEHIND_FOR
            self._links.is_behind = now < self._behind_until
            if now - self._cleaned_at >= CLEANUP_INTERVAL:
                self._cleaned_at = now
                self._links.sweep(now)
                self._assembly.sweep()
            await self._handle_batch(batch, handle, notify)

    async def _handle_batch(self, batch: Iterable[tuple[bytes, Address]], handle: Handler, notify: OnLinkEvent) -> None:
        self._sender.is_held = True
        for count, (data, source) in enumerate(batch, start=1):
            self._receive_untrusted(data, source, handle, notify)
            if count % FLUSH_AFTER == 0:
                self._flush()
            # A datagram may have 64 messages: full ones from one peer must not keep all other tasks waiting.
            if self._bundled >= BURST:
                self._bundled = 0
                self._sender.is_held = False
                self._flush()
                await trio.lowlevel.checkpoint()
                self._sender.is_held = True
        self._sender.is_held = False
        self._flush()

    def _flush(self) -> None:
        for peer, part_ack in self._part_acks.values():
            self._sender.gather(peer, encode(part_ack))
        self._part_acks.clear()
        self._sender.flush()

    async def catch_up(self) -> None:
        """Let `listen` handle what has arrived, before more is sent that will be answered.

        Otherwise answers wait in the socket's buffer until their windows have ended, or do not fit into it.
        """
        await trio.lowlevel.checkpoint()
        # Bounded: a flood must not keep this party from sending.
        for _ in range(CATCH_UP):
            if not self._is_behind:
                return
            await trio.lowlevel.checkpoint()

    # --- pending requests ---

    def _add_pending(
        self,
        peer: Peer,
        request: Request,
        outgoing: OutgoingRequest,
        on_answer: Callable[[Answer], object],
        group: RequestGroup,
    ) -> PendingRequest:
        pending = PendingRequest(request_key(peer, request), peer, outgoing, on_answer, group)
        self._pending.add(pending)
        return pending

    # --- sending ---

    async def _send_pending(self, requests: Sequence[PendingRequest]) -> None:
        unanswered = [pending for pending in requests if not pending.is_done]
        for count, pending in enumerate(unanswered, start=1):
            self._send_missing(pending)
            # The answers to a large fan-out must be read meanwhile, or the socket's buffer overflows.
            if count % BURST == 0:
                await trio.lowlevel.checkpoint()

    def _send_missing(self, pending: PendingRequest, *, is_due: bool = True) -> None:
        if pending.session is not None and pending.session != self.session(pending.peer):
            return
        # A lone request is not delayed, not even by a turn. If others wait for this peer, their tasks may be about to
        # send, too: together they take fewer datagrams. In the next turn there may be another session.
        is_sent_now = pending.session is not None or self._pending.is_alone(pending)
        send = self._sender.send if is_sent_now else self._sender.gather
        for data in pending.outgoing.missing(trio.current_time(), is_due=is_due):
            send(pending.peer, data)

    # --- receiving ---

    def _receive_untrusted(self, data: bytes, source: Address, handle: Handler, notify: OnLinkEvent) -> None:
        try:
            for event in self._links.receive_untrusted(data, source, trio.current_time()):
                self._handle_event_untrusted(event, handle, notify)
        except WireError:
            self.counts.not_a_message += 1

    def _handle_event_untrusted(self, event: LinkEvent, handle: Handler, notify: OnLinkEvent) -> None:
        """Raises WireError if a peer has sealed something that is not a plaintext of messages."""
        match event:
            case Received(peer, plaintext):
                messages = unpack_untrusted(plaintext)
                self._bundled += len(messages) - 1
                for data in messages:
                    self._handle_message_untrusted(peer, data, handle)
            case Transmit():
                self._sender.transmit([event])
            case KeysLearned() | OtherVersion() if self._key_queries:
                for query in self._key_queries:
                    query.take(event)
            case SessionReplaced(peer):
                # Sent on a session that the peer has forgotten, they would wait for the next resend or window.
                for pending in self._pending.at(peer):
                    pending.outgoing.forget_sent()
                    self._send_missing(pending)
            case Moved(before, now):
                self._sender.moved(before, now)
                at = self._part_acks
                self._part_acks = {key: (now if peer == before else peer, ack) for key, (peer, ack) in at.items()}
                for pending in self._pending.at(before):
                    pending.peer = now
                notify(event)
            case _:
                notify(event)

    def _handle_message_untrusted(self, peer: Peer, data: bytes, handle: Handler) -> None:
        try:
            message = decode_untrusted(data)
        except WireError:
            self.counts.not_a_message += 1  # of another version, it may be: those beside it in the datagram count
            return
        if isinstance(message, Request):
            self._handle_request(peer, message, handle)
        elif isinstance(message, Part):
            self._handle_part(peer, message, handle)
        elif isinstance(message, PartAck):
            if pending := self._pending.find((peer.key, message.of, message.id)):
                self._take_part_ack(pending, message)
        elif not self._pending.settle((peer.key, message.of, message.id), message):
            self.counts.unexpected_answers += 1

    def _handle_request(self, peer: Peer, request: Request, handle: Handler) -> None:
        key = request_key(peer, request)
        if self._repeat_answer(peer, key):
            return
        # Before the handler, which may answer at once: an answer is remembered only for a request that was begun.
        self._memory.begin(key)
        reaction = handle(peer, request)
        if reaction is Reaction.SILENCE:
            self._memory.forget(key)
        elif reaction is Reaction.IN_PROGRESS:
            self._assembly.drop(key)
        else:
            self.answer(peer, request, reaction)

    def _repeat_answer(self, peer: Peer, key: RequestKey) -> bool:
        """Whether this request came before. If it has been answered, the answer is sent again."""
        known = self._memory.recall(key)
        if isinstance(known, bytes):
            self._sender.gather(peer, known)
        return known is not Seen.NEW

    def _take_part_ack(self, pending: PendingRequest, part_ack: PartAck) -> None:
        pending.part_ack, pending.heard_at = part_ack, trio.current_time()
        pending.outgoing.acknowledge(part_ack.held, pending.heard_at)
        self._send_missing(pending, is_due=False)

    def _handle_part(self, peer: Peer, part: Part, handle: Handler) -> None:
        key = (peer.key, part.of, part.id)
        # A late copy of a part must not begin a new assembly of a request that was answered.
        if self._repeat_answer(peer, key):
            return
        part_ack, data = self._assembly.add(key, part, (origin(peer.address), peer.key))
        self._part_acks[key] = (peer, part_ack)
        if data is None:
            return
        if (request := assembled_untrusted(data, part)) is None:
            self.counts.not_a_message += 1
            self._assembly.drop(key)
        else:
            self._handle_request(peer, request, handle)
