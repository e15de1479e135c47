"""The server's decisions: a request in, an answer or a piece of work out. Also who is there, and in which order
each name gets its letters.

Knows no store and no socket: the shell (server/chat.py) does the work and reports what came of it.
"""

import enum
from collections.abc import Callable, Iterable

import attrs

from trio_chat.protocol.directory import Directory
from trio_chat.protocol.messages import (
    Answer,
    Deregister,
    GroupPost,
    Heartbeat,
    Refused,
    Register,
    Request,
    Save,
    TableChange,
)
from trio_chat.protocol.records import Letter, LetterKind, Reason, Record, Version, fold
from trio_chat.protocol.reliability import Reaction

__all__ = ["SILENCE_LIMIT", "Admission", "Contest", "Deposit", "Post", "Registration", "Service", "Step"]

Peer = tuple[str, int]

SILENCE_LIMIT = 65.0
"""Seconds without a heartbeat after which a client counts as gone."""

TICK = 1e-6
MAX_NAMES = 10_000
MAX_IN_WORK = 1024


class Step(enum.Enum):
    """What a name's delivery task does next, beside sending a TableChange."""

    LETTERS = "hand over letters"
    REST = "nothing to do"


@attrs.define(eq=False)
class Registration:
    """One stay of one name. A verdict on a stay says nothing of the next one under the same name.

    `held`: the version of the table that the client holds, as far as is known.
    `in_care`: its own delivery task brings it the table; fan-outs take it up again when it has the latest version.
    """

    name: str
    peer: Peer
    heard_at: float
    held: Version | None = None
    in_care: bool = True


@attrs.frozen
class Contest:
    """The name is held from another address: probe the holder, then call `Service.decide`."""

    holder: Registration


@attrs.frozen
class Admission:
    """The name is registered: put the record into the store, then answer.

    Whoever was waited for at the `vacated` addresses is not there any longer.
    """

    registration: Registration
    record: Record
    vacated: frozenset[Peer]


@attrs.frozen
class Deposit:
    """A letter to store and, if its recipient is there, to hand over at once."""

    recipient: str
    letter: Letter


@attrs.define(eq=False)
class Post:
    """A group message to store, then to hand over to `targets`; `left` thins out to those who get it as a letter."""

    letter: Letter
    left: set[str]
    targets: list[Registration]


@attrs.define
class _Lane:
    """What keeps one name's letters in order.

    While a post is open for the name, letters are on their way into the store (`pending`) or may wait there,
    nothing newer may pass by. `deposits` counts letters put in, to tell whether one came during a look into it.
    """

    open_posts: int = 0
    pending: int = 0
    letters: bool = False
    deposits: int = 0

    def is_free(self) -> bool:
        return not (self.open_posts or self.pending or self.letters)


Outcome = Answer | Reaction | Contest | Admission | Deposit | Post


