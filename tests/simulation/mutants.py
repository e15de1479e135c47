"""A zoo of bugs, each a small patch that is applied while a seed is played: the simulation must notice every one."""

import math
from collections.abc import Callable
from contextlib import ExitStack, asynccontextmanager
from unittest.mock import patch

import attrs
import trio

from trio_chat.client.chat import Chat
from trio_chat.client.inbox import Inbox
from trio_chat.client.registration import SILENT_ROUNDS, Registration
from trio_chat.errors import ServerNotResponding
from trio_chat.protocol.duplicates import DuplicateMemory, Seen
from trio_chat.protocol.messages import Refused, TableHeld
from trio_chat.protocol.parts import Assembly
from trio_chat.protocol.records import fold
from trio_chat.protocol.table import ClientTable
from trio_chat.server.delivery import Deliveries
from trio_chat.server.service import Claim, Service, _Lane
from trio_chat.storage import client_store, server_store
from trio_chat.storage.client_store import SqliteClientStore
from trio_chat.storage.interface import HandedOver, Kept, Status
from trio_chat.storage.server_store import SqliteServerStore
from trio_chat.transport import endpoint
from trio_chat.transport.endpoint import ACK_WINDOW, Endpoint, _KeyQuery, new_id

Bug = Callable[[ExitStack], None]
"""A function that patches the program until its ExitStack closes."""

ZOO: dict[str, Bug] = {}


def bug(name: str) -> Callable[[Bug], Bug]:
    """Puts a bug into the zoo."""

    def put(function: Bug) -> Bug:
        ZOO[name] = function
        return function

    return put


def instead(stack: ExitStack, owner, name: str, new) -> None:
    stack.enter_context(patch.object(owner, name, new))


@bug("a client acknowledges letters before they are on its disk")
def acknowledges_before_commit(stack):
    keep = SqliteClientStore.keep

    async def late(self, letters):
        kept = list(letters)
        trio.lowlevel.spawn_system_task(later, self, kept)

    async def later(store, letters):
        await trio.sleep(0.5)
        await keep(store, letters)

    instead(stack, SqliteClientStore, "keep", late)


@bug("the server acknowledges letters before they are on its disk")
def saved_before_commit(stack):
    save = SqliteServerStore.save

    async def at_once(self, recipient, letter):
        trio.lowlevel.spawn_system_task(later, self, recipient, letter)
        return Kept(Status.NEW, letter.sent_at)

    async def later(store, recipient, letter):
        await trio.sleep(0.5)
        await save(store, recipient, letter)

    instead(stack, SqliteServerStore, "save", at_once)


@bug("the server removes letters before they are acknowledged")
def removes_before_acknowledged(stack):
    waiting = SqliteServerStore.waiting

    async def take(self, name):
        letters = await waiting(self, name)
        await self.acknowledge(name, [HandedOver(letter) for letter in letters], {letter.key for letter in letters})
        return letters

    instead(stack, SqliteServerStore, "waiting", take)


@bug("a new id on the way by the server")
def new_id_on_the_fallback_path(stack):
    send_letter = Chat._send_letter

    async def renamed(self, message, keys):
        return await send_letter(self, attrs.evolve(message, id=new_id()), keys)

    instead(stack, Chat, "_send_letter", renamed)


@bug("no memory of what was shown")
def no_memory_of_what_was_shown(stack):
    instead(stack, SqliteClientStore, "has", lambda self, key: False)


@bug("letters are answered while they are still being stored")
def answers_while_in_work(stack):
    take = Inbox.take_letters

    def too_soon(self, peer, request):
        take(self, peer, request)
        return request.taken(tuple(b"" for _ in request.letters), 0)

    instead(stack, Inbox, "take_letters", too_soon)


@bug("an answer is matched by its id alone")
def matched_by_id_alone(stack):
    settle = Endpoint._settle

    def loosely(self, key, answer):
        fits = [waiting for waiting in self._waiting if waiting[2] == key[2]]
        settle(self, fits[0] if key not in self._waiting and fits else key, answer)

    instead(stack, Endpoint, "_settle", loosely)


@bug("an answer is matched by its kind alone")
def matched_by_kind_alone(stack):
    settle = Endpoint._settle

    def loosely(self, key, answer):
        fits = [waiting for waiting in self._waiting if waiting[:2] == key[:2]]
        settle(self, fits[0] if key not in self._waiting and fits else key, answer)

    instead(stack, Endpoint, "_settle", loosely)


