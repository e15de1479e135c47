"""Mutants: known bugs, each a small patch to the program. The simulation must notice every one of them."""

import itertools
from collections.abc import Callable
from contextlib import ExitStack, asynccontextmanager
from unittest.mock import patch

import attrs
import trio

from tests.simulation.outbox_invariants import SENDERS_KEEP
from trio_chat.client import private_rooms
from trio_chat.client.chat import Chat
from trio_chat.client.epochs import Epochs
from trio_chat.client.events import MessageState
from trio_chat.client.inbox import Inbox
from trio_chat.client.letter_sender import LetterSender
from trio_chat.client.outbox import Outbox
from trio_chat.client.outbox_attempts import Attempts
from trio_chat.client.outgoing_queue import QueuedMessage
from trio_chat.client.registration import MAX_SILENT_ROUNDS, Registration
from trio_chat.crypto.room_keys import sign_epoch, signed_epoch
from trio_chat.crypto.signatures import statement
from trio_chat.errors import ServerNotResponding
from trio_chat.link import cookies
from trio_chat.link.events import ServerCalled
from trio_chat.protocol.duplicates import DuplicateMemory, Seen
from trio_chat.protocol.epochs import encode_epoch
from trio_chat.protocol.log import Log, Page, request_number
from trio_chat.protocol.messages import Heartbeat, Refused
from trio_chat.protocol.parts import Assembly
from trio_chat.protocol.records import RETENTION, EntryKind, fold
from trio_chat.protocol.table import ClientTable
from trio_chat.protocol.token_buckets import TokenBuckets
from trio_chat.server import server, service
from trio_chat.server.delivery import Deliveries
from trio_chat.server.retention import RetentionClock
from trio_chat.server.room_sessions import RoomSessions
from trio_chat.server.service import Append, Service
from trio_chat.server.wake_up_calls import WakeUpCalls
from trio_chat.storage import client_store, server_epochs, server_requests, server_rooms, server_store
from trio_chat.storage.client_store import SqliteClientStore
from trio_chat.storage.interface import Appended, Status
from trio_chat.storage.outgoing import OutgoingMessages, delete_outgoing
from trio_chat.storage.server_log import LogTransaction
from trio_chat.storage.server_store import SqliteServerStore
from trio_chat.transport import endpoint
from trio_chat.transport.ids import new_id
from trio_chat.transport.key_queries import KeyQuery
from trio_chat.transport.pending_requests import PendingRequests
from trio_chat.transport.windows import ACK_WINDOW

Mutant = Callable[[ExitStack], None]
"""A function that patches the program until its ExitStack closes."""

MUTANTS: dict[str, Mutant] = {}
"""All of them, by what the bug is."""


def mutant(name: str) -> Callable[[Mutant], Mutant]:
    """Adds a function to MUTANTS."""

    def add(function: Mutant) -> Mutant:
        MUTANTS[name] = function
        return function

    return add


def replace(stack: ExitStack, owner, name: str, new) -> None:
    stack.enter_context(patch.object(owner, name, new))


@mutant("a client acknowledges entries before they are on its disk")
def acknowledges_before_commit(stack):
    keep = SqliteClientStore.keep

    async def late(self, entries):
        trio.lowlevel.spawn_system_task(later, self, list(entries))

    async def later(store, entries):
        await trio.sleep(0.5)
        await keep(store, entries)

    replace(stack, SqliteClientStore, "keep", late)


@mutant("the server acknowledges messages before they are on its disk")
def saved_before_commit(stack):
    append = SqliteServerStore.append

    async def at_once(self, entries):
        trio.lowlevel.spawn_system_task(later, self, entries)
        return [Appended(Status.NEW, 1, b"") for _ in entries]

    async def later(store, entries):
        await trio.sleep(0.5)
        await append(store, entries)

    replace(stack, SqliteServerStore, "append", at_once)


@mutant("a position is moved when entries are handed out, before they are acknowledged")
def removes_before_acknowledged(stack):
    batch = Deliveries._batch

    def at_once(self, session, page, *about):
        if page.entries:
            self._moved[fold(session.name)] = page.upto
        return batch(self, session, page, *about)

    replace(stack, Deliveries, "_batch", at_once)