class Service:
    """The table, the registrations and the lanes of one server.

    `changed` is called with each new row of the table, in order, none left out.
    """

    def __init__(self, epoch: bytes, changed: Callable[[Record], object] = lambda record: None) -> None:
        self.directory = Directory(epoch)
        self._changed = changed
        self._by_name: dict[str, Registration] = {}
        self._by_peer: dict[Peer, Registration] = {}
        self._lanes: dict[str, _Lane] = {}
        self._in_work: set[tuple[LetterKind, str, bytes]] = set()
        self._contested: set[str] = set()
        self._latest = 0.0

    def load(self, records: Iterable[Record], with_letters: Iterable[str]) -> None:
        """What a store kept; everyone in it is off line until heard from."""
        for record in records:
            self.directory.put(attrs.evolve(record, online=False))
            self._stamp(record.since)
            self._lanes[fold(record.name)] = _Lane()
        for name in with_letters:
            self._lanes[fold(name)].letters = True

    def _stamp(self, at: float) -> float:
        """No two things happen at the same time, nor does time go back: stamps tell what came before what."""
        self._latest = max(at, self._latest + TICK)
        return self._latest

    # --- requests ---

    def receive(self, peer: Peer, request: Request, now: float, at: float) -> Outcome:
        """Decide on a request. `now`: monotonic seconds; `at`: seconds since 1970, UTC."""
        at = self._stamp(at)
        if isinstance(request, Register):
            return self._register(peer, request, now, at)
        sender = self._by_peer.get(peer)
        if sender is None or (isinstance(request, Heartbeat) and fold(request.name) != fold(sender.name)):
            return request.refused(Reason.NOT_REGISTERED)
        sender.heard_at = now
        match request:
            case Heartbeat():
                return request.ack()
            case Deregister():
                self._leave(sender, at)
                return request.deregistered()
            case Save():
                return self._save(sender, request, at)
            case GroupPost():
                return self._post(sender, request, at)
            case _:
                return Reaction.SILENCE

    def _register(self, peer: Peer, request: Register, now: float, at: float) -> Outcome:
        holder = self.registration(request.name)
        if holder is not None and holder.peer != peer:
            if fold(request.name) in self._contested:
                return Reaction.SILENCE
            self._contested.add(fold(request.name))
            return Contest(holder)
        if len(self.directory) >= MAX_NAMES and request.name not in self.directory:
            return Reaction.SILENCE
        return self._admit(peer, request.name, now, at)

    def decide(
        self, contest: Contest, alive: bool, peer: Peer, request: Register, now: float, at: float
    ) -> Admission | Refused:
        """After a contest: the holder keeps the name if it answered, or if somebody came meanwhile."""
        self._contested.discard(fold(request.name))
        at = self._stamp(at)
        present = self.registration(request.name)
        vacant = present is None or present.peer == peer or (present is contest.holder and not alive)
        return self._admit(peer, request.name, now, at) if vacant else request.refused(Reason.TAKEN)

    def _admit(self, peer: Peer, name: str, now: float, at: float) -> Admission:
        tenant = self._by_peer.get(peer)
        if tenant is not None and fold(tenant.name) != fold(name):
            self._leave(tenant, at)
        vacated = {peer}
        if replaced := self._by_name.get(fold(name)):
            del self._by_peer[replaced.peer]
            vacated.add(replaced.peer)
        registration = Registration(name, peer, now)
        self._by_name[fold(name)] = self._by_peer[peer] = registration
        self._lanes.setdefault(fold(name), _Lane())
        host, port = peer
        record = Record(name, host.partition("%")[0], port, True, at)
        self._put(record)
        return Admission(registration, record, frozenset(vacated))

    def _save(self, sender: Registration, request: Save, at: float) -> Outcome:
        if request.recipient not in self.directory:
            return request.refused(Reason.UNKNOWN)
        letter = Letter(LetterKind.DIRECT, request.id, sender.name, at, request.text)
        if not self._begin(letter):
            return Reaction.SILENCE
        self._lanes[fold(request.recipient)].pending += 1
        return Deposit(request.recipient, letter)

    def _post(self, sender: Registration, request: GroupPost, at: float) -> Outcome:
        letter = Letter(LetterKind.GROUP, request.id, sender.name, at, request.text)
        if not self._begin(letter):
            return Reaction.SILENCE
        post = Post(letter, self._lanes.keys() - {fold(sender.name)}, [])
        for name in post.left:
            lane = self._lanes[name]
            if name in self._by_name and lane.is_free():
                post.targets.append(self._by_name[name])
            lane.open_posts += 1
        return post

    def _begin(self, letter: Letter) -> bool:
        if letter.key in self._in_work or len(self._in_work) >= MAX_IN_WORK:
            return False
        self._in_work.add(letter.key)
        return True

    def ended(self, letter: Letter) -> None:
        """The Save or GroupPost that brought this letter has been answered, or given up."""
        self._in_work.discard(letter.key)

    # --- who is there ---

    def registration(self, name: str) -> Registration | None:
        """The present stay of a name; None when it is off line."""
        return self._by_name.get(fold(name))

    def online(self) -> list[Registration]:
        """All present stays."""
        return list(self._by_name.values())

    def is_present(self, registration: Registration) -> bool:
        """Is this stay still the present one of its name?"""
        return self._by_name.get(fold(registration.name)) is registration

    def condemn(self, registration: Registration, at: float) -> bool:
        """Its probes stayed silent: it is gone, unless its name has registered anew meanwhile."""
        if not self.is_present(registration):
            return False
        self._leave(registration, at)
        return True

    def overdue(self, now: float) -> list[Registration]:
        """The stays that have not been heard from for SILENCE_LIMIT."""
        return [present for present in self._by_name.values() if now - present.heard_at > SILENCE_LIMIT]

    def _leave(self, registration: Registration, at: float) -> None:
        del self._by_name[fold(registration.name)]
        del self._by_peer[registration.peer]
        self._put(attrs.evolve(self.directory[registration.name], online=False, since=at))

    def _put(self, record: Record) -> None:
        self.directory.put(record)
        self._changed(record)

    # --- in which order ---

    def next_step(self, registration: Registration, id: bytes) -> TableChange | Step:
        """What to send to a client next: the table first, then letters, as long as its lane is free."""
        if not self.is_present(registration):
            return Step.REST
        if registration.in_care:
            change = self.directory.change_since(registration.held, id)
            if change is not None:
                return change
            registration.in_care = False
        lane = self._lanes[fold(registration.name)]
        return Step.LETTERS if lane.letters and not lane.open_posts else Step.REST

    def kept(self, deposit: Deposit) -> None:
        """The store has answered: the letter is in the mailbox, or it will not be."""
        self._lanes[fold(deposit.recipient)].pending -= 1
        self.letters_came(deposit.recipient)

    def letters_came(self, name: str) -> None:
        """The store has a new letter for this name."""
        lane = self._lanes[fold(name)]
        lane.letters = True
        lane.deposits += 1

    def deposits(self, name: str) -> int:
        """Take this before a look into the store, for `found_empty` after it."""
        return self._lanes[fold(name)].deposits

    def found_empty(self, name: str, deposits: int) -> None:
        """The store has no letters for this name, if none was deposited since."""
        lane = self._lanes[fold(name)]
        lane.letters = lane.deposits != deposits

    def handed_over(self, post: Post, name: str) -> None:
        """One recipient of a post has it: newer letters may follow."""
        post.left.discard(fold(name))
        self._lanes[fold(name)].open_posts -= 1

    def became_letters(self, post: Post) -> None:
        """The fan-out of a post has ended, and those left have it in their mailboxes."""
        for name in post.left:
            self.letters_came(name)
        self.withdraw(post)

    def withdraw(self, post: Post) -> None:
        """The post stands in nobody's way any longer."""
        for name in post.left:
            self._lanes[name].open_posts -= 1

    def reopen(self, letter: Letter, left: Iterable[str]) -> Post:
        """A post that was not finished when the server stopped: those left get it as a letter."""
        post = Post(letter, {fold(name) for name in left}, [])
        for name in post.left:
            self._lanes[name].open_posts += 1
        return post
