"""The server's decisions: a request in, an answer or a piece of work out. Also who is there, and in which order
each name gets its letters.

Knows no store and no socket: the shell (server/server.py) does the work and reports what came of it.
"""

import enum
from collections.abc import Callable, Iterable

import attrs

from trio_chat.crypto.identities import verify_identity
from trio_chat.link.session import Peer
from trio_chat.protocol.duplicates import Reaction
from trio_chat.protocol.messages import (
    Answer,
    Deregister,
    Find,
    GroupPost,
    Heartbeat,
    Register,
    Request,
    Save,
    TableChange,
)
from trio_chat.protocol.records import Letter, LetterKind, Reason, Record, Version, fold
from trio_chat.protocol.table import ServerTable
from trio_chat.protocol.token_buckets import TokenBuckets

__all__ = ["SILENCE_LIMIT", "Admission", "Claim", "Deposit", "NextStep", "Outcome", "Post", "Service", "Session"]

SILENCE_LIMIT = 65.0
"""Seconds without a heartbeat after which a client counts as gone."""

TICK = 1e-6
MAX_NAMES = 10_000
MAX_IN_WORK = 1024

LETTERS_A_SECOND, LETTERS_AT_ONCE = 100 / 60, 300
"""How many letters one sender may put into one mailbox."""


class NextStep(enum.Enum):
    """What a name's delivery task does next, beside sending a TableChange."""

    LETTERS = "hand over letters"
    REST = "nothing to do"


@attrs.define(eq=False)
class Session:
    """One stay of one name. A verdict on a stay says nothing of the next one under the same name.

    `since`: the time of its registration, by which the client knows it.
    `held`: the version of the table that the client holds, as far as is known.
    `in_care`: its own delivery task brings it the table; fan-outs take it up again when it has the latest version.
    """

    name: str
    peer: Peer
    program: bytes
    since: float
    heard_at: float
    held: Version | None = None
    in_care: bool = True


@attrs.frozen
class Claim:
    """The name is held by another program of the same owner: if this one is really there, call `Service.confirmed`.

    `at`: when it was laid.
    """

    at: float


@attrs.frozen
class Admission:
    """The name is registered: put the record into the store, then answer.

    `ended`: the stays that it takes the place of. Requests to them are not waited for any longer, and those of
    another program are to be told.
    """

    registration: Session
    record: Record
    ended: tuple[Session, ...]

    @property
    def superseded(self) -> list[Session]:
        """The stays of other programs, which their owner has left for this one."""
        new = self.registration
        return [stay for stay in self.ended if stay.program != new.program and stay.peer != new.peer]


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
    targets: list[Session]


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


Outcome = Answer | Reaction | Claim | Admission | Deposit | Post


