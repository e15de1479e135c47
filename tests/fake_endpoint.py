"""An endpoint without a network: it records what is sent, and the test answers it, or does not.

Windows and attempts are those of transport/windows.py. There are no resends: nothing is lost here.
"""

from collections.abc import Callable, Mapping

import attrs
import trio

from trio_chat.link.session import Peer
from trio_chat.protocol.messages import Answer, Request
from trio_chat.protocol.parts import OutgoingRequest
from trio_chat.transport.windows import ACK_WINDOW


@attrs.define(eq=False)
class Sent:
    """A request that was sent to a peer at this time, and waits for an answer unless `is_over`."""

    peer: Peer
    request: Request
    at: float
    on_answer: Callable[[Peer, Answer], object]
    is_over: bool = False


class FakeEndpoint:
    """Replaces `Endpoint` for what sends and answers requests.

    `sent`: all requests, in order. `answers`: what was answered to requests of others. `reply` may return the answer to
    a request when it is sent.
    """

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.answers: list[tuple[Peer, Answer]] = []
        self.reply: Callable[[Peer, Request], Answer | None] = lambda peer, request: None
        self._answered = trio.lowlevel.ParkingLot()

    async def request(
        self,
        peer: Peer,
        request: Request,
        *,
        attempts: int = 1,
        on_answer: Callable[[Answer], object] = lambda answer: None,
        begun: OutgoingRequest | None = None,
    ) -> Answer | None:
        answers: list[Answer] = []

        def answered(peer: Peer, answer: Answer) -> None:
            answers.append(answer)
            on_answer(answer)

        await self._wait({peer: request}, attempts, answered)
        return answers[0] if answers else None

    async def catch_up(self) -> None:
        await trio.lowlevel.checkpoint()

    async def fan_out(
        self, requests: Mapping[Peer, Request], on_answer: Callable[[Peer, Answer], object]
    ) -> dict[Peer, OutgoingRequest]:
        await self._wait(requests, 1, on_answer)
        return {}

    def answer(self, peer: Peer, request: Request, answer: Answer) -> None:
        self.answers.append((peer, answer))

    def abandon(self, peer: Peer) -> None:
        for one in self.pending(peer):
            one.is_over = True
        self._answered.unpark_all()

    def pending(self, peer: Peer | None = None) -> list[Sent]:
        """The requests that wait for an answer: all, or those to one peer."""
        return [one for one in self.sent if not one.is_over and peer in (None, one.peer)]

    def respond(self, sent: Sent, answer: Answer) -> None:
        """The answer to this request arrives. Too late, it is dropped."""
        if not sent.is_over:
            sent.is_over = True
            sent.on_answer(sent.peer, answer)
            self._answered.unpark_all()

    async def _wait(
        self, requests: Mapping[Peer, Request], attempts: int, on_answer: Callable[[Peer, Answer], object]
    ) -> None:
        sent = [Sent(peer, request, trio.current_time(), on_answer) for peer, request in requests.items()]
        self.sent += sent
        for one in sent:
            if answer := self.reply(one.peer, one.request):
                self.respond(one, answer)
        with trio.move_on_after(attempts * ACK_WINDOW):
            while not all(one.is_over for one in sent):
                await self._answered.park()
        for one in sent:
            one.is_over = True