@mutant("the next batch is sent before it is on the disk that the one before was taken")
def moves_before_commit(stack):
    acknowledge = SqliteServerStore.acknowledge

    async def at_once(self, acknowledged, at):
        trio.lowlevel.spawn_system_task(later, self, acknowledged, at)

    async def later(store, acknowledged, at):
        await trio.sleep(0.5)
        await acknowledge(store, acknowledged, at)

    replace(stack, SqliteServerStore, "acknowledge", at_once)


@mutant("a receipt is written in another transaction than the position")
def receipt_outside_the_transaction(stack):
    acknowledge = server_store._acknowledge

    async def in_two_steps(self, acknowledged, at):
        receipts = []

        def without_receipts(transaction, acknowledged, at):
            append, transaction.append = transaction.append, receipts.extend
            acknowledge(transaction, acknowledged, at)
            transaction.append = append

        await self._submit(lambda transaction: without_receipts(transaction, acknowledged, at))
        await trio.sleep(0.3)
        await self._submit(lambda transaction: transaction.append(receipts))

    replace(stack, SqliteServerStore, "acknowledge", in_two_steps)


@mutant("what has been read does not pass own messages to everyone")
def own_posts_are_not_passed(stack):
    for owner in (Log, LogTransaction):
        replace(stack, owner, "read", _not_passing(owner.read))


def _not_passing(read):
    def stays(self, name, after, *rooms):
        page = read(self, name, after, *rooms)
        return Page(page.entries, page.entries[-1].seq if page.entries else after)

    return stays


@mutant("a late acknowledgement moves a position back")
def positions_go_back(stack):
    acknowledge, take, last = SqliteServerStore.acknowledge, LogTransaction.take, {}

    def takes_back(self, name, upto, receipts):
        letters = take(self, name, upto, receipts)
        self.database.execute("UPDATE mailboxes SET position = ? WHERE name = ?", (upto, name))
        return letters

    # Late: together with the next one. The program itself never lets two of one name meet.
    async def with_the_one_before(self, acknowledged, at):
        late = [last[one.name] for one in acknowledged if one.name in last]
        last.update((one.name, one) for one in acknowledged)
        await acknowledge(self, acknowledged, at)
        await acknowledge(self, late, at)

    replace(stack, LogTransaction, "take", takes_back)
    replace(stack, SqliteServerStore, "acknowledge", with_the_one_before)


@mutant("an entry is handed out before its commit")
def handed_out_before_commit(stack):
    append, submit = LogTransaction.append, SqliteServerStore._submit
    watchers = {}

    def tells_at_once(self, entries, requests=()):
        append(self, entries, requests)
        appended, self.appended = self.appended, []
        if appended:
            watchers[id(self.database)](appended)

    async def watched(self, work, on_appended=None):
        watchers[id(self._commit.__self__._connection)] = on_appended or self._on_appended
        return await submit(self, work, on_appended)

    replace(stack, LogTransaction, "append", tells_at_once)
    replace(stack, SqliteServerStore, "_submit", watched)


@mutant("a reader confirms a second text under the id of the first")
def one_id_for_two_texts(stack):
    open_all = Inbox._open_all

    def of_what_came(self, entries, rooms):
        opened, _ = open_all(self, entries, rooms)
        letters = [(entry, self._open(entry, rooms)) for entry in entries if entry.kind == EntryKind.DIRECT]
        return opened, tuple(self._receipt(entry.id, entry.sender, one.hash) if one else b"" for entry, one in letters)

    replace(stack, Inbox, "_open_all", of_what_came)


@mutant("what the clock says is old is removed at once")
def retention_after_a_clock_jump(stack):
    replace(stack, RetentionClock, "oldest_kept", lambda self, wall, now: wall - RETENTION)


@mutant("the same message gets a new id when it goes by the server")
def new_id_on_the_fallback_path(stack):
    send = LetterSender.send

    async def renamed(self, message, *about, **more):
        return await send(self, attrs.evolve(message, id=new_id()), *about, **more)

    replace(stack, LetterSender, "send", renamed)


