"""The chat server: the tasks around the decisions of server/service.py.

The task that reads the socket decides on each request immediately. What has to wait for the store or for a client runs
in a task of its own; the delivery to each session is in server/delivery.py.
"""

import logging
import secrets
import time
from collections.abc import Callable
from contextlib import closing

import trio

from trio_chat.crypto.identities import Identity, sign_link_key
from trio_chat.link.links import Links, ServerKeys
from trio_chat.link.session import Peer
from trio_chat.presence.roster import Roster
from trio_chat.protocol.duplicates import Reaction
from trio_chat.protocol.messages import (
    Answer,
    GroupPost,
    Letters,
    Register,
    Request,
    Save,
    TableChange,
    TableHeld,
    Taken,
    Takeover,
)
from trio_chat.protocol.records import RETENTION, Address, Reason, Record, Version
from trio_chat.server.delivery import Deliveries
from trio_chat.server.service import MAX_IN_PROGRESS, Admission, Deposit, Post, Service, Session
from trio_chat.storage.interface import ServerStore, Status
from trio_chat.storage.memory import MemoryServerStore
from trio_chat.tasks import WakeUp
from trio_chat.transport.endpoint import RESEND_DELAYS, SERVER_ATTEMPTS, Endpoint, new_id
from trio_chat.transport.udp import UDP, Network

log = logging.getLogger(__name__)

MAX_REGISTERING = 1024
"""The most registrations in progress. More are not answered; their clients send them again."""

OVERDUE_CHECK_EVERY = 5.0
"""Seconds between two searches for silent sessions."""

Work = Admission | Deposit | Post


