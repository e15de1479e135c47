"""The server's delivery loop with its decisions and a store in memory, but without a network: the test is all clients.

In virtual time. What server.py does around these is done here in the same order.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from tests.bare_server import EPOCH, SERVER_KEY, BareServer, identity_of
from tests.fake_endpoint import FakeEndpoint, Sent
from trio_chat.crypto.receipts import hash_text, sign_receipt
from trio_chat.link.session import Peer
from trio_chat.protocol.limits import LIMITS
from trio_chat.protocol.log import Page
from trio_chat.protocol.messages import Answer, Batch, Heartbeat, Taken
from trio_chat.protocol.records import EVERYONE, Entry, EntryKind, Room
from trio_chat.protocol.room_messages import RoomRequest
from trio_chat.server.delivery import Deliveries
from trio_chat.server.rooms import RoomRequests
from trio_chat.server.service import Admission, Append, Service, Session
from trio_chat.server.sessions import AskRoom, RoomEvent
from trio_chat.storage.interface import Appended
from trio_chat.storage.server_memory import MemoryServerStore


class CountingStore(MemoryServerStore):
    """Counts the calls and records the log. Calls that begin while it is `held` return when it is released.

    They take effect at once, as the protocol says.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.log: list[Entry] = []
        self._is_held = False
        self._held = trio.lowlevel.ParkingLot()

    @contextmanager
    def held(self) -> Iterator[None]:
        self._is_held = True
        yield
        self._is_held = False

    def release(self) -> None:
        self._held.unpark_all()

    async def load(self, on_appended):
        def recorded(entries):
            self.log += entries
            on_appended(entries)

        return await super().load(recorded)

    async def save_name(self, record, invitation=b""):
        return await self._counted("save_name", super().save_name(record, invitation))

    async def append(self, entries):
        return await self._counted("append", super().append(entries))

    async def read(self, name, after) -> Page:
        return await self._counted("read", super().read(name, after))

    async def acknowledge(self, acknowledged, at) -> None:
        await self._counted("acknowledge", super().acknowledge(acknowledged, at))

    async def advance(self, positions) -> None:
        await self._counted("advance", super().advance(positions))

    async def _counted(self, name, call):
        self.calls[name] += 1
        result = await call
        if self._is_held:
            await self._held.park()
        return result