@mutant("a client does not remember what it has shown")
def no_memory_of_what_was_shown(stack):
    replace(stack, SqliteClientStore, "seen", lambda self, key: None)


@mutant("entries are acknowledged while they are still being stored")
def answers_while_in_work(stack):
    take = Inbox.take_batch

    def too_soon(self, peer, batch):
        take(self, peer, batch)
        _, receipts = self._open_all(batch.entries, dict(batch.rooms))
        return batch.taken(len(batch.entries), receipts)

    replace(stack, Inbox, "take_batch", too_soon)


@mutant("an answer is matched to a request by its id alone")
def matched_by_id_alone(stack):
    _match_loosely(stack, lambda waiting, key: waiting[2] == key[2])


@mutant("an answer is matched to a request by its kind alone")
def matched_by_kind_alone(stack):
    _match_loosely(stack, lambda waiting, key: waiting[:2] == key[:2])


def _match_loosely(stack, is_match):
    settle = PendingRequests.settle

    def loosely(self, key, answer):
        fits = [one for of_peer in self._waiting.values() for one in of_peer if is_match(one, key)]
        return settle(self, fits[0] if self.find(key) is None and fits else key, answer)

    replace(stack, PendingRequests, "settle", loosely)


@mutant("an outdated change of the table is applied")
def stale_table_change(stack):
    def apply(self, change, epoch):
        self._records.update((fold(record.name), record) for record in change.records)
        self.version = change.after
        return change.records

    replace(stack, ClientTable, "apply", apply)


@mutant("no receipt for a sender who is offline")
def no_receipt_for_the_absent(stack):
    init, acknowledge = Deliveries.__init__, server_store._acknowledge
    services = []

    def noted(self, endpoint, service, *others):
        services.append(service)
        init(self, endpoint, service, *others)

    def forgetful(transaction, acknowledged, at):
        append = transaction.append
        transaction.append = lambda entries: append([one for one in entries if services[-1].session(one.recipient)])
        acknowledge(transaction, acknowledged, at)
        transaction.append = append

    replace(stack, Deliveries, "__init__", noted)
    replace(stack, server_store, "_acknowledge", forgetful)


@mutant("a restarted server serves everyone from the end of the log")
def not_resumed_after_a_restart(stack):
    admit = Deliveries.admit
    replace(stack, Deliveries, "admit", lambda self, session, position: admit(self, session, self._tail.head))


@mutant("a client that does not answer has its newer registration marked offline")
def newer_is_marked_offline(stack):
    mark_offline = Service.mark_offline

    def mark_the_newer(self, session, at):
        current = self.session(session.name)
        return current is not None and mark_offline(self, current, at)

    replace(stack, Service, "mark_offline", mark_the_newer)


@mutant("a client that has ended is never marked offline")
def never_marked_offline(stack):
    async def always(self, session, windows):
        return True

    replace(stack, Deliveries, "is_alive", always)
    replace(stack, Service, "overdue", lambda self, now: [])


@mutant("newer entries are delivered before older ones")
def overtaking(stack):
    batch = Deliveries._batch

    def backwards(self, session, page, *about):
        return batch(self, session, Page(page.entries[::-1], page.upto), *about)

    replace(stack, Deliveries, "_batch", backwards)


@mutant("a repeated request is handled again")
def no_duplicate_memory(stack):
    replace(stack, DuplicateMemory, "recall", lambda self, key: Seen.NEW)
    replace(stack, server_requests, "_known_requests", lambda transaction, numbers: {})


# --- bugs that the simulation found ---


@mutant("a registration that arrives late takes the name from a newer program")
def takeovers_need_one_register(stack):
    register = Service._register

    def at_once(self, peer, request, now, at):
        return register(self, peer, attrs.evolve(request, takeover_at=now), now, at)

    replace(stack, Service, "_register", at_once)


