"""Requests over sealed links: windows, attempts, parts and repeated answers, for one party.

One task reads the socket; whoever waits for an answer is found in one dict. What requests mean is the owner's
business: it hands in a function that takes a request and returns its answer, or says that there is none yet.
"""

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs
import trio

from trio_chat.link.links import KeysLearned, LinkEvent, Links, Moved, Received, Relinked, Transmit
from trio_chat.link.session import Peer
from trio_chat.protocol.duplicates import DuplicateMemory, Reaction, Seen
from trio_chat.protocol.messages import Answer, Message, Part, PartAck, Request, is_final
from trio_chat.protocol.parts import Assembly, OutgoingRequest
from trio_chat.protocol.records import Address
from trio_chat.protocol.wire import WireError, decode_untrusted, encode
from trio_chat.transport.udp import DatagramSocket

__all__ = ["ACK_WINDOW", "RESEND_DELAYS", "SERVER_ATTEMPTS", "DroppedCounts", "Endpoint", "Handler", "new_id"]

ACK_WINDOW = 0.5
"""Seconds in which an acknowledgement must come."""

SERVER_ATTEMPTS = 5
"""How many windows the server is given to answer."""

RESEND_DELAYS = (0.1, 0.15)
"""Pauses in seconds after which a request is sent again inside its window: at 100 and 250 ms."""

BURST = 256
SWEEP_EVERY = 5.0

Handler = Callable[[Peer, Request], Answer | Reaction]
OnMoved = Callable[[Peer, Peer], object]

RequestKey = tuple[bytes, int, bytes]
"""What tells requests apart: the other's key (wherever he is), the kind of request, its id."""


def new_id() -> bytes:
    """An id for a request: 16 random bytes."""
    return secrets.token_bytes(16)


def _key(peer: Peer, request: Request) -> RequestKey:
    return (peer.key, request.kind, request.id)


@attrs.define
class DroppedCounts:
    """What was dropped: bytes that were no message or not sealed for us, and answers that nobody waited for."""

    not_a_message: int = 0
    unasked: int = 0


@attrs.define(eq=False)
class _PendingRequest:
    """One request: whom it was put to, and where he is by now."""

    peer: Peer
    now: Peer
    outgoing: OutgoingRequest


@attrs.define(eq=False)
class _RequestGroup:
    """Requests that are waited for together. `pending` thins out as they are settled."""

    settled: Callable[[Peer, Answer], object]
    pending: dict[RequestKey, _PendingRequest] = attrs.Factory(dict)
    part_ack: PartAck | None = None
    complete: trio.Event = attrs.Factory(trio.Event)

    def settle(self, key: RequestKey, answer: Answer | None) -> None:
        asked = self.pending.pop(key)
        if not self.pending:
            self.complete.set()
        if answer is not None:
            self.settled(asked.peer, answer)


@attrs.define(eq=False)
class _KeyQuery:
    """Somebody who waits for the keys of whoever is at one of these addresses."""

    addresses: Sequence[Address]
    found: dict[Address, KeysLearned] = attrs.Factory(dict)
    one_is_here: trio.Event = attrs.Factory(trio.Event)

    def take(self, address: Address, learned: KeysLearned) -> None:
        if address in self.addresses:
            self.found[address] = learned
            self.one_is_here.set()

    def preferred(self) -> KeysLearned:
        return next(self.found[address] for address in self.addresses if address in self.found)


