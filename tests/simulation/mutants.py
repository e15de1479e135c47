"""Mutants: known bugs, each a small patch to the program. The simulation must notice every one of them."""

from collections.abc import Callable
from contextlib import ExitStack, asynccontextmanager
from unittest.mock import patch

import attrs
import trio

from trio_chat.client.chat import Chat
from trio_chat.client.inbox import Inbox
from trio_chat.client.registration import MAX_SILENT_ROUNDS, Registration
from trio_chat.errors import ServerNotResponding
from trio_chat.protocol.duplicates import DuplicateMemory, Seen
from trio_chat.protocol.messages import Heartbeat, Refused
from trio_chat.protocol.parts import Assembly
from trio_chat.protocol.records import fold
from trio_chat.protocol.table import ClientTable
from trio_chat.server.delivery import Deliveries
from trio_chat.server.service import Service, _Lane
from trio_chat.storage import client_store, server_store
from trio_chat.storage.client_store import SqliteClientStore
from trio_chat.storage.interface import HandedOver, Kept, Status
from trio_chat.storage.server_store import SqliteServerStore
from trio_chat.transport import endpoint
from trio_chat.transport.endpoint import ACK_WINDOW, Endpoint, _KeyQuery, new_id

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


@mutant("a client acknowledges letters before they are on its disk")
def acknowledges_before_commit(stack):
    keep = SqliteClientStore.keep

    async def late(self, letters):
        kept = list(letters)
        trio.lowlevel.spawn_system_task(later, self, kept)

    async def later(store, letters):
        await trio.sleep(0.5)
        await keep(store, letters)

    replace(stack, SqliteClientStore, "keep", late)


@mutant("the server acknowledges letters before they are on its disk")
def saved_before_commit(stack):
    save = SqliteServerStore.save

    async def at_once(self, recipient, letter):
        trio.lowlevel.spawn_system_task(later, self, recipient, letter)
        return Kept(Status.NEW, letter.sent_at)

    async def later(store, recipient, letter):
        await trio.sleep(0.5)
        await save(store, recipient, letter)

    replace(stack, SqliteServerStore, "save", at_once)


@mutant("the server removes letters before they are acknowledged")
def removes_before_acknowledged(stack):
    waiting = SqliteServerStore.waiting

    async def take(self, name):
        letters = await waiting(self, name)
        await self.acknowledge(name, [HandedOver(letter) for letter in letters], {letter.key for letter in letters})
        return letters

    replace(stack, SqliteServerStore, "waiting", take)


@mutant("the same message gets a new id when it goes by the server")
def new_id_on_the_fallback_path(stack):
    send_letter = Chat._send_letter

    async def renamed(self, message, keys):
        return await send_letter(self, attrs.evolve(message, id=new_id()), keys)

    replace(stack, Chat, "_send_letter", renamed)


@mutant("a client does not remember what it has shown")
def no_memory_of_what_was_shown(stack):
    replace(stack, SqliteClientStore, "has", lambda self, key: False)


@mutant("letters are acknowledged while they are still being stored")
def answers_while_in_work(stack):
    take = Inbox.take_letters

    def too_soon(self, peer, request):
        take(self, peer, request)
        return request.taken(tuple(b"" for _ in request.letters), 0)

    replace(stack, Inbox, "take_letters", too_soon)


@mutant("an answer is matched to a request by its id alone")
def matched_by_id_alone(stack):
    settle = Endpoint._settle

    def loosely(self, key, answer):
        fits = [waiting for waiting in self._waiting if waiting[2] == key[2]]
        settle(self, fits[0] if key not in self._waiting and fits else key, answer)

    replace(stack, Endpoint, "_settle", loosely)


@mutant("an answer is matched to a request by its kind alone")
def matched_by_kind_alone(stack):
    settle = Endpoint._settle

    def loosely(self, key, answer):
        fits = [waiting for waiting in self._waiting if waiting[:2] == key[:2]]
        settle(self, fits[0] if key not in self._waiting and fits else key, answer)

    replace(stack, Endpoint, "_settle", loosely)


@mutant("an outdated change of the table is applied")
def stale_table_change(stack):
    def apply(self, change, epoch):
        self._records.update((fold(record.name), record) for record in change.records)
        self.version = change.after
        return change.records

    replace(stack, ClientTable, "apply", apply)


@mutant("no receipt for a sender who is offline")
def no_receipt_for_the_absent(stack):
    acknowledge = Deliveries._acknowledged

    async def forgetful(self, name, letters, taken):
        async def only_relayed(name, handed, relayed):
            handed = list(handed)
            absent = {one.letter.key for one in handed if self._service.session(one.letter.sender) is None}
            return await store.acknowledge(name, handed, set(relayed) | absent)

        store = self._store
        self._store = type("Forgetful", (), {"acknowledge": staticmethod(only_relayed)})()
        try:
            await acknowledge(self, name, letters, taken)
        finally:
            self._store = store

    replace(stack, Deliveries, "_acknowledged", forgetful)


@mutant("the delivery of a message to everyone is not resumed after a crash")
def fan_out_not_resumed(stack):
    load = server_store._load

    def forgetful(database):
        records, waiting, _ = load(database)
        return records, waiting, []

    replace(stack, server_store, "_load", forgetful)


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


@mutant("newer letters are delivered before older ones")
def overtaking(stack):
    waiting = server_store._waiting

    def backwards(database, name):
        return waiting(database, name)[::-1]

    replace(stack, server_store, "_waiting", backwards)
    replace(stack, _Lane, "is_free", lambda self: True)


@mutant("a repeated request is handled again")
def no_duplicate_memory(stack):
    replace(stack, DuplicateMemory, "recall", lambda self, key: Seen.NEW)
    replace(stack, server_store, "_answer", lambda database, letter: None)


# --- bugs that the simulation found ---


@mutant("a registration that arrives late takes the name from a newer program")
def takeovers_need_one_register(stack):
    register = Service._register

    def at_once(self, peer, request, now, at):
        return register(self, peer, attrs.evolve(request, takeover_at=at), now, at)

    replace(stack, Service, "_register", at_once)


@mutant("a takeover that arrives late takes the name from a newer program")
def late_takeovers_count(stack):
    register = Service._register

    def as_if_just_told(self, peer, request, now, at):
        return register(self, peer, attrs.evolve(request, takeover_at=request.takeover_at and at), now, at)

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

    class Shared(_KeyQuery):
        def preferred(self):
            self.one_is_here = trio.Event()
            return self.found.pop(next(address for address in self.addresses if address in self.found))

    replace(stack, endpoint, "_KeyQuery", lambda addresses: known.setdefault(id(addresses), Shared(addresses)))


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