@mutant("a takeover that arrives late takes the name from a newer program")
def late_takeovers_count(stack):
    register = Service._register

    def as_if_just_told(self, peer, request, now, at):
        return register(self, peer, attrs.evolve(request, takeover_at=request.takeover_at and now), now, at)

    replace(stack, Service, "_register", as_if_just_told)


@mutant("a late answer of a restarted server makes clients ignore its successor's table")
def late_answer_of_a_former_server(stack):
    receive = Service.receive

    def of_any_registration(self, peer, request, now, at):
        session = self._by_key.get(peer.key)
        if session is not None and isinstance(request, Heartbeat):
            request = attrs.evolve(request, since=session.since)
        return receive(self, peer, request, now, at)

    replace(stack, Service, "receive", of_any_registration)


@mutant("two key queries for a silent server disturb each other")
def searches_disturb_each_other(stack):
    known = {}

    class Shared(KeyQuery):
        waiting, is_taken = 0, False

        def best(self):
            self.waiting -= 1
            if not self._wanted and not self.is_taken:
                return super().best()
            self.is_taken, self.answered = self.waiting > 0, trio.Event()
            return self._wanted.pop(next(address for address in self.addresses if address in self._wanted))

    def shared(addresses, is_wanted):
        # One for each client: `is_wanted` is a method of its pins.
        query = known.setdefault(id(is_wanted.__self__), Shared(addresses, is_wanted))
        query.waiting += 1
        return query

    replace(stack, endpoint, "KeyQuery", shared)


@mutant("parts of incomplete messages are never dropped")
def parts_are_never_forgotten(stack):
    replace(stack, Assembly, "sweep", lambda self: None)


@mutant("a table that arrives at the last moment is dropped, and messages are acknowledged that cannot be shown yet")
def the_last_moment_is_too_late(stack):
    async def wait_for_table(self, registered):
        silent = 0
        while not self._context.table.holds(registered.version):
            with trio.move_on_after(ACK_WINDOW) as window:
                await self._table_changed.wait()
            silent = silent + 1 if window.cancelled_caught else 0
            if silent and isinstance(await self._heartbeat(registered), Refused):
                return False
            if silent == MAX_SILENT_ROUNDS:
                raise ServerNotResponding
        return True

    replace(stack, Registration, "_wait_for_table", wait_for_table)
    always = property(lambda self: True, lambda self, value: None)
    stack.enter_context(patch.object(Chat, "_is_open", always, create=True))


@mutant("the failure of a store during the end of its program is raised in an exception group")
def a_failure_in_a_group(stack):
    @asynccontextmanager
    async def open_background():
        try:
            async with trio.open_nursery() as nursery:
                yield nursery
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise group.exceptions[0] if len(group.exceptions) == 1 else group from None

    replace(stack, client_store, "open_background", open_background)
    replace(stack, server_store, "open_background", open_background)


@mutant("a limit counts by the name of the sender, of which one key has many")
def limits_by_name(stack):
    save = Service._save

    def by_name(self, sender, request, now, at):
        key, sender.key = sender.key, fold(sender.name).encode().ljust(32)
        outcome = save(self, sender, request, now, at)
        sender.key = key
        return (
            attrs.evolve(outcome, entry=attrs.evolve(outcome.entry, key=key))
            if isinstance(outcome, Append)
            else outcome
        )

    replace(stack, Service, "_save", by_name)


@mutant("a limit counts by the whole IPv6 address, of which one network has many")
def limits_by_whole_address(stack):
    for module in (service, server, cookies):
        replace(stack, module, "origin", lambda address: address[0])


@mutant("buckets are kept for ever")
def buckets_without_end(stack):
    begin = TokenBuckets.__init__
    replace(stack, TokenBuckets, "__init__", lambda self, rate, limit=0: begin(self, rate, 10**9))


@mutant("who joins a room gets what was posted before")
def posts_from_before_joining(stack):
    add, changed = server_rooms.add_member, RoomSessions.changed

    def early(transaction, room, name, key, joined):
        add(transaction, room, name, key, 1)

    def changed_early(self, entry, session_of):
        return changed(self, attrs.evolve(entry, seq=1), session_of)

    replace(stack, server_rooms, "add_member", early)
    replace(stack, RoomSessions, "changed", changed_early)