class Endpoint:
    """One party on a datagram socket, and its links. Run `listen` as a task for as long as it is used."""

    def __init__(self, socket: DatagramSocket, links: Links) -> None:
        self.counts = DroppedCounts()
        self._socket = socket
        self._links = links
        self._swept_at = float("-inf")
        self._meetings: set[_KeyQuery] = set()
        self._waiting: dict[RequestKey, _RequestGroup] = {}
        self._memory = DuplicateMemory()
        self._assembly = Assembly()

    async def learn(self, addresses: Sequence[Address], windows: int = SERVER_ATTEMPTS) -> KeysLearned | None:
        """Ask at these addresses who is there, again and again in so many windows, until somebody answers.

        Returns the first one to answer, the preferred (the earlier in the list) of several; None if nobody does.
        Whether to trust the answer is open.
        """
        meeting = _KeyQuery(addresses)
        self._meetings.add(meeting)
        try:
            for _ in range(windows):
                with trio.move_on_after(ACK_WINDOW):
                    for pause in (*RESEND_DELAYS, ACK_WINDOW):
                        for address in addresses:
                            self._do(self._links.hello(address))
                        with trio.move_on_after(pause):
                            await meeting.one_is_here.wait()
                            return meeting.preferred()
        finally:
            self._meetings.discard(meeting)
        return None

    async def request(
        self,
        peer: Peer,
        request: Request,
        *,
        windows: int = 1,
        resend: Sequence[float] = (),
        on_answer: Callable[[Answer], object] = lambda answer: None,
    ) -> Answer | PartAck | None:
        """Send a request, once in each window and after each `resend` pause inside it, until it is answered.

        Returns the answer, a PartAck if the peer took parts of it but gave no answer, or None if it stayed silent.
        `on_answer` is called with the answer before any later datagram is looked at.
        """
        answers: list[Answer] = []

        def settled(peer: Peer, answer: Answer) -> None:
            answers.append(answer)
            on_answer(answer)

        round_ = _RequestGroup(settled)
        await self._run_round(round_, {peer: request}, windows, resend)
        return answers[0] if answers else round_.part_ack

    async def fan_out(self, requests: Mapping[Peer, Request], settled: Callable[[Peer, Answer], object]) -> None:
        """Send a request to each of many peers, and again to the silent, in one window for all.

        `settled` is called with each answer as it comes; whoever is silent to the end is not mentioned.
        """
        await self._run_round(_RequestGroup(settled), requests, 1, RESEND_DELAYS)

    def answer(self, peer: Peer, request: Request, answer: Answer) -> None:
        """Answer a request, now and whenever a copy of it comes."""
        data = encode(answer)
        key = _key(peer, request)
        if is_final(answer):
            self._memory.settle(key, data)
        else:
            self._memory.forget(key)
        self._assembly.drop(key)
        self._send(peer, data)

    def forget(self, peer: Peer, request: Request) -> None:
        """A request that was in work gets no answer; its next copy is looked at anew."""
        self._memory.forget(_key(peer, request))

    def abandon(self, peer: Peer) -> None:
        """This peer is no longer there: requests to it end now, as if it had stayed silent."""
        for key, _ in self._asked_of(peer):
            self._settle(key, None)

    async def listen(self, handle: Handler, moved: OnMoved = lambda before, now: None) -> None:
        """Read the socket until cancelled; `handle` gets each new request and must not raise.

        `moved` is told when a peer has proven to be at another address; requests to it follow it there.
        """
        while True:
            batch = await self._socket.receive_batch()
            now = trio.current_time()
            if now - self._swept_at >= SWEEP_EVERY:
                self._swept_at = now
                self._links.sweep(now)
                self._assembly.sweep()
            for data, source in batch:
                self._receive_untrusted(data, source, handle, moved)

    # --- sending ---

    async def _run_round(
        self, round_: _RequestGroup, requests: Mapping[Peer, Request], windows: int, resend: Sequence[float]
    ) -> None:
        encoded = {request.id: encode(request) for request in requests.values()}
        for peer, request in requests.items():
            key = _key(peer, request)
            outgoing = OutgoingRequest(request.kind, request.id, encoded[request.id])
            round_.pending[key] = _PendingRequest(peer, peer, outgoing)
            self._waiting[key] = round_
        if not round_.pending:
            return
        try:
            for _ in range(windows):
                with trio.move_on_after(ACK_WINDOW):
                    for pause in (*resend, ACK_WINDOW):
                        await self._transmit(round_)
                        with trio.move_on_after(pause):
                            await round_.complete.wait()
                            return
        finally:
            for key in round_.pending:
                del self._waiting[key]

    async def _transmit(self, round_: _RequestGroup) -> None:
        for sent, asked in enumerate(list(round_.pending.values()), start=1):
            self._send_missing(asked)
            if sent % BURST == 0:
                await trio.lowlevel.checkpoint()

    def _send_missing(self, asked: _PendingRequest) -> None:
        for data in asked.outgoing.missing():
            self._send(asked.now, data)

    def _asked_of(self, peer: Peer) -> list[tuple[RequestKey, _PendingRequest]]:
        """What this peer, where he is now, is waited for to answer."""
        asked = [(key, round_.pending[key]) for key, round_ in self._waiting.items()]
        return [(key, one) for key, one in asked if one.now == peer]

    def _send(self, peer: Peer, data: bytes) -> None:
        self._do(self._links.send(peer, data, trio.current_time()))

    def _do(self, steps: Iterable[Transmit]) -> None:
        for step in steps:
            self._socket.send(step.data, step.address)

    # --- receiving ---

    def _receive_untrusted(self, data: bytes, source: Address, handle: Handler, moved: OnMoved) -> None:
        try:
            for step in self._links.receive_untrusted(data, source, trio.current_time()):
                self._take_untrusted(step, handle, moved)
        except WireError:
            self.counts.not_a_message += 1

    def _take_untrusted(self, step: LinkEvent, handle: Handler, moved: OnMoved) -> None:
        """Raises WireError if somebody has sealed what is no message."""
        match step:
            case Received(peer, plaintext):
                self._take_message(peer, decode_untrusted(plaintext), handle)
            case Transmit():
                self._do([step])
            case KeysLearned(address):
                for meeting in self._meetings:
                    meeting.take(address, step)
            case Relinked(peer):
                for _, asked in self._asked_of(peer):
                    self._send_missing(asked)
            case Moved(before, now):
                for _, asked in self._asked_of(before):
                    asked.now = now
                moved(before, now)

    def _take_message(self, peer: Peer, message: Message, handle: Handler) -> None:
        if isinstance(message, Request):
            self._take_request(peer, message, handle)
        elif isinstance(message, Part):
            self._take_part(peer, message, handle)
        elif isinstance(message, PartAck):
            key = (peer.key, message.of, message.id)
            if round_ := self._waiting.get(key):
                round_.part_ack = message
                round_.pending[key].outgoing.acknowledge(message.held)
        else:
            self._settle((peer.key, message.of, message.id), message)

    def _settle(self, key: RequestKey, answer: Answer | None) -> None:
        round_ = self._waiting.pop(key, None)
        if round_ is None:
            self.counts.unasked += 1
        else:
            round_.settle(key, answer)

    def _take_request(self, peer: Peer, request: Request, handle: Handler) -> None:
        key = _key(peer, request)
        if self._is_known(peer, key):
            return
        self._memory.begin(key)
        match handle(peer, request):
            case Reaction.SILENCE:
                self._memory.forget(key)
            case Reaction.IN_WORK:
                self._assembly.drop(key)
            case answer:
                self.answer(peer, request, answer)

    def _is_known(self, peer: Peer, key: RequestKey) -> bool:
        seen = self._memory.recall(key)
        if isinstance(seen, bytes):
            self._send(peer, seen)
        return seen is not Seen.NEW

    def _take_part(self, peer: Peer, part: Part, handle: Handler) -> None:
        key = (peer.key, part.of, part.id)
        if self._is_known(peer, key):
            return
        part_ack, data = self._assembly.add(key, part)
        self._send(peer, encode(part_ack))
        if data is None:
            return
        whole = _assembled_untrusted(data, part)
        if whole is None:
            self.counts.not_a_message += 1
            self._assembly.drop(key)
        else:
            self._take_request(peer, whole, handle)


def _assembled_untrusted(data: bytes, part: Part) -> Request | None:
    try:
        message: Message = decode_untrusted(data)
    except WireError:
        return None
    if isinstance(message, Request) and (message.kind, message.id) == (part.of, part.id):
        return message
    return None