@bug("a stale change of the table is applied")
def stale_table_change(stack):
    def apply(self, change, epoch):
        self._records.update((fold(record.name), record) for record in change.records)
        self.version = change.after
        return change.records

    instead(stack, ClientTable, "apply", apply)


@bug("no receipt for a sender who is not there")
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

    instead(stack, Deliveries, "_acknowledged", forgetful)


@bug("the fan-out of a message to everyone is not resumed after a crash")
def fan_out_not_resumed(stack):
    load = server_store._load

    def forgetful(database):
        records, waiting, _ = load(database)
        return records, waiting, []

    instead(stack, server_store, "_load", forgetful)


@bug("a verdict of silence marks offline a newer registration")
def verdict_on_the_newer(stack):
    mark_offline = Service.mark_offline

    def mark_the_newer(self, session, at):
        current = self.session(session.name)
        return current is not None and mark_offline(self, current, at)

    instead(stack, Service, "mark_offline", mark_the_newer)


@bug("a client that is gone is kept on line")
def the_dead_are_kept(stack):
    async def always(self, stay, windows):
        return True

    instead(stack, Deliveries, "is_alive", always)
    instead(stack, Service, "overdue", lambda self, now: [])


@bug("newer letters overtake older ones")
def overtaking(stack):
    waiting = server_store._waiting

    def backwards(database, name):
        return waiting(database, name)[::-1]

    instead(stack, server_store, "_waiting", backwards)
    instead(stack, _Lane, "is_free", lambda self: True)


@bug("a request that was handled is handled again")
def no_duplicate_memory(stack):
    instead(stack, DuplicateMemory, "recall", lambda self, key: Seen.NEW)
    instead(stack, server_store, "_answer", lambda database, letter: None)


# --- what the simulation itself has found ---


@bug("a registration that comes late takes the name from a newer program")
def claims_are_not_confirmed(stack):
    register = Service._register

    def at_once(self, peer, request, now, at, claim=None):
        return register(self, peer, request, now, at, Claim(at))

    instead(stack, Service, "_register", at_once)


@bug("so does a confirmation that comes late")
def late_confirmations_count(stack):
    confirmed = Service.confirmed

    def as_if_he_had_just_come(self, peer, request, claim, now, at):
        return confirmed(self, peer, request, Claim(math.inf), now, at)

    instead(stack, Service, "confirmed", as_if_he_had_just_come)


@bug("the late answer of a former server keeps the table of the present one out")
def late_answer_of_a_former_server(stack):
    def take_table(self, change, registered):
        context = self._context
        records = context.table.apply(change, registered.version.epoch)
        if records:
            context.pins.pin_new(records)
            self._table_moved.set()
            context.event_queue.table_changed()
        return TableHeld(change.kind, change.id, context.table.version)

    instead(stack, Registration, "take_table", take_table)


@bug("two searches for a silent server disturb each other")
def searches_disturb_each_other(stack):
    known = {}

    class Shared(_KeyQuery):
        def preferred(self):
            self.one_is_here = trio.Event()
            return self.found.pop(next(address for address in self.addresses if address in self.found))

    instead(stack, endpoint, "_KeyQuery", lambda addresses: known.setdefault(id(addresses), Shared(addresses)))


@bug("the parts of messages that were given up are never forgotten")
def parts_are_never_forgotten(stack):
    instead(stack, Assembly, "sweep", lambda self: None)


@bug("a table that comes at the last moment is given up, and messages acknowledged that nobody can read yet")
def the_last_moment_is_too_late(stack):
    async def wait_for_table(self, registered):
        silent = 0
        while not self._context.table.holds(registered.version):
            with trio.move_on_after(ACK_WINDOW) as window:
                await self._table_moved.wait()
            if self._outdated is registered:
                return False
            silent = silent + 1 if window.cancelled_caught else 0
            if silent and isinstance(await self._heartbeat(), Refused):
                return False
            if silent == SILENT_ROUNDS:
                raise ServerNotResponding
        return True

    instead(stack, Registration, "_wait_for_table", wait_for_table)
    always = property(lambda self: True, lambda self, value: None)
    stack.enter_context(patch.object(Chat, "_is_open", always, create=True))


@bug("a store that fails while its program is ended comes out as a group")
def a_failure_in_a_group(stack):
    @asynccontextmanager
    async def open_background():
        try:
            async with trio.open_nursery() as nursery:
                yield nursery
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise group.exceptions[0] if len(group.exceptions) == 1 else group from None

    instead(stack, client_store, "open_background", open_background)
    instead(stack, server_store, "open_background", open_background)