@mutant("a session does not begin in the rooms of its name")
def rooms_are_forgotten(stack):
    replace(stack, RoomSessions, "enter", lambda self, session, rooms: None)


@mutant("a copy of a request to join or leave a room is done again")
def room_requests_are_not_known(stack):
    take = server_requests.take_room_request

    def again(transaction, entry, *rest):
        # Its row in the log would be the second one of this request.
        number = request_number(entry.kind.encode(), entry.key, entry.id)
        transaction.database.execute("UPDATE entries SET request = NULL, hash = NULL WHERE request = ?", (number,))
        with patch.object(server_requests, "_known_requests", lambda transaction, numbers: {}):
            return take(transaction, entry, *rest)

    replace(stack, server_store, "take_room_request", again)


@mutant("who takes over a freed name is in the rooms of the owner before")
def membership_by_name(stack):
    def among(transaction, entries):
        return {(one.recipient, fold(one.sender), one.key): epoch_of(transaction, one) for one in entries}

    def epoch_of(transaction, entry):
        query = "SELECT epoch FROM members JOIN rooms ON id = room WHERE room = ? AND members.name = ?"
        return (transaction.database.execute(query, (entry.recipient, fold(entry.sender))).fetchone() or (None,))[0]

    def is_member(transaction, room, name, key):
        query = "SELECT 1 FROM members WHERE room = ? AND name = ?"
        return transaction.database.execute(query, (room, name)).fetchone() is not None

    def members_among(transaction, entries):
        return {member: epoch for member, epoch in among(transaction, entries).items() if epoch is not None}

    replace(stack, server_rooms, "_ROOMS", server_rooms._ROOMS.replace("AND key = ?2", "AND ?2 NOT NULL"))
    replace(stack, server_rooms, "members_among", members_among)
    replace(stack, server_rooms, "is_member", is_member)
    replace(stack, server_rooms, "leave_all", lambda transaction, name, at: None)


# --- private rooms ---


@mutant("a new member of a private room does not get the epoch with which they have come")
def members_without_their_epoch(stack):
    add, began = server_epochs.add_member, RoomSessions._began

    def late(transaction, room, name, key, joined):
        add(transaction, room, name, key, joined + 1)

    def began_late(self, entry, session_of):
        return began(self, attrs.evolve(entry, seq=entry.seq + 1), session_of)

    replace(stack, server_epochs, "add_member", late)
    replace(stack, RoomSessions, "_began", began_late)


@mutant("the key of a private room is sealed for new members with the next epoch, after the first messages")
def keys_sealed_late(stack):
    def sign_late(identity, key, *, before=None, **about):
        signed, other = (sign_epoch(identity, one, before=before, **about) for one in (key, bytes(32)))
        known = {identity.public.signing, *(before.epoch.names.values() if before else ())}
        members = tuple(
            one if one.keys.signing in known else later
            for one, later in zip(signed.epoch.members, other.epoch.members, strict=True)
        )
        raw = encode_epoch(attrs.evolve(signed.epoch, members=members))
        return signed_epoch(identity.signing.sign(statement("trio_chat/1 epoch", raw)) + raw)

    replace(stack, private_rooms, "sign_epoch", sign_late)


@mutant("the members of an epoch are written in another transaction than the epoch")
def epoch_in_two_transactions(stack):
    change_room = SqliteServerStore.change_room

    def members_only(transaction, entry):
        epoch = signed_epoch(entry.body).epoch
        if epoch.n > 1 and server_rooms.room_by_id(transaction, epoch.room, entry):
            transaction.database.execute("DELETE FROM members WHERE room = ?", (epoch.room,))
            for name, key in epoch.names.items():
                server_rooms.add_member(transaction, epoch.room, fold(name), key, transaction.head)

    async def in_two_steps(self, entry, *rest):
        if entry.kind == EntryKind.EPOCH:
            await self._submit(lambda transaction: members_only(transaction, entry))
            await trio.sleep(0.3)
        return await change_room(self, entry, *rest)

    replace(stack, SqliteServerStore, "change_room", in_two_steps)


