"""Delivery: sends the table and the entries of the log to each session, and finds out who has gone.

Each session is sent one request at a time: first what it lacks of the table, then the entries after its position. It is
served from the newest part of the log in memory or, if it is behind that, from the store. No session has a task of its
own unless it is silent.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice

import attrs
import trio

from trio_chat.crypto.receipts import verify_receipt
from trio_chat.link.session import Peer
from trio_chat.protocol.log import Log, Page
from trio_chat.protocol.messages import Answer, Batch, Heartbeat, Save, TableChange, TableHeld, Taken
from trio_chat.protocol.parts import OutgoingRequest
from trio_chat.protocol.records import Credentials, Entry, EntryKind, Version, is_room
from trio_chat.server.service import Service
from trio_chat.server.sessions import RoomEvent, Session
from trio_chat.storage.interface import Acknowledged, ServerStore
from trio_chat.tasks import WakeUp
from trio_chat.transport.endpoint import Endpoint
from trio_chat.transport.ids import new_id
from trio_chat.transport.windows import ACK_WINDOW

PROBES = 5
"""Windows of 500 ms without any answer after which a client is marked offline."""

TAIL_BYTES = 8 * 1024 * 1024
TAIL_ENTRIES = 8192
"""How much of the log is kept in memory, for all who are up to date."""

POSITIONS_EVERY = 1.0
"""Seconds between two writes of positions that were moved by posts alone. After a crash these posts come again."""

READY_AT_ONCE = 64
"""How many sessions are sent something before answers are read again."""

MAX_AWAITED = 10_000
"""The most Saves that wait for a receipt. Beyond that they are answered Saved at once."""


_Senders = dict[
    tuple[Version | None, int, bytes], tuple[tuple[tuple[str, Credentials], ...], tuple[tuple[str, str], ...]]
]
"""What clients lack to verify entries, and the names of the rooms, by the version of the table that they hold, the
identity of the entries, and the key of somebody who is blocked."""


@attrs.frozen
class _ToWrite:
    """What a client has taken of a batch with letters: it has to be written before the next one is sent."""

    session: Session
    acknowledged: Acknowledged
    is_whole: bool


class Deliveries:
    """What the server sends by itself. Run `run` as a task."""

    def __init__(
        self,
        endpoint: Endpoint,
        service: Service,
        store: ServerStore,
        clock: Callable[[], float],
        tell: Callable[[RoomEvent], object] = lambda event: None,
    ) -> None:
        self._endpoint = endpoint
        self._service = service
        self._store = store
        self._clock = clock
        self._tell = tell
        self._tail = Log()
        self._ready: dict[Session, None] = {}
        self._wake_up = WakeUp()
        self._to_write: list[_ToWrite] = []
        self._write_due = WakeUp()
        self._moved: dict[str, int] = {}
        self._awaited: dict[int, tuple[Peer, Save]] = {}

    # --- what has changed ---

    def start(self, head: int) -> None:
        """The log has this many entries, none of which is in memory."""
        self._tail = Log(head)

    def on_appended(self, entries: Sequence[Entry]) -> None:
        """These entries have been committed; they are the next ones."""
        # The first entry for each: 256 posts to 1,000 sessions are 1,000 steps.
        first: dict[Session, int] = {}
        rooms = set()
        for entry in entries:
            self._tail.append(entry)
            if not is_room(entry.recipient):
                if session := self._service.session(entry.recipient):
                    if entry.kind == EntryKind.REMOVED:
                        self._service.rooms.removed(entry, session)
                    first.setdefault(session, entry.seq)
                continue
            # Before it is handed out: who has joined gets the next post, who has left does not.
            if entry.kind != EntryKind.GROUP:
                # There may be others in it than at the entry before.
                rooms.discard(entry.recipient)
                if event := self._service.rooms.changed(entry, self._service.session):
                    self._tell(event)
            if entry.recipient not in rooms:
                rooms.add(entry.recipient)
                for session in self._service.members_online(entry.recipient):
                    first.setdefault(session, entry.seq)
        for session, seq in first.items():
            # It had everything before this entry. Its position may be far behind: it is not moved for what others get,
            # and what is between may no longer be in memory.
            if session.is_idle:
                session.position = max(session.position, seq - 1)
                session.is_idle = False
            self.wake(session)
        self._shorten_tail()

    def _shorten_tail(self) -> None:
        if self._tail.head - self._tail.floor > TAIL_ENTRIES or self._tail.size > TAIL_BYTES:
            # By half, not by one: dropping costs a look at every name that has something here.
            self._tail.drop((self._tail.floor + self._tail.head) // 2)

    def forget(self, before: float, now: float) -> None:
        """Drop what was taken before this time from memory, as `ServerStore.retain` does on the disk."""
        self._tail.date_back(now)
        self._tail.drop_older(before)

    def wake(self, session: Session) -> None:
        """Something has changed for this session: send it what comes next, unless something is in flight."""
        self._ready[session] = None
        self._wake_up.set()

    def admit(self, session: Session, position: int) -> None:
        """A session begins, at this position. Until then it is busy."""
        session.position = position
        self._release(session)

    def _release(self, session: Session) -> None:
        session.is_busy = False
        self.wake(session)

    # --- the tasks ---

    async def delivery_loop(self) -> None:
        """Send what is next to the sessions that are ready, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write_receipts, nursery)
            nursery.start_soon(self._write_positions, nursery)
            while True:
                await self._wake_up.wait()
                while self._ready:
                    ready = list(islice(self._ready, READY_AT_ONCE))
                    for session in ready:
                        del self._ready[session]
                    requests = self._requests(
                        nursery, [one for one in ready if not one.is_busy and self._service.is_current(one)]
                    )
                    if requests:
                        nursery.start_soon(self._deliver, nursery, requests)
                    await self._endpoint.catch_up()

    def _requests(self, nursery: trio.Nursery, sessions: Iterable[Session]) -> dict[Session, Batch | TableChange]:
        """What to send to these sessions now. Nothing for those who have everything, or are behind the tail."""
        id_ = new_id()
        # Most sessions hold the same version: each difference is computed once.
        changes: dict[tuple[Version | None, int, int], TableChange | None] = {}
        senders: _Senders = {}
        requests: dict[Session, Batch | TableChange] = {}
        for session in sessions:
            if session.table_due:
                copy = (session.held, session.floor, session.left_out)
                if copy not in changes:
                    changes[copy] = self._service.table.change_since(
                        session.held, id_, session.floor, left_out=session.left_out
                    )
                change = self._service.views.change_for(session, changes[copy], id_)
                # Not due again before the next round: somebody who changes the table all the time, once in each round
                # trip, would keep entries from everyone.
                session.table_due = change is not None and change.after != self._service.table.version
                if change is not None:
                    if change.before.n == 0:
                        session.floor, session.left_out = change.floor, self._service.table.version.n
                    requests[session] = change
                    session.is_busy = True
                    continue
            if session.is_idle:
                continue
            if session.position >= self._tail.head:
                session.is_idle = True
            elif session.position < self._tail.floor:
                session.is_busy = True
                nursery.start_soon(self._deliver_from_store, nursery, session)
            elif batch := self._batch(session, self._read(session), id_, senders):
                requests[session] = batch
                session.is_busy = True
            else:
                session.is_idle = True
        return requests

    def _read(self, session: Session) -> Page:
        return self._tail.read(session.folded, session.position, session.rooms)

    def _batch(self, session: Session, page: Page, id_: bytes, senders: _Senders) -> Batch | None:
        """The message with these entries. Without entries: None, and the session is at the end of the page."""
        if not page.entries:
            session.position = max(session.position, page.upto)
            return None
        session.upto = page.upto
        # Most sessions get the same entries, which are one object then.
        key = (session.held, id(page.entries), b"" if self._service.views.sees_all(session) else session.key)
        if key not in senders:
            names = self._service.rooms.names_in(page.entries)
            senders[key] = self._service.views.senders(session, page.entries), names
        return Batch(id_, session.name, page.entries, *senders[key])

    async def _deliver_from_store(self, nursery: trio.Nursery, session: Session) -> None:
        page = await self._store.read(session.name, session.position)
        # If it ended meanwhile, its program may have been told so: what that takes now, its successor would not get.
        if not self._service.is_current(session):
            return
        if batch := self._batch(session, page, new_id(), {}):
            await self._deliver(nursery, {session: batch})
        else:
            self._release(session)

    async def _deliver(self, nursery: trio.Nursery, requests: dict[Session, Batch | TableChange]) -> None:
        """Send to these sessions in one window for all. Each that stays silent is probed in a task of its own."""
        silent = {session.peer: session for session in requests}

        def settled(peer: Peer, answer: Answer) -> None:
            session = silent.pop(peer)
            self._settle(nursery, session, requests[session], answer)

        to_send = {session.peer: request for session, request in requests.items()}
        begun = await self._endpoint.fan_out(to_send, settled)
        for peer, session in silent.items():
            nursery.start_soon(self._recover, nursery, session, requests[session], begun.get(peer))

    def _settle(self, nursery: trio.Nursery, session: Session, request: Batch | TableChange, answer: Answer) -> None:
        if not self._is_served(session, request, answer):
            session.table_due |= isinstance(request, TableChange)
            # Busy, or a wrong answer: the next try would follow at once, and again.
            nursery.start_soon(self._pause, session)

    async def _pause(self, session: Session) -> None:
        await trio.sleep(ACK_WINDOW)
        self._release(session)

    async def _recover(
        self,
        nursery: trio.Nursery,
        session: Session,
        request: Batch | TableChange,
        begun: OutgoingRequest | None,
    ) -> None:
        """A session was silent for its window: probe it. 3 s in all; any answer proves that it is alive.

        Meanwhile the request goes on: its answer may come from far away, or take longer than a window to be stored.
        """
        while self._service.is_current(session):
            heard: list[bool] = []

            async def probe(session: Session, heard: list[bool]) -> None:
                heard.append(await self.is_alive(session, PROBES))

            async with trio.open_nursery() as asking:
                asking.start_soon(probe, session, heard)
                settled = partial(self._settle, nursery, session, request)
                answer = await self._endpoint.request(
                    session.peer, request, attempts=PROBES, on_answer=settled, begun=begun
                )
                if isinstance(answer, Answer):
                    asking.cancel_scope.cancel()
            if isinstance(answer, Answer):
                return
            if answer is None and not any(heard):
                self._service.mark_offline(session, self._clock())
                return

    async def is_alive(self, session: Session, attempts: int) -> bool:
        """Probe a client, at most `attempts` times, until the first answer."""
        probe = Heartbeat(new_id(), session.since)
        return await self._endpoint.request(session.peer, probe, attempts=attempts) is not None

    # --- answers ---

    def _is_served(self, session: Session, request: Batch | TableChange, answer: Answer) -> bool:
        match request, answer:
            case TableChange(), TableHeld(version=version):
                # One mismatch is allowed: what was sent to an earlier registration may have come after this one.
                is_progress = version is not None and (version == request.after or session.held is None)
                # Nothing is left out any more if the copy is complete, or did not begin with this first page: those who
                # are away now may be online in it.
                if version is None or version.n >= session.left_out or version != request.after:
                    session.left_out = 0
                session.held = version
                if is_progress:
                    session.table_due |= version != request.after
                    self._release(session)
                return is_progress
            case Batch(), Taken():
                return self._is_taken(session, request, answer)
        return False

    def _is_taken(self, session: Session, batch: Batch, taken: Taken) -> bool:
        """Whether a client has taken the first entries of a batch, with a genuine receipt for each letter in them.

        An empty receipt is one, too: the client tells its sender nothing, since it blocks them.
        """
        entries = batch.entries[: taken.count]
        letters = [entry for entry in entries if entry.kind == EntryKind.DIRECT]
        if taken.count > len(batch.entries) or len(taken.receipts) != len(letters):
            return False
        # A notice counts what is missed up to the end of its batch: after a part, some of it would be counted again.
        if taken.count < len(batch.entries) and batch.entries[0].kind == EntryKind.MISSED:
            return False
        # A receipt that its reader did not sign is not passed on: to the sender it would look like ours.
        if not all(
            not receipt or verify_receipt(receipt, session.key, id=letter.id, sender=letter.sender)
            for receipt, letter in zip(taken.receipts, letters, strict=True)
        ):
            return False
        is_whole = len(entries) == len(batch.entries)
        upto = session.upto if is_whole else entries[-1].seq
        if letters:
            receipts = {letter.seq: receipt for letter, receipt in zip(letters, taken.receipts, strict=True)}
            self._to_write.append(_ToWrite(session, Acknowledged(session.name, upto, receipts), is_whole))
            self._write_due.set()
            return True
        session.position = upto
        self._moved[session.folded] = max(upto, self._moved.get(session.folded, 0))
        # A client that takes a part has no room for more: it gets the next batch after a pause, as after Busy.
        if is_whole:
            self._release(session)
        return is_whole

    async def _write_receipts(self, nursery: trio.Nursery) -> None:
        while True:
            await self._write_due.wait()
            await self.write(nursery)

    async def _write_positions(self, nursery: trio.Nursery) -> None:
        while True:
            await trio.sleep(POSITIONS_EVERY)
            await self.write(nursery)

    async def write(self, nursery: trio.Nursery) -> None:
        """Make durable what has been taken so far: positions, and receipts with those of letters."""
        moved, self._moved = self._moved, {}
        if moved:
            await self._store.advance(moved)
        # Not before that wait: it would be neither here nor in the store, and a name that is deleted meanwhile would
        # lose letters that its owner has taken. Their senders would be told that they have failed.
        written, self._to_write = self._to_write, []
        if not written:
            return
        await self._store.acknowledge([one.acknowledged for one in written], self._clock())
        # Not before: a position that is ahead of the disk would lose, in a crash, what was taken in between twice.
        for one in written:
            one.session.position = one.acknowledged.upto
            if one.is_whole:
                self._release(one.session)
            else:
                nursery.start_soon(self._pause, one.session)
            for seq, receipt in one.acknowledged.receipts.items():
                if receipt and seq in self._awaited:
                    peer, request = self._awaited.pop(seq)
                    self._endpoint.answer(peer, request, request.delivered(receipt))

    def numbers(self) -> dict[str, object]:
        """What waits here, for the operator."""
        return {"entries": self._tail.head, "sending": len(self._ready), "receipts": len(self._awaited)}

    # --- Saves that wait for a receipt ---

    def await_receipt(self, seq: int, peer: Peer, request: Save) -> bool:
        """Answer this Save with the receipt of entry `seq`, if it comes. False: nothing waits for it."""
        # 0: a letter that was taken before there was one log. Its receipt has gone.
        if not seq or seq in self._awaited or len(self._awaited) >= MAX_AWAITED:
            return False
        self._awaited[seq] = (peer, attrs.evolve(request, body=b""))
        return True

    async def answer_saved(self, seqs: Iterable[int]) -> None:
        """After one window, answer those of these Saves that still wait: their receipts come as entries."""
        await trio.sleep(ACK_WINDOW)
        for seq in seqs:
            with suppress(KeyError):
                peer, request = self._awaited.pop(seq)
                self._endpoint.answer(peer, request, request.saved())