class Service:
    """The table, the registrations and the lanes of the server with this public Ed25519 key.

    `changed` is called with each new row of the table, in order, none left out.
    """

    def __init__(self, key: bytes, epoch: bytes, changed: Callable[[Record], object] = lambda record: None) -> None:
        self.directory = ServerTable(epoch)
        self._key = key
        self._changed = changed
        self._by_name: dict[str, Session] = {}
        self._by_key: dict[bytes, Session] = {}
        self._buckets = TokenBuckets(LETTERS_A_SECOND, LETTERS_AT_ONCE)
        self._lanes: dict[str, _Lane] = {}
        self._in_work: set[tuple[LetterKind, str, bytes]] = set()
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
        sender = self._by_key.get(peer.key)
        if sender is None or sender.peer != peer:
            return request.refused(Reason.NOT_REGISTERED)
        if isinstance(request, Heartbeat) and fold(request.name) != fold(sender.name):
            return request.refused(Reason.NOT_REGISTERED)
        sender.heard_at = now
        match request:
            case Heartbeat():
                return request.ack()
            case Deregister():
                self._leave(sender, at)
                return request.deregistered()
            case Find(name=name):
                return request.found(self.directory[name]) if self._is_owned(name) else request.refused(Reason.UNKNOWN)
            case Save():
                return self._save(sender, request, now, at)
            case GroupPost():
                return self._post(sender, request, at)
            case _:
                return Reaction.SILENCE

    def _is_owned(self, name: str) -> bool:
        return name in self.directory and self.directory[name].credentials is not None

    def confirmed(self, peer: Peer, request: Register, claim: Claim, now: float, at: float) -> Outcome:
        """Whoever laid this claim was there when he was asked: decide as if he had just come.

        If the name has changed hands since, that may be long ago: the outcome is another claim, to be confirmed again.
        """
        return self._register(peer, request, now, self._stamp(at), claim)

    def _register(self, peer: Peer, request: Register, now: float, at: float, claim: Claim | None = None) -> Outcome:
        """A name belongs to the key that it was first registered with, and its owner is where he last came in."""
        name, keys = request.name, request.credentials.keys
        if keys.link != peer.key:
            return Reaction.SILENCE
        if not verify_identity(keys, request.credentials.certificate, name=name, server_key=self._key):
            return Reaction.SILENCE
        known = self.directory[name].credentials if name in self.directory else None
        if known is not None and known.keys.signing != keys.signing:
            return request.refused(Reason.TAKEN)
        elsewhere = [stay for stay in self._stays_of(peer, name) if stay.program != request.program]
        if elsewhere and request.returning:
            return request.refused(Reason.ELSEWHERE)
        if elsewhere and (claim is None or any(stay.since > claim.at for stay in elsewhere)):
            return Claim(at)
        if len(self.directory) >= MAX_NAMES and name not in self.directory:
            return Reaction.SILENCE
        return self._admit(peer, request, now, at)

    def _admit(self, peer: Peer, request: Register, now: float, at: float) -> Admission:
        name = request.name
        ended = self._stays_of(peer, name)
        for stay in ended:
            if fold(stay.name) == fold(name):
                self._end(stay)
            else:
                self._leave(stay, at)
        registration = Session(name, peer, request.program, at, now)
        self._by_name[fold(name)] = self._by_key[peer.key] = registration
        self._lanes.setdefault(fold(name), _Lane())
        record = Record(name, *_shown(peer), True, at, request.credentials)
        self._put(record)
        return Admission(registration, record, ended)

    def _stays_of(self, peer: Peer, name: str) -> tuple[Session, ...]:
        """The present stays of a key and of a name, which make room for a new one of both."""
        return tuple(dict.fromkeys(filter(None, (self._by_key.get(peer.key), self.registration(name)))))

    def moved(self, before: Peer, after: Peer) -> None:
        """Somebody has proven that he is at another address now; if he is registered, his stay goes on there."""
        stay = self._by_key.get(before.key)
        if stay is not None and stay.peer == before:
            stay.peer = after
            host, port = _shown(after)
            self._put(attrs.evolve(self.directory[stay.name], host=host, port=port))

    def _save(self, sender: Session, request: Save, now: float, at: float) -> Outcome:
        if not self._is_owned(request.recipient):
            return request.refused(Reason.UNKNOWN)
        letter = Letter(LetterKind.DIRECT, request.id, sender.name, at, request.body)
        if not self._begin(letter):
            return Reaction.SILENCE
        if not self._buckets.take((fold(sender.name), fold(request.recipient)), now):
            self.ended(letter)
            return request.refused(Reason.TOO_FAST)
        self._lanes[fold(request.recipient)].pending += 1
        return Deposit(request.recipient, letter)

    def _post(self, sender: Session, request: GroupPost, at: float) -> Outcome:
        letter = Letter(LetterKind.GROUP, request.id, sender.name, at, request.body)
        if not self._begin(letter):
            return Reaction.SILENCE
        post = Post(letter, self._lanes.keys() - {fold(sender.name)}, [])
        for name, lane in self._lanes.items():  # not over the set, whose order is another one each time
            if name not in post.left:
                continue
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

    def registration(self, name: str) -> Session | None:
        """The present stay of a name; None when it is off line."""
        return self._by_name.get(fold(name))

    def online(self) -> list[Session]:
        """All present stays."""
        return list(self._by_name.values())

    def is_present(self, registration: Session) -> bool:
        """Is this stay still the present one of its name?"""
        return self._by_name.get(fold(registration.name)) is registration

    def mark_offline(self, registration: Session, at: float) -> bool:
        """Its probes stayed silent: it is gone, unless its name has registered anew meanwhile."""
        if not self.is_present(registration):
            return False
        self._leave(registration, at)
        return True

    def overdue(self, now: float) -> list[Session]:
        """The stays that have not been heard from for SILENCE_LIMIT."""
        return [present for present in self._by_name.values() if now - present.heard_at > SILENCE_LIMIT]

    def _end(self, registration: Session) -> None:
        del self._by_name[fold(registration.name)]
        del self._by_key[registration.peer.key]

    def _leave(self, registration: Session, at: float) -> None:
        self._end(registration)
        self._put(attrs.evolve(self.directory[registration.name], online=False, since=at))

    def _put(self, record: Record) -> None:
        self.directory.put(record)
        self._changed(record)

    # --- in which order ---

    def next_step(self, registration: Session, id: bytes) -> TableChange | NextStep:
        """What to send to a client next: the table first, then letters, as long as its lane is free."""
        if not self.is_present(registration):
            return NextStep.REST
        if registration.in_care:
            change = self.directory.change_since(registration.held, id)
            if change is not None:
                return change
            registration.in_care = False
        lane = self._lanes[fold(registration.name)]
        return NextStep.LETTERS if lane.letters and not lane.open_posts else NextStep.REST

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


def _shown(peer: Peer) -> tuple[str, int]:
    """Host and port, without the interface that stands behind some addresses of IPv6."""
    host, port = peer.address
    return host.partition("%")[0], port