@mutant("who is removed from a private room stays in it at the server")
def removed_members_stay(stack):
    replace(stack, server_epochs, "_remove", lambda transaction, entry, removed: None)


@mutant("the server takes posts of old epochs")
def posts_of_old_epochs(stack):
    among = server_rooms.members_among

    class AnyEpoch(int):
        def __ne__(self, other):
            return False

    def of_any_epoch(transaction, entries):
        return {member: AnyEpoch() for member in among(transaction, entries)}

    replace(stack, server_rooms, "members_among", of_any_epoch)


@mutant("when somebody has left a private room, its owner begins no epoch without them")
def who_has_left_stays_in_the_epoch(stack):
    replace(stack, Epochs, "look_at", lambda self, *rooms: None)


# --- the outbox ---


@mutant("a message is attempted, and accepted, before it is on the disk")
def attempted_before_commit(stack):
    numbers = itertools.count(10**6)

    # Its number is that of the row, as far as anybody is told.
    async def at_once(self, message, on_stored):
        message = attrs.evolve(message, number=next(numbers))
        self._outgoing.put(message)
        on_stored(message)
        trio.lowlevel.spawn_system_task(later, self, message)
        return message

    async def later(store, message):
        await trio.sleep(0.5)
        if any(one.number == message.number for one in store.outgoing()):
            store._write_later(lambda database: _insert(database, message))  # nobody does it if the program has ended

    replace(stack, SqliteClientStore, "put_outgoing", at_once)


def _insert(database, message):
    values = (message.number, message.id, message.recipient, message.room, message.text, message.at)
    database.execute(
        "INSERT OR REPLACE INTO outgoing (number, id, recipient, room, text, at) VALUES (?, ?, ?, ?, ?, ?)", values
    )


@mutant("a server that has started again calls nobody")
def nobody_is_called(stack):
    async def nothing(self, known):
        pass

    replace(stack, WakeUpCalls, "call", nothing)


@mutant("a client that is called makes a handshake, and waits for its next heartbeat")
def calls_are_not_told(stack):
    told = Registration.on_link_event
    replace(
        stack,
        Registration,
        "on_link_event",
        lambda self, event: None if isinstance(event, ServerCalled) else told(self, event),
    )


@mutant("a message from the outbox gets a new id each time it is tried")
def new_id_for_each_try(stack):
    attempt = Attempts.attempt

    async def renamed(self, queue, one):
        if one.was_tried:
            one.message = attrs.evolve(one.message, id=new_id())
        return await attempt(self, queue, one)

    replace(stack, Attempts, "attempt", renamed)


@mutant("after a restart an outbox goes on in another order")
def outbox_is_resumed_backwards(stack):
    everything = OutgoingMessages.all
    replace(stack, OutgoingMessages, "all", lambda self: everything(self)[::-1])


@mutant("a direct message overtakes one that the server keeps")
def direct_messages_overtake(stack):
    replace(stack, SqliteClientStore, "is_at_server", lambda self, recipient, since: False)


@mutant("a message that has failed stays in the outbox, and nobody is told")
def failed_messages_are_kept(stack):
    tell = Outbox._tell

    def silent(self, one, state, *about, **more):
        if state is not MessageState.FAILED:
            tell(self, one, state, *about, **more)

    replace(stack, Outbox, "_tell", silent)


if SENDERS_KEEP:

    @mutant("a direct message leaves the outbox before it is on the disk of its recipient")
    def removed_at_the_first_answer(stack):
        always = property(lambda self: True, lambda self, value: None)
        replace(stack, QueuedMessage, "is_kept", always)


@mutant("a message that was sent leaves the outbox only a while after it is in the history")
def sent_messages_leave_late(stack):
    def late(self, message):
        self._outgoing.remove(message.number)
        trio.lowlevel.spawn_system_task(later, self, message.number)

    async def later(store, number):
        await trio.sleep(1)
        store._write_later(lambda database: delete_outgoing(database, number))

    replace(stack, SqliteClientStore, "outgoing_done", late)