class DeliveringServer(BareServer):
    """A server whose loop runs. All but the store is new after each `start`. `events`: what it has told of rooms."""

    def __init__(self) -> None:
        super().__init__()
        self.store = CountingStore()

    async def start(self, nursery: trio.Nursery) -> None:
        """Start, or start again after a crash."""
        self.nursery = nursery
        self.service = Service(SERVER_KEY, EPOCH, self.published.append)
        self.endpoint = FakeEndpoint()
        self.events: list[RoomEvent] = []
        self.deliveries = Deliveries(self.endpoint, self.service, self.store, trio.current_time, self.events.append)
        self.room_requests = RoomRequests(self.endpoint, self.store, self.service.throttle)
        names, head = await self.store.load(self.deliveries.on_appended)
        self.service.load((name.record, name.owner) for name in names)
        self.service.rooms.add(await self.store.rooms())
        self.deliveries.start(head)
        nursery.start_soon(self.deliveries.delivery_loop)
        nursery.start_soon(self.room_requests.loop)

    def ask(self, peer, request):
        return self.service.receive(peer, request, trio.current_time(), trio.current_time())

    def moved(self, before, after):
        self.service.moved(before, after, trio.current_time())

    async def come(self, name: str, peer: Peer, *, holds_table: bool = True) -> Session:
        """Register. The client holds the table as it is then, or nothing."""
        admission = self.register(name, peer)
        assert isinstance(admission, Admission)
        if holds_table:
            self.hold_table(admission.session)
            admission.session.table_due = False
        await self.admit(admission)
        return admission.session

    async def admit(self, admission: Admission) -> None:
        for ended in admission.ended:
            self.endpoint.abandon(ended.peer)
        await self.deliveries.write(self.nursery)
        position = await self.store.save_name(admission.record)
        if self.service.is_current(admission.session):
            self.service.rooms.enter(admission.session, position.rooms)
        self.deliveries.admit(admission.session, position.seq)

    async def append(self, *appends: Append) -> list[Appended]:
        """Append all of these at once."""
        return await self.store.append([append.entry for append in appends])

    async def change_room(self, peer: Peer, kind: EntryKind, room: str) -> Room:
        """Create or join the room of this name, or leave the one with this id."""
        session = self.service._by_key[peer.key]
        recipient, body = (room, b"") if kind == EntryKind.LEFT else (EVERYONE, room.encode())
        entry = Entry(0, kind, self.id(), session.name, session.key, recipient, trio.current_time(), body)
        change = await self.store.change_room(entry, LIMITS)
        assert change.room is not None, change.status
        return change.room

    async def ask_room(self, peer: Peer, request: RoomRequest) -> Answer:
        """What this request is answered with."""
        outcome = self.ask(peer, request)
        if not isinstance(outcome, AskRoom):
            return outcome
        assert self.service.throttle.begin("messages_in_progress", peer.key)
        count = len(self.endpoint.answers)
        self.room_requests.take(peer, outcome)
        await trio.testing.wait_all_tasks_blocked()
        ((_, answer),) = self.endpoint.answers[count:]
        return answer

    async def send(self, sender: Peer, *recipients: str) -> None:
        """One letter after the other: what can be sent after each is sent."""
        for recipient in recipients:
            await self.append(self.save(sender, recipient))
            await trio.testing.wait_all_tasks_blocked()

    async def post_to_all(self, sender: Peer, count: int = 1) -> None:
        """One post after the other."""
        for _ in range(count):
            await self.append(self.post(sender))
            await trio.testing.wait_all_tasks_blocked()

    def change_table(self) -> None:
        """As if the table had changed: all are sent what they lack of it."""
        for session in self.service.online():
            session.table_due = True
            self.deliveries.wake(session)

    # --- what a client gets ---

    async def sent_to(self, peer: Peer) -> Sent | None:
        """What is in flight to a peer besides a probe, when nothing more happens at this moment."""
        await trio.testing.wait_all_tasks_blocked()
        pending = [one for one in self.endpoint.pending(peer) if not isinstance(one.request, Heartbeat)]
        assert len(pending) <= 1, "one request is in flight for each session"
        return pending[0] if pending else None

    async def probe_to(self, peer: Peer) -> Heartbeat:
        """The probe that is in flight to a peer."""
        await trio.testing.wait_all_tasks_blocked()
        (probe,) = [one.request for one in self.endpoint.pending(peer) if isinstance(one.request, Heartbeat)]
        return probe

    async def batch_to(self, peer: Peer) -> Batch:
        """The batch that is in flight to a peer."""
        sent = await self.sent_to(peer)
        assert sent is not None
        assert isinstance(sent.request, Batch)
        return sent.request

    async def seqs_to(self, peer: Peer) -> list[int]:
        """The numbers of the entries that are in flight to a peer; none if nothing is."""
        return [entry.seq for entry in (await self.batch_to(peer)).entries] if await self.sent_to(peer) else []

    async def respond(self, peer: Peer, answer) -> None:
        """The client answers what is in flight to it."""
        await trio.testing.wait_all_tasks_blocked()
        (sent,) = [one for one in self.endpoint.pending(peer) if one.request.kind == answer.of]
        self.endpoint.respond(sent, answer)
        await trio.testing.wait_all_tasks_blocked()

    async def take(self, peer: Peer, count: int | None = None) -> list[int]:
        """The client takes the first entries of the batch, or all. Returns their numbers."""
        batch = await self.batch_to(peer)
        count = count or len(batch.entries)
        await self.respond(peer, taken_by(peer, batch, count))
        return [entry.seq for entry in batch.entries[:count]]

    async def take_all(self, peer: Peer) -> list[int]:
        """The client takes whatever comes."""
        taken: list[int] = []
        while await self.sent_to(peer):
            taken += await self.take(peer)
        return taken


def taken_by(peer: Peer, batch: Batch, count: int) -> Taken:
    """The answer of a client that has taken the first entries of a batch."""
    letters = [entry for entry in batch.entries[:count] if entry.kind == EntryKind.DIRECT]
    return batch.taken(count, tuple(receipt_for(letter, peer) for letter in letters))


def receipt_for(letter: Entry, peer: Peer, **changes) -> bytes:
    """A receipt by A, B, C or D, as if the text had been `hi`. `changes`: other ids or senders than the letter's."""
    named = {"id": letter.id, "sender": letter.sender} | changes
    return sign_receipt(identity_of(peer), text_hash=hash_text("hi"), **named)