async def serve_chat(
    port: int,
    *,
    host: str | None = None,
    identity: Identity | None = None,
    store: ServerStore | None = None,
    events: trio.MemorySendChannel[Record] | None = None,
    roster: Roster | None = None,
    network: Network = UDP,
    clock: Callable[[], float] = time.time,
    task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve a chat until cancelled; `await nursery.start(...)` returns the address that it is bound to.

    Args:
        port: the UDP port; 0 is any that is free.
        host: the address to listen on, or a name for it; None is every address of the machine.
        identity: the server's keys, by which clients know it; None generates new ones.
        store: keeps names and letters; None keeps them in memory.
        events: gets each changed row of the client table, in order, none merged. What does not fit is dropped.
        roster: gets who comes and who goes. Share it with `serve_presence`, so that its users can watch names.
        network: where the socket comes from.
        clock: returns seconds since 1970, UTC.

    Raises:
        AddressError: the host does not resolve, or the port is in use.
    """
    if host is not None:
        host, port = (await network.resolve(host, port))[0]
    own = identity or Identity.new(secrets.token_bytes)
    links = Links(own.link, secrets.token_bytes, ServerKeys(own.public, sign_link_key(own)))
    with closing(network.bind(host, port)) as socket:
        endpoint = Endpoint(socket, links)
        server = _Server(endpoint, own.public.signing, store or MemoryServerStore(), events, roster or Roster(), clock)
        try:
            await server.run(socket.address, task_status)
        finally:
            server.clear_roster()


class _Server:
    def __init__(
        self,
        endpoint: Endpoint,
        key: bytes,
        store: ServerStore,
        events: trio.MemorySendChannel[Record] | None,
        roster: Roster,
        clock: Callable[[], float],
    ) -> None:
        self._endpoint = endpoint
        self._store = store
        self._events = events
        self._roster = roster
        self._clock = clock
        self._service = Service(key, secrets.token_bytes(8), self._row_changed)
        self._deliveries = Deliveries(endpoint, self._service, store, clock)
        self._table_changed = WakeUp()
        self._registering = 0
        # Never full: both limits count what waits in here, too.
        limit = MAX_REGISTERING + MAX_IN_PROGRESS
        self._to_work, self._work = trio.open_memory_channel[tuple[Peer, Request, Work]](limit)

    async def run(self, address: Address, task_status: trio.TaskStatus[Address]) -> None:
        records, with_letters, open_posts = await self._store.load()
        self._service.load(records, with_letters)
        async with trio.open_nursery() as nursery:
            for open_post in open_posts:
                post = self._service.reopen(open_post.letter, open_post.left)
                nursery.start_soon(self._hand_out, post)
            nursery.start_soon(self._endpoint.listen, self._receive, self._service.moved)
            nursery.start_soon(self._publish_table)
            nursery.start_soon(self._sweep)
            task_status.started(address)
            # The channel starts one task in each pass of the scheduler: tasks that start in the same pass run in any
            # order, and two letters from one batch of datagrams could reach the store the wrong way round.
            async for peer, request, work in self._work:
                nursery.start_soon(self._do, nursery, peer, request, work)

    def clear_roster(self) -> None:
        """Note everybody as offline, for a presence service that goes on. One that is cancelled together with the chat
        sends nothing any more: its watchers see that the server ends, not that everybody leaves.
        """
        for session in self._service.online():
            self._roster.note(session.name, online=False)

    def _receive(self, peer: Peer, request: Request) -> Answer | Reaction:
        # A registration waits for the store, then for the program that it replaced: anybody could start any number.
        # Saves and GroupPosts have a limit of their own in the service, and what needs no task, such as a Heartbeat, is
        # answered under any load.
        if isinstance(request, Register) and self._registering >= MAX_REGISTERING:
            return Reaction.SILENCE
        outcome = self._service.receive(peer, request, trio.current_time(), self._clock())
        match outcome:
            case Admission() | Deposit() | Post():
                self._registering += isinstance(outcome, Admission)
                self._to_work.send_nowait((peer, request, outcome))
                return Reaction.IN_PROGRESS
        return outcome

    async def _do(self, nursery: trio.Nursery, peer: Peer, request: Request, work: Work) -> None:
        match request, work:
            case Register(), Admission():
                try:
                    await self._admit(nursery, peer, request, work)
                finally:
                    self._registering -= 1
            case Save(), Deposit():
                await self._deposit(peer, request, work)
            case GroupPost(), Post():
                await self._post(peer, request, work)

    # --- who is online ---

    async def _admit(self, nursery: trio.Nursery, peer: Peer, request: Register, admission: Admission) -> None:
        # First of all: the previous program may be dead, and a post or a delivery would wait for its answer.
        for ended in admission.ended:
            self._endpoint.abandon(ended.peer)
        # Before the answer: a client that gets it relies on owning the name, so that must be on the disk.
        waiting = await self._store.save_name(admission.record)
        version = self._service.table.version
        self._endpoint.answer(peer, request, request.registered(version, waiting, admission.session.since))
        # A task of the server, not of this registration, which is short: see MAX_REGISTERING.
        nursery.start_soon(self._deliveries.delivery_loop, admission.session)
        async with trio.open_nursery() as takeovers:
            for superseded in admission.superseded:
                takeovers.start_soon(self._tell_takeover, superseded)

    async def _tell_takeover(self, session: Session) -> None:
        # A program that misses this gets an Elsewhere when it registers again by itself.
        await self._endpoint.request(
            session.peer, Takeover(new_id(), session.since), attempts=SERVER_ATTEMPTS, resend_delays=RESEND_DELAYS
        )

    def _row_changed(self, record: Record) -> None:
        self._table_changed.set()
        self._roster.note(record.name, record.online)
        self._deliveries.wake(record.name)
        if self._events is not None:
            try:
                self._events.send_nowait(record)
            except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
                log.warning("nobody takes the server's events: one was dropped")

    async def _sweep(self) -> None:
        """Mark overdue sessions offline: probes find a dead client only if there is something to deliver to it."""
        while True:
            await trio.sleep(OVERDUE_CHECK_EVERY)
            for session in self._service.overdue(trio.current_time()):
                self._service.mark_offline(session, self._clock())
            await self._store.forget_answers(self._clock() - RETENTION)

    # --- the table ---

    async def _publish_table(self) -> None:
        """Rounds of fan-outs: changes that are made during one round are sent together in the next."""
        while True:
            await self._table_changed.wait()
            while sessions := self._outdated():
                await self._table_round(sessions)

    def _outdated(self) -> dict[Peer, Session]:
        version = self._service.table.version
        return {
            session.peer: session
            for session in self._service.online()
            if not session.catching_up and session.held != version
        }

    async def _table_round(self, sessions: dict[Peer, Session]) -> None:
        silent = dict(sessions)
        # Most of them hold the same version: each difference is computed once.
        changes: dict[Version | None, TableChange | None] = {}
        for session in sessions.values():
            if session.held not in changes:
                changes[session.held] = self._service.table.change_since(session.held, new_id())

        def settled(peer: Peer, answer: Answer) -> None:
            # Another version means that the change did not fit what the client holds: it counts as silent.
            if isinstance(answer, TableHeld) and answer.version == requests[peer].after:
                silent.pop(peer).held = answer.version

        requests = {peer: change for peer, session in sessions.items() if (change := changes[session.held])}
        await self._endpoint.fan_out(requests, settled)
        # Their own delivery loops go on, and probe them: so a silent client delays the others by one window only.
        for session in silent.values():
            session.catching_up = True
            self._deliveries.wake(session.name)

    # --- messages ---

    async def _deposit(self, peer: Peer, request: Save, deposit: Deposit) -> None:
        answer = await self._keep(request, deposit)
        self._service.ended(deposit.letter)
        self._endpoint.answer(peer, request, answer)

    async def _keep(self, request: Save, deposit: Deposit) -> Answer:
        letter, recipient = deposit.letter, deposit.recipient
        kept = await self._store.save(recipient, letter)
        self._service.kept(deposit)
        self._deliveries.wake(recipient)
        match kept.status:
            case Status.FULL:
                return request.refused(Reason.FULL)
            case Status.SAVED:
                return request.saved(kept.sent_at)
            case Status.DELIVERED | Status.UNREADABLE as status:
                return request.delivered(kept.receipt, status is Status.DELIVERED)
        if self._service.session(recipient) and (handed := await self._deliveries.relayed(letter)):
            return request.delivered(handed.receipt, handed.opened)
        return request.saved(kept.sent_at)

    async def _post(self, peer: Peer, request: GroupPost, post: Post) -> None:
        kept = await self._store.post(post.letter, post.left)
        self._endpoint.answer(peer, request, request.accepted(kept.sent_at))
        if kept.status is Status.NEW:
            await self._hand_out(post)
        else:
            self._service.withdraw(post)
            self._wake_all(post)
        self._service.ended(post.letter)

    async def _hand_out(self, post: Post) -> None:
        names = {session.peer: session.name for session in post.targets}

        def settled(peer: Peer, answer: Answer) -> None:
            if isinstance(answer, Taken):
                self._service.handed_over(post, names[peer])
                self._deliveries.wake(names[peer])

        requests = {peer: Letters(new_id(), name, (post.letter,)) for peer, name in names.items()}
        await self._endpoint.fan_out(requests, settled)
        await self._store.finish_post(post.letter, post.left)
        self._service.became_letters(post)
        self._wake_all(post)

    def _wake_all(self, post: Post) -> None:
        for name in post.left:
            self._deliveries.wake(name)
