"""A world that a seed fixes: the order of tasks, the clock, the network, ids and keys, disks, and who does what when.

In it run the real server and real clients over real stores. What happened is noted in a ledger; whether that keeps the
promises is for books.py to say.
"""

import itertools
import random
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import get_args

import trio

from tests.network import Conditions
from tests.simulation import idle
from tests.simulation.disk import Fate
from tests.simulation.ledger import LONG, Ledger
from tests.simulation.programs import Person, Program, Server
from tests.stage import SERVER
from trio_chat.client.registration import SILENT_ROUNDS
from trio_chat.errors import ChatError, NotRegistered
from trio_chat.protocol.messages import Ack, Answer, Part, Registered, Request, TableChange
from trio_chat.protocol.records import Address, Record
from trio_chat.transport.endpoint import ACK_WINDOW

NAMES = ("ann", "bob", "cid", "dee", "eve", "fay", "gus", "hal")
PATIENCE = SILENT_ROUNDS * 2 * ACK_WINDOW
"""Seconds after which a client that gets no table gives the server up."""

KINDS = (*get_args(Request), *get_args(Answer))
STEP = (0.0, 0.02, 0.3, 1.0, 4.0)
"""Seconds that pass between two things that happen: at most one of these."""


class World:
    """Who is in it, and what can happen to them."""

    def __init__(self, seed: int, ledger: Ledger, nursery: trio.Nursery, dice: random.Random, folder: Path) -> None:
        self.network = ledger.network
        self.nursery = nursery
        self.dice = dice
        self.folder = folder
        self.ledger = ledger
        self.server = Server(self, "server", SERVER, str(seed))
        self.people = [
            Person(self, name, (f"10.0.1.{number}", 6000), str(seed))
            for number, name in enumerate(NAMES[: dice.randint(3, len(NAMES))], start=1)
        ]
        self.ledger.shown = {person.name: [] for person in self.people}
        self.ledger.hosts = {one.address[0]: one.name for one in self.programs}
        self.is_healed = False
        """Has everyone returned, and does nothing more go wrong but what the end has in store?"""
        self.is_calm = False
        """Does nothing stand between the server and those who are on line, as has been so for a while?"""
        self.missed_by: set[str] = set()
        """Who has noticed that somebody vanished."""
        self.tables: dict[str, dict[str, Record] | None] = {}
        self.online: dict[str, bool] = {}
        self.idle: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
        """The size of everything when all had just come, and at the end."""
        self._withheld: tuple[Program, tuple[type, ...]] | None = None
        """What does not get through to whom."""
        self._texts = itertools.count(1)
        self._hosts = itertools.count(1)

    @property
    def programs(self) -> list[Program]:
        """All of them, the server first."""
        return [self.server, *self.people]

    def person(self, name: str) -> Person:
        """Who bears this name."""
        return next(person for person in self.people if person.name == name)

    async def live(self, steps: int) -> None:
        """From the first start to the end; everybody is still there when it returns."""
        for program in self.programs:
            program.start()
        await trio.sleep(1)
        at_first = idle.sizes()
        for _ in range(steps):
            await self.go_on()
            await trio.sleep(self.dice.choice(STEP) * self.dice.random())
        await self.end()
        self.idle = at_first, idle.sizes()
        self.tables = {person.name: person.chat and dict(person.chat.table) for person in self.people}
        self.online = {person.name: person.is_there for person in self.people}

    # --- what happens ---

    async def go_on(self) -> None:
        """One thing happens, to whom the dice fall."""
        match self.dice.choices(list(CHANCES), list(CHANCES.values()))[0]:
            case "say":
                self._someone_says(self.ledger.registered)
            case "post":
                self._someone_says([None])
            case "weather":
                self._weather()
            case "leave":
                self._someone_leaves()
            case "kill":
                await self._someone_dies()
            case "cut":
                self._cut()
            case "mend":
                self.ledger.note("wires", "are mended", fate=True)
                self.network.heal()
            case "move":
                await self._someone_moves()
            case "reroute":
                self._someone_is_rerouted()
            case "stumble":
                await self._someone_stumbles()
            case "welcome":
                await self._someone_is_welcomed()
            case "withhold":
                self._a_kind_is_withheld()
            case "late answer":
                await self._someone_is_answered_late()
            case "disk":
                self._a_disk_fails()
            case "server":
                await self._the_server_is_restarted()

    def _weather(self) -> None:
        self._set_weather(self.dice.choice((0.0, 0.05, 0.2, 0.5)), self.dice.choice((0.0, 0.01, 0.1, 0.4, 1.5)))

    def _set_weather(self, loss: float, late: float) -> None:
        self.network.default = Conditions(loss, self.dice.choice((0.0, 0.1)), (0.0, late))
        self.ledger.note("wires", f"now lose {loss:.0%} and take up to {late} s", fate=True)

    def _slow_down(self, person: Person) -> None:
        """From this address, what he says takes long; he will be at another one before the end."""
        self.ledger.note("wires", f"now take up to 1.4 s for what {person.name} says", fate=True)
        self.network.set(Conditions(delay=(0.2, 1.4)), person.seen_at[0])

    def _cut(self) -> None:
        a, b = self.dice.sample(self.programs, 2)
        both = self.dice.random() < 0.5
        self.ledger.note("wires", f"cut from {a.name} to {b.name}{' and back' if both else ''}", fate=True)
        self.network.cut(a.seen_at[0], b.seen_at[0], both=both)

    def _someone_says(self, recipients: Iterable[str | None]) -> None:
        """Somebody who is there speaks to one of these; None is everyone."""
        pairs = [
            (speaker, recipient)
            for speaker in self.people
            for recipient in recipients
            if speaker.is_there and recipient != speaker.name
        ]
        if pairs:
            speaker, recipient = self.dice.choice(pairs)
            text = f"{next(self._texts)} {speaker.name}" + self.dice.choice(("", "", "", LONG))
            self.nursery.start_soon(speaker.say, recipient, text)

    def _someone_leaves(self) -> None:
        there = [person for person in self.people if person.chat is not None]
        if there:
            self.nursery.start_soon(self._leave_and_return, self.dice.choice(there))

    async def _leave_and_return(self, person: Person) -> None:
        chat, away = person.chat, self.dice.choice((0.0, 0.4, 2.0, 15.0))
        with person.in_this_life(), suppress(ChatError):
            with suppress(NotRegistered):
                self.ledger.note(person.name, "leaves", fate=True)
                await chat.deregister()
            await trio.sleep(away)
            self.ledger.note(person.name, "returns", fate=True)
            await chat.register()

    async def _someone_dies(self) -> None:
        person = self.dice.choice(self.people)
        await person.kill()
        if self.dice.random() < 0.7:
            person.start()

    async def _someone_stumbles(self) -> None:
        """A program that is killed while it comes on line, or before it is missed, and started again.

        Its words, and those of a server that stumbles beside it, may be long on their way when their time is over.
        """
        person = self.dice.choice(self.people)
        for _ in range(3):
            if person.lives:
                await person.kill()
                await trio.sleep(self.dice.choice((0.0, self.dice.uniform(2.0, 4.0))))
            self._set_weather(0.0, 0.1)
            person.start()
            await trio.sleep(self.dice.uniform(0.0, 0.5))
            self._set_weather(0.0, 1.5)
            await trio.sleep(self.dice.uniform(0.0, self.dice.choice((0.1, 1.0))))
            if self.server.lives and self.dice.random() < 0.2:
                await self.server.kill()
                self.server.start()

    async def _someone_is_welcomed(self) -> None:
        """Who comes on line, and waits for the table, is spoken to at once, and may be killed before he can hear it."""
        person = self.dice.choice(self.people)
        await person.kill()
        self._set_weather(0.0, 0.01)
        self._withhold(person, TableChange, Ack)
        person.start()
        after = PATIENCE + self.dice.random() * self.dice.choice((-0.4, -PATIENCE, 2.0))
        self.nursery.start_soon(self._withhold_no_more, after)
        until = trio.current_time() + after + self.dice.uniform(-1.0, 1.5)
        while trio.current_time() < until:
            await trio.sleep(0.2)
            self._someone_says({person.name} & self.ledger.registered.keys())
        if self.dice.random() < 0.7:
            await person.kill()
            person.start()

    async def _someone_is_answered_late(self) -> None:
        """The server is killed while its answer to a registration is on the way, and its successor answers, too."""
        there = [person for person in self.people if person.is_there]
        if there and self.server.lives:
            person = self.dice.choice(there)
            self._set_weather(0.0, 0.02)
            self._withhold(person, Registered)  # so that the table is here before the answer
            self.nursery.start_soon(self._register_again, person)
            await self._withhold_no_more(ACK_WINDOW * self.dice.random())
            self._set_weather(0.0, 1.5)
            await trio.sleep(self.dice.uniform(0.2, 1.5))
            await self.server.kill()
            self.server.start()
            self._set_weather(0.0, 0.02)
            self._withhold(person, Registered)
            await self._withhold_no_more(2.0)

    def _a_kind_is_withheld(self) -> None:
        program, kind = self.dice.choice(self.programs), self.dice.choice(KINDS)
        self._withhold(program, kind)
        self.nursery.start_soon(self._withhold_no_more, self.dice.uniform(0.5, 4.0))

    def _withhold(self, program: Program, *kinds: type) -> None:
        self._withheld = program, kinds
        names = " and ".join(kind.__name__ for kind in kinds)
        self.ledger.note("wires", f"withhold {names} from {program.name}", fate=True)

    async def _withhold_no_more(self, after: float) -> None:
        await trio.sleep(after)
        self._withheld = None

    def passes(self, data: bytes, source: Address, destination: Address) -> bool:
        """A filter for the network: is this not of a kind that is withheld from whom it is for?"""
        if self._withheld is None:
            return True
        program, kinds = self._withheld
        said = self.ledger.tap.message(data)
        kind = said.of if isinstance(said, Part) else getattr(said, "kind", None)
        return destination != program.seen_at or kind not in {one.kind for one in kinds}

    async def _register_again(self, person: Person) -> None:
        with person.in_this_life(), suppress(ChatError):
            await person.chat.register()

    async def _someone_moves(self) -> None:
        """His program ends on one machine, perhaps while it registers, and starts with his disk on another one.

        Or he stops over at a third one, where he has just been asked whether it is him, and his answer takes long.
        """
        person = self.dice.choice(self.people)
        match self.dice.choice(("at once", "while he registers", "stops over")):
            case "while he registers" if person.is_there:
                self._set_weather(0.0, 1.5)
                self.nursery.start_soon(self._register_again, person)
                await trio.sleep(self.dice.uniform(0.0, 0.2))
                self._set_weather(0.0, 0.02)
            case "stops over":
                self._set_weather(0.0, 0.02)
                await self._start_elsewhere(person)
                await trio.sleep(self.dice.uniform(0.05, 0.1))
                self._slow_down(person)
                await trio.sleep(self.dice.uniform(0.0, 0.3))
        await self._start_elsewhere(person)

    async def _start_elsewhere(self, person: Person) -> None:
        await person.kill()
        person.address = person.seen_at = self._new_address(person)
        person.start()

    def _someone_is_rerouted(self) -> None:
        """His router gets another address; his program goes on."""
        person = self.dice.choice(self.people)
        person.seen_at = self._new_address(person)
        self.ledger.note(person.name, f"is seen at {person.seen_at[0]} from now on", fate=True)
        self.network.translate(person.address, person.seen_at)

    def _new_address(self, person: Person) -> Address:
        host = f"10.0.2.{next(self._hosts)}"
        self.ledger.hosts[host] = person.name
        return (host, 6000)

    def _a_disk_fails(self) -> None:
        program = self.dice.choice(self.programs)
        program.disk.next_commit = self.dice.choice(list(Fate))
        if self.dice.random() < 0.3:
            self.nursery.start_soon(self._pull_the_plug_at, program.disk.failed, program)

    async def _pull_the_plug_at(self, moment: trio.Event, program: Program) -> None:
        await moment.wait()
        if not self.is_healed:  # else it is too late: he has returned to stay
            await program.kill()

    async def _the_server_is_restarted(self) -> None:
        if self.server.lives:
            await self.server.kill()
            await trio.sleep(self.dice.choice((0.0, 0.3, 3.0)))
        self.server.start()

    # --- how it ends ---

    async def end(self) -> None:
        """The network heals, everyone returns and a while passes; then it is seen who is missed, and who is not."""
        if self.dice.random() < 0.3:
            await self._someone_is_answered_late()  # at last, as any later end of the server would make up for it
        self.ledger.note("world", "heals", fate=True)
        self.is_healed = True
        self.network.default = Conditions()
        self.network.heal()
        self._withheld = None
        for program in self.programs:
            program.disk.next_commit = None
            program.start()
        await trio.sleep(40)
        for person in self.people:
            if person.chat is not None and not person.chat.online:
                with suppress(ChatError):
                    await person.chat.register()
        await trio.sleep(20)
        self.is_calm = True
        await self._one_vanishes(self.people[0])
        for _ in range(3):
            await self._one_stumbles_in_fair_weather(self.dice.choice(self.people))
        await trio.sleep(200)  # as long as a link that is not used any more is remembered

    async def _one_vanishes(self, person: Person) -> None:
        others = [one for one in self.people if one is not person]
        await person.kill()
        await trio.sleep(90)
        self.missed_by = {one.name for one in others if one.chat and not one.chat.table[person.name].online}
        person.start()
        await trio.sleep(30)

    async def _one_stumbles_in_fair_weather(self, person: Person) -> None:
        """He is back before his silence has been noticed, or while it is; somebody hears of both late."""
        others = [one for one in self.people if one is not person]
        wire = SERVER[0], self.dice.choice(others).seen_at[0]
        self.network.set(Conditions(delay=(0.0, 1.2)), *wire)
        await person.kill()
        await trio.sleep(self.dice.random())
        speaker = self.dice.choice(others)
        self.nursery.start_soon(speaker.say, None, f"{next(self._texts)} {speaker.name}")
        await trio.sleep(self.dice.uniform(0, 4))
        person.start()
        await trio.sleep(10)
        self.network.set(Conditions(), *wire)


CHANCES = {
    "say": 40,
    "post": 12,
    "weather": 6,
    "leave": 8,
    "kill": 6,
    "cut": 5,
    "mend": 4,
    "move": 3,
    "reroute": 4,
    "stumble": 4,
    "welcome": 4,
    "late answer": 4,
    "withhold": 3,
    "disk": 5,
    "server": 3,
}
"""How likely each thing is to happen next."""
