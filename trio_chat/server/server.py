"""The chat server: the tasks around the decisions of server/service.py.

The task that reads the socket decides on each request immediately. What has to be stored is appended to the log by one
task, in the order in which it came; a registration has a task of its own. What is sent to clients is in delivery.py.
"""

import logging
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import trio

from trio_chat.crypto.identities import Identity, sign_link_key
from trio_chat.link.events import LinkEvent, Moved, OtherVersion
from trio_chat.link.hellos import ServerKeys
from trio_chat.link.links import Links
from trio_chat.link.session import Peer
from trio_chat.presence.roster import Roster
from trio_chat.protocol.duplicates import Reaction
from trio_chat.protocol.limits import LIMITS, Limits, origin
from trio_chat.protocol.messages import Answer, GroupPost, Introduced, Request, Save, SessionEnded
from trio_chat.protocol.records import RETENTION, Address, Reason, Record, is_private
from trio_chat.server.control import Control
from trio_chat.server.delivery import Deliveries
from trio_chat.server.moderation import Moderation, RegistrationMode
from trio_chat.server.operations import Operations
from trio_chat.server.other_versions import OtherVersions
from trio_chat.server.retention import RetentionClock
from trio_chat.server.rooms import RoomRequests
from trio_chat.server.searches import answer_searches
from trio_chat.server.service import Service
from trio_chat.server.sessions import Admission, Append, AskRoom, Introduction, RoomEvent, Session
from trio_chat.server.throttle import work_of
from trio_chat.server.wake_up_calls import WakeUpCalls, as_gone
from trio_chat.storage.interface import Appended, ServerStore, Status
from trio_chat.storage.server_memory import MemoryServerStore
from trio_chat.tasks import WakeUp
from trio_chat.transport.endpoint import Endpoint
from trio_chat.transport.ids import new_id
from trio_chat.transport.udp import UDP, Network
from trio_chat.transport.windows import SERVER_ATTEMPTS

log = logging.getLogger(__name__)

MAX_TAKEOVERS = 1024
"""The most programs that are being told of a takeover."""

APPENDED_AT_ONCE = 256

OVERDUE_CHECK_EVERY = 5.0
"""Seconds between two searches for silent sessions."""

RETENTION_CHECK_EVERY = 60.0
"""Seconds between two searches for entries that are too old."""

REFUSALS_EVERY = 60.0
"""Seconds between two reports of what was over a limit."""
NAMES_CHECK_EVERY = 24 * 3600.0
"""Seconds between two searches for names that nobody uses."""

TABLE_FOLD = 0.1
"""Seconds in which changes of the table are gathered after one has been sent."""


