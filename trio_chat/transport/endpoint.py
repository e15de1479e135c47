"""Requests over datagrams: windows, attempts, parts and repeated answers, for one party.

One task reads the socket; whoever waits for an answer is found in one dict. What requests mean is the owner's
business: it hands in a function that takes a request and returns its answer, or says that there is none yet.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence

import attrs
import trio

from trio_chat.protocol.messages import Answer, Message, Part, PartAck, Request, is_final
from trio_chat.protocol.reliability import Assembly, DuplicateMemory, Outgoing, Reaction, Seen
from trio_chat.protocol.wire import WireError, decode_untrusted, encode
from trio_chat.transport.datagrams import Address, DatagramSocket

__all__ = ["ATTEMPTS", "PROMPT", "WINDOW", "Counts", "Endpoint", "Handler", "Peer", "new_id"]

WINDOW = 0.5
"""Seconds in which an acknowledgement must come."""

ATTEMPTS = 5
"""How many windows the server is given to answer."""

PROMPT = (0.1, 0.15)
"""Pauses in seconds after which a request is sent again inside its window: at 100 and 250 ms."""

BURST = 256

Peer = Address
"""Whom a request goes to. Opaque: callers keep it, compare it and hand it back."""

Handler = Callable[[Peer, Request], Answer | Reaction]
Key = tuple[Peer, int, bytes]


def new_id() -> bytes:
    """An id for a request: 16 random bytes."""
    return secrets.token_bytes(16)


@attrs.define
class Counts:
    """What was dropped: bytes that were no message, and answers that nobody waited for (any longer)."""

    not_a_message: int = 0
    unasked: int = 0


@attrs.define(eq=False)
class _Round:
    """Requests that are waited for together. `pending` thins out as they are settled."""

    settled: Callable[[Peer, Answer], object]
    pending: dict[Key, Outgoing] = attrs.Factory(dict)
    part_ack: PartAck | None = None
    complete: trio.Event = attrs.Factory(trio.Event)

    def settle(self, key: Key, answer: Answer | None) -> None:
        del self.pending[key]
        if not self.pending:
            self.complete.set()
        if answer is not None:
            self.settled(key[0], answer)


class Endpoint:
    """One party on a datagram socket. Run `listen` as a task for as long as it is used."""

    def __init__(self, socket: DatagramSocket) -> None:
        self.counts = Counts()
        self._socket = socket
        self._waiting: dict[Key, _Round] = {}
        self._memory = DuplicateMemory()
        self._assembly = Assembly()

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

        round_ = _Round(settled)
        await self._run_round(round_, {peer: request}, windows, resend)
        return answers[0] if answers else round_.part_ack

    async def fan_out(self, requests: Mapping[Peer, Request], settled: Callable[[Peer, Answer], object]) -> None:
        """Send a request to each of many peers, and again to the silent, in one window for all.

        `settled` is called with each answer as it comes; whoever is silent to the end is not mentioned.
        """
        await self._run_round(_Round(settled), requests, 1, PROMPT)

    def answer(self, peer: Peer, request: Request, answer: Answer) -> None:
        """Answer a request, now and whenever a copy of it comes."""
        data = encode(answer)
        key = (peer, request.kind, request.id)
        if is_final(answer):
            self._memory.settle(key, data)
        else:
            self._memory.forget(key)
        self._assembly.drop(key)
        self._socket.send(data, peer)

    def abandon(self, peer: Peer) -> None:
        """Whoever was at this address is no longer there: requests to it end now, as if it had stayed silent."""
        for key in [key for key in self._waiting if key[0] == peer]:
            self._settle(key, None)

    async def listen(self, handle: Handler) -> None:
        """Read the socket until cancelled; `handle` gets each new request and must not raise."""
        while True:
            for data, peer in await self._socket.receive_batch():
                self._receive_untrusted(data, peer, handle)

    # --- sending ---

    async def _run_round(
        self, round_: _Round, requests: Mapping[Peer, Request], windows: int, resend: Sequence[float]
    ) -> None:
        encoded = {request.id: encode(request) for request in requests.values()}
        for peer, request in requests.items():
            key = (peer, request.kind, request.id)
            round_.pending[key] = Outgoing(request.kind, request.id, encoded[request.id])
            self._waiting[key] = round_
        if not round_.pending:
            return
        try:
            for _ in range(windows):
                with trio.move_on_after(WINDOW):
                    for pause in (*resend, WINDOW):
                        await self._transmit(round_)
                        with trio.move_on_after(pause):
                            await round_.complete.wait()
                            return
        finally:
            for key in round_.pending:
                del self._waiting[key]

    async def _transmit(self, round_: _Round) -> None:
        for sent, (key, outgoing) in enumerate(list(round_.pending.items()), start=1):
            for data in outgoing.missing():
                self._socket.send(data, key[0])
            if sent % BURST == 0:
                await trio.lowlevel.checkpoint()

    # --- receiving ---

    def _receive_untrusted(self, data: bytes, peer: Peer, handle: Handler) -> None:
        if peer[1] == 0:  # a sender that cannot be answered, and that no table can name
            self.counts.not_a_message += 1
            return
        try:
            message = decode_untrusted(data)
        except WireError:
            self.counts.not_a_message += 1
            return
        if isinstance(message, Request):
            self._take_request(peer, message, handle)
        elif isinstance(message, Part):
            self._take_part(peer, message, handle)
        elif isinstance(message, PartAck):
            key = (peer, message.of, message.id)
            if round_ := self._waiting.get(key):
                round_.part_ack = message
                round_.pending[key].acknowledge(message.held)
        else:
            self._settle((peer, message.of, message.id), message)

    def _settle(self, key: Key, answer: Answer | None) -> None:
        round_ = self._waiting.pop(key, None)
        if round_ is None:
            self.counts.unasked += 1
        else:
            round_.settle(key, answer)

    def _take_request(self, peer: Peer, request: Request, handle: Handler) -> None:
        key = (peer, request.kind, request.id)
        if self._is_known(key):
            return
        self._memory.begin(key)
        match handle(peer, request):
            case Reaction.SILENCE:
                self._memory.forget(key)
            case Reaction.IN_WORK:
                self._assembly.drop(key)
            case answer:
                self.answer(peer, request, answer)

    def _is_known(self, key: Key) -> bool:
        seen = self._memory.recall(key)
        if isinstance(seen, bytes):
            self._socket.send(seen, key[0])
        return seen is not Seen.NEW

    def _take_part(self, peer: Peer, part: Part, handle: Handler) -> None:
        key = (peer, part.of, part.id)
        if self._is_known(key):
            return
        part_ack, data = self._assembly.add(key, part)
        self._socket.send(encode(part_ack), peer)
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