async def serve_chat(
    port: int,
    *,
    host: str | None = None,
    identity: Identity | None = None,
    store: ServerStore | None = None,
    events: trio.MemorySendChannel[Record | RoomEvent] | None = None,
    roster: Roster | None = None,
    network: Network = UDP,
    clock: Callable[[], float] = time.time,
    limits: Limits = LIMITS,
    registration: RegistrationMode = RegistrationMode.OPEN,
    control: Callable[[int], Path] | None = None,
    discovery: bool = False,
    task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve a chat until cancelled; `await nursery.start(...)` returns the address that it is bound to.

    Args:
        port: the UDP port; 0 is any that is free.
        host: the address to listen on, or a name for it; None is every address of the machine.
        identity: the server's keys, by which clients know it; None generates new ones.
        store: keeps names and letters; None keeps them in memory.
        events: gets each changed row of the client table, and who creates, joins, leaves or changes a room: in order,
            none merged. What does not fit is dropped.
        roster: gets who comes and who goes. Share it with `serve_presence`, so that its users can watch names.
        network: where the socket comes from.
        clock: returns seconds since 1970, UTC.
        limits: how much one key or one address may use.
        registration: who may register a new name; invitations are made by a command on the control socket.
        control: returns the path of the control socket for a UDP port; None: there is no such socket.
        discovery: whether `find_servers` on the local network finds this server.

    Raises:
        AddressError: the host does not resolve, or the port is in use.
    """
    if host is not None:
        host, port = (await network.resolve(host, port))[0]
    own = identity or Identity.new(secrets.token_bytes)
    shown = ServerKeys(own.public, sign_link_key(own))
    links = Links(own.link, secrets.token_bytes, shown, limits, lambda key: server.is_registered(key))
    with closing(network.bind(host, port)) as socket:
        endpoint = Endpoint(socket, links)
        store, roster, key = store or MemoryServerStore(), roster or Roster(), own.public.signing
        server = _Server(endpoint, links, socket.send, key, store, events, roster, clock, limits)
        server.moderation.mode = registration
        if discovery:
            server.answer_searches = partial(answer_searches, network, shown, socket.send)
        try:
            await server.run(socket.address, control and control(socket.address[1]), task_status)
        finally:
            server.clear_roster()


class _Server:
    def __init__(
        self,
        endpoint: Endpoint,
        links: Links,
        send: Callable[[bytes, Address], object],
        key: bytes,
        store: ServerStore,
        events: trio.MemorySendChannel[Record | RoomEvent] | None,
        roster: Roster,
        clock: Callable[[], float],
        limits: Limits,
    ) -> None:
        self._endpoint = endpoint
        self._links = links
        self._store = store
        self._events = events
        self._roster = roster
        self._clock = clock
        self.answer_searches: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
        self.moderation = Moderation()
        self._service = Service(key, secrets.token_bytes(8), self._row_changed, limits, self.moderation)
        self._service.refused_by_links = lambda: links.refused
        self._deliveries = Deliveries(endpoint, self._service, store, clock, self._tell)
        self._operations = Operations(self._service, store, endpoint, self._deliveries, clock, self._numbers)
        self._other_versions = OtherVersions()
        self._calls = WakeUpCalls(self._service, store, send)
        self._table_changed = WakeUp()
        self._throttle = self._service.throttle
        self._room_requests = RoomRequests(endpoint, store, self._throttle)
        self._takeovers = 0
        self._to_append: list[tuple[Peer, Append]] = []
        self._append_due = WakeUp()
        # Never full: no more registrations are in progress.
        self._to_admit, self._admissions = trio.open_memory_channel[tuple[Peer, Admission]](
            limits.registrations_in_progress
        )

    async def run(self, address: Address, control: Path | None, task_status: trio.TaskStatus[Address]) -> None:
        names, head = await self._store.load(self._deliveries.on_appended)
        online = await self._store.online()
        self._service.load(as_gone(names, online, self._clock()), await self._store.past_owners())
        self.moderation.load(names, *await self._store.rules())
        self._service.rooms.add(await self._store.rooms())
        self._deliveries.start(head)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._deliveries.delivery_loop)
            nursery.start_soon(self._endpoint.listen, self._receive, self._on_link_event)
            nursery.start_soon(self._append_loop, nursery)
            nursery.start_soon(self._room_requests.loop)
            nursery.start_soon(self._publish_table)
            nursery.start_soon(self._sweep)
            nursery.start_soon(self._report_refusals)
            nursery.start_soon(self._calls.note_loop)
            nursery.start_soon(self._calls.call, online)
            nursery.start_soon(self._retain, nursery)
            nursery.start_soon(self.answer_searches)
            if control is not None:
                await nursery.start(Control(partial(self._operations.reply, nursery)).serve, control)
            task_status.started(address)
            # The channel starts one task in each pass of the scheduler: tasks that start in the same pass run in any
            # order, and an earlier registration of a name could reach the store after a later one.
            async for peer, admission in self._admissions:
                nursery.start_soon(self._admit, nursery, peer, admission)

    def is_registered(self, key: bytes) -> bool:
        """Whether this link key has a session here."""
        return self._service.is_registered(key)

    def clear_roster(self) -> None:
        """Note everybody as offline, for a presence service that goes on. One that is cancelled together with the chat
        sends nothing any more: its watchers see that the server ends, not that everybody leaves.
        """
        for session in self._service.online():
            self._roster.note(session.name, online=False)

    def _receive(self, peer: Peer, request: Request) -> Answer | Reaction:
        # What waits for the store has a limit, which all share: else anybody could start any amount of it. What needs
        # no store, such as a Heartbeat, is answered under any load. Before the request counts for the other limits:
        # what is not answered is sent again.
        place = work_of(peer, request)
        if place and not self._throttle.begin(*place):
            return Reaction.SILENCE
        outcome = self._service.receive(peer, request, trio.current_time(), self._clock())
        match outcome:
            case Admission():
                self._to_admit.send_nowait((peer, outcome))
            case Append():
                self._to_append.append((peer, outcome))
                self._append_due.set()
            case AskRoom():
                self._room_requests.take(peer, outcome)
            case Introduction(other, name, at):
                # Once, and nobody waits for it: a task for each would be one more thing to use up.
                self._endpoint.tell(other, Introduced(new_id(), name, at))
                return Reaction.SILENCE
            case _:
                if place:
                    self._throttle.end(*place)
                return outcome
        return Reaction.IN_PROGRESS

    def _on_link_event(self, event: LinkEvent) -> None:
        match event:
            case Moved(before, after):
                self._service.moved(before, after, trio.current_time())
            case OtherVersion() if line := self._other_versions.line(event, trio.current_time()):
                log.warning(line)

    async def _report_refusals(self) -> None:
        """Log what was over a limit: one line for each limit, however much it was."""
        reported: Counter[str] = Counter()
        while True:
            await trio.sleep(REFUSALS_EVERY)
            now = Counter(self._service.refusals)
            for limit, count in (now - reported).items():
                log.warning("over the limit %s in the last minute: %s times", limit, f"{count:,}")
            reported = now

    # --- who is online ---

    async def _admit(self, nursery: trio.Nursery, peer: Peer, admission: Admission) -> None:
        # First of all: the previous program may be dead, and a delivery would wait for its answer.
        for ended in admission.ended:
            self._endpoint.abandon(ended.peer)
        # Before the answer: a client that gets it relies on owning the name, so that must be on the disk.
        # And before it what was taken, in the order of the calls: the new session begins where the last one has ended.
        await self._deliveries.write(nursery)
        # The row as it is now: while this waited, a later registration of the name may have got to the store first.
        record = self._service.table.get(admission.record.name)
        if record is None or record.credentials is None:
            # The operator has deleted or freed the name meanwhile. To save it now would undo that.
            self._throttle.end("registrations_in_progress", origin(peer.address))
            self._endpoint.answer(peer, admission.request, admission.request.refused(Reason.NOT_REGISTERED))
            return
        position = await self._store.save_name(record, admission.invitation)
        version, since = self._service.table.version, admission.session.since
        admission.session.table_wanted = version.n
        private = sum(map(is_private, position.rooms))
        registered = admission.request.registered(version, since, position.waiting, position.head, private)
        self._endpoint.answer(peer, admission.request, registered)
        self._throttle.end("registrations_in_progress", origin(peer.address))
        if self._service.is_current(admission.session):
            self._service.rooms.enter(admission.session, position.rooms)
        else:
            self._calls.note(record.name)  # they have gone before the store had noted that they are here
        self._deliveries.admit(admission.session, position.seq)
        # A task of its own: a registration that waited for a silent program would keep its place, and an owner who
        # takes over their own name again and again could keep everybody else from registering.
        for superseded in admission.superseded:
            # A program that is not told gets an Elsewhere when it registers again by itself.
            if self._takeovers < MAX_TAKEOVERS:
                self._takeovers += 1
                nursery.start_soon(self._tell_takeover, superseded)

    async def _tell_takeover(self, session: Session) -> None:
        request = SessionEnded(new_id(), session.since)
        await self._endpoint.request(session.peer, request, attempts=SERVER_ATTEMPTS)
        self._takeovers -= 1

    def _row_changed(self, record: Record) -> None:
        self._table_changed.set()
        self._roster.note(record.name, record.online)
        self._calls.note(record.name)
        self._tell(record)

    def _tell(self, event: Record | RoomEvent) -> None:
        if self._events is not None:
            try:
                self._events.send_nowait(event)
            except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
                log.warning("nobody takes the server's events: one was dropped")

    async def _sweep(self) -> None:
        """Mark overdue sessions offline: probes find a dead client only if there is something to deliver to it."""
        while True:
            await trio.sleep(OVERDUE_CHECK_EVERY)
            for session in self._service.overdue(trio.current_time()):
                self._service.mark_offline(session, self._clock())

    async def _retain(self, nursery: trio.Nursery) -> None:
        """Remove what is older than RETENTION, and names that nobody uses, while the clock can be believed."""
        trusted = RetentionClock(self._clock(), trio.current_time())
        names_checked_at = float("-inf")
        while True:
            await trio.sleep(RETENTION_CHECK_EVERY)
            now = self._clock()
            before = trusted.oldest_kept(now, trio.current_time())
            if trusted.was_set_forward:
                # A machine without a clock of its own begins in 1970, and may get the time after the first letters.
                await self._store.date_forward(now - RETENTION, now)
            if before is not None:
                # Before the senders are told that their letters have failed: nobody may read these afterwards.
                self._deliveries.forget(before, now)
                known = set(self._service.rooms.names)
                while await self._store.retain(before, now):
                    await trio.lowlevel.checkpoint()
                self._service.rooms.remove(known - {id_ for id_, _ in await self._store.rooms()})
                if trio.current_time() - names_checked_at >= NAMES_CHECK_EVERY:
                    names_checked_at = trio.current_time()
                    await self._operations.delete_unused(nursery, now)

    def _numbers(self) -> dict[str, object]:
        """What waits here, for the operator."""
        return {
            "rooms": len(self._service.rooms.names),
            "links": len(self._links),
            "registering": self._throttle.in_progress("registrations_in_progress"),
            "storing": len(self._to_append),
            **self._deliveries.numbers(),
            "refused": dict(self._service.refusals),
        }

    # --- the table ---

    async def _publish_table(self) -> None:
        """A change is sent to all at once; further ones within TABLE_FOLD are sent together after it."""
        while True:
            await self._table_changed.wait()
            for session in self._service.online():
                session.table_due = True
                self._deliveries.wake(session)
            await trio.sleep(TABLE_FOLD)

    # --- messages ---

    async def _append_loop(self, nursery: trio.Nursery) -> None:
        """Append to the log whatever has come while the group before it was written."""
        while True:
            await self._append_due.wait()
            while self._to_append:
                group = self._to_append[:APPENDED_AT_ONCE]
                appended = await self._store.append([append.entry for _, append in group])
                # Not before: what is being written counts for the limit.
                del self._to_append[: len(group)]
                for peer, _ in group:
                    self._throttle.end("messages_in_progress", peer.key)
                awaited = [
                    result.seq
                    for (peer, append), result in zip(group, appended, strict=True)
                    if not self._is_answered(peer, append, result)
                ]
                if awaited:
                    nursery.start_soon(self._deliveries.answer_saved, awaited)

    def _is_answered(self, peer: Peer, append: Append, result: Appended) -> bool:
        """Answer a request; False if it has to wait for the receipt of its recipient, who is online."""
        answer: Answer
        request, key = append.request, append.entry.key
        match request, result.status:
            case _, Status.FULL:
                answer = request.refused(Reason.FULL)
            case _, Status.UNKNOWN:
                answer = request.refused(Reason.UNKNOWN)
            case _, Status.NOT_A_MEMBER:
                answer = request.refused(Reason.NOT_A_MEMBER)
            case _, Status.WRONG_EPOCH:
                answer = request.refused(Reason.WRONG_EPOCH)
            case _, Status.CONFLICT:
                answer = request.refused(Reason.CONFLICT)
            case GroupPost(), _:
                answer = request.accepted()
            case Save(), _ if result.receipt:
                answer = request.delivered(result.receipt)
            case Save(recipient=recipient), _:
                # At once, as if they were away, if they block the sender: no receipt would come.
                is_online = self._service.is_online_for(recipient, key)
                if is_online and self._deliveries.await_receipt(result.seq, peer, request):
                    return False
                answer = request.saved()
        self._endpoint.answer(peer, request, answer)
        return True
