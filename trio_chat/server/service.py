"""The server's decisions: a request in, an answer or a piece of work out. Also who is online, and the order in which
each name gets its letters.

No store, socket or clock: server/server.py does the work and reports the results.
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

SILENCE_LIMIT = 65.0
"""Seconds without a request after which a client is marked offline: three missed heartbeats (20 s) and a margin."""

TAKEOVER_LIMIT = 5.0
"""Seconds after an Elsewhere during which its client can take the name over: twice the time that a Register gets."""

TICK = 1e-6
MAX_NAMES = 10_000
MAX_IN_PROGRESS = 1024
"""The most Saves and GroupPosts in progress. More are not answered; their clients send them again."""

LETTERS_A_SECOND, LETTERS_AT_ONCE = 100 / 60, 300
"""How many letters one sender may put into one mailbox."""


class NextStep(enum.Enum):
    """What the delivery loop of a session does next, besides sending a TableChange."""

    LETTERS = "hand over letters"
    REST = "nothing to do"


@attrs.define(eq=False)
class Session:
    """One registration of a name at one address. When it ends, a newer one of the same name is not affected.

    `since`: the time of its registration, by which the client knows it.
    `held`: the version of the table that the client holds, as far as the server knows.
    `catching_up`: its own delivery loop sends it the table; fan-outs leave it out until it has the latest version.
    """

    name: str
    peer: Peer
    program: bytes
    since: float
    heard_at: float
    held: Version | None = None
    catching_up: bool = True


@attrs.frozen
class Admission:
    """The name is registered: put the record into the store, then answer.

    `ended`: the sessions that the new one replaces. Nothing waits for their answers any more.
    """

    session: Session
    record: Record
    ended: tuple[Session, ...]

    @property
    def superseded(self) -> list[Session]:
        """Those of other programs elsewhere, which get a Takeover; at the new one's own address nobody else listens."""
        new = self.session
        return [ended for ended in self.ended if ended.program != new.program and ended.peer != new.peer]


@attrs.frozen
class Deposit:
    """A letter to store and, if its recipient is online, to hand over immediately."""

    recipient: str
    letter: Letter


@attrs.define(eq=False)
class Post:
    """A group message to store, then to hand over to `targets`; in the end, those in `left` get it as a letter."""

    letter: Letter
    left: set[str]
    targets: list[Session]


@attrs.define
class _Lane:
    """What keeps one name's letters in order.

    Nothing newer may overtake an open post for the name, letters that are being stored (`pending`), or letters that
    may wait in the store. `deposits` counts stored letters: it shows whether one came while the store was read.
    """

    open_posts: int = 0
    pending: int = 0
    letters: bool = False
    deposits: int = 0

    def is_free(self) -> bool:
        return not (self.open_posts or self.pending or self.letters)


Outcome = Answer | Reaction | Admission | Deposit | Post


class Service:
    """The table, the sessions and the order of letters, for the server with this public Ed25519 key.

    `changed` is called with each new row of the table, in order, none left out.
    """

    def __init__(self, key: bytes, epoch: bytes, changed: Callable[[Record], object] = lambda record: None) -> None:
        self.table = ServerTable(epoch)
        self._key = key
        self._changed = changed
        self._by_name: dict[str, Session] = {}
        self._by_key: dict[bytes, Session] = {}
        self._buckets = TokenBuckets(LETTERS_A_SECOND, LETTERS_AT_ONCE)
        self._lanes: dict[str, _Lane] = {}
        self._in_progress: set[tuple[LetterKind, str, bytes]] = set()
        self._latest = 0.0

    def load(self, records: Iterable[Record], with_letters: Iterable[str]) -> None:
        """Begin with what a store kept; everybody is offline until they register."""
        for record in records:
            self.table.put(attrs.evolve(record, online=False))
            self._stamp(record.since)
            self._lanes[fold(record.name)] = _Lane()
        for name in with_letters:
            self._lanes[fold(name)].letters = True

    def _stamp(self, at: float) -> float:
        """A time later than any before: clients compare `since` and `sent_at`, and clocks may stop or go backwards."""
        self._latest = max(at, self._latest + TICK)
        return self._latest

    # --- requests ---

    def receive(self, peer: Peer, request: Request, now: float, at: float) -> Outcome:
        """Decide on a request. `now`: monotonic seconds; `at`: seconds since 1970, UTC."""
        at = self._stamp(at)
        if isinstance(request, Register):
            return self._register(peer, request, now, at)
        sender = self._by_key.get(peer.key)
        # The right key at another address is a program that was replaced, or has not registered there.
        if sender is None or sender.peer != peer:
            return request.refused(Reason.NOT_REGISTERED)
        # Each start of the server begins a new epoch. If it was restarted while this client registered, the answer of
        # the previous server may have arrived last. Then the client drops every change of our table, which is of
        # another epoch, until it is refused here and registers again.
        if isinstance(request, Heartbeat) and request.since != sender.since:
            return request.refused(Reason.NOT_REGISTERED)
        sender.heard_at = now
        match request:
            case Heartbeat():
                return request.ack()
            case Deregister():
                self.mark_offline(sender, at)
                return request.deregistered()
            case Find(name=name):
                return request.found(self.table[name]) if self._is_owned(name) else request.refused(Reason.UNKNOWN)
            case Save():
                return self._save(sender, request, now, at)
            case GroupPost():
                return self._post(sender, request, at)
            case _:
                return Reaction.SILENCE

    def _is_owned(self, name: str) -> bool:
        return name in self.table and self.table[name].credentials is not None

    def _register(self, peer: Peer, request: Register, now: float, at: float) -> Outcome:
        """A name belongs to the key that first registered it; the owner is where they registered last."""
        name, keys = request.name, request.credentials.keys
        # Credentials are in the table for everybody to read. Only their owner has a link with this key.
        if keys.link != peer.key:
            return Reaction.SILENCE
        if not verify_identity(keys, request.credentials.certificate, name=name, server_key=self._key):
            return Reaction.SILENCE
        known = self.table[name].credentials if name in self.table else None
        if known is not None and known.keys.signing != keys.signing:
            return request.refused(Reason.TAKEN)
        elsewhere = [session for session in self._sessions_of(peer, name) if session.program != request.program]
        # A Register may arrive late: its program may have ended, and a newer one may have the name. So a takeover needs
        # two. The first one is only told the time, and a program that has ended does not send a second one. The second
        # one may be late itself: then a newer session began after that time, or the time is long past.
        told_at = request.takeover_at
        if elsewhere and (told_at < at - TAKEOVER_LIMIT or any(session.since > told_at for session in elsewhere)):
            return request.elsewhere(at)
        if len(self.table) >= MAX_NAMES and name not in self.table:
            return Reaction.SILENCE
        return self._admit(peer, request, now, at)

    def _admit(self, peer: Peer, request: Register, now: float, at: float) -> Admission:
        name = request.name
        ended = self._sessions_of(peer, name)
        for session in ended:
            if fold(session.name) == fold(name):
                self._end(session)  # the row stays online: the others must not see an absence that did not happen
            else:
                self.mark_offline(session, at)
        new = Session(name, peer, request.program, at, now)
        self._by_name[fold(name)] = self._by_key[peer.key] = new
        self._lanes.setdefault(fold(name), _Lane())
        record = Record(name, *_shown_address(peer), True, at, request.credentials)
        self._put(record)
        return Admission(new, record, ended)

    def _sessions_of(self, peer: Peer, name: str) -> tuple[Session, ...]:
        """The sessions of a key and of a name, which end when this key registers this name."""
        return tuple(dict.fromkeys(filter(None, (self._by_key.get(peer.key), self.session(name)))))

    def moved(self, before: Peer, after: Peer) -> None:
        """A peer has proven that it is at another address now: its session, if it has one, continues there."""
        session = self._by_key.get(before.key)
        if session is not None and session.peer == before:
            session.peer = after
            host, port = _shown_address(after)
            self._put(attrs.evolve(self.table[session.name], host=host, port=port))

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
        for name, lane in self._lanes.items():  # not over the set: its order differs from run to run
            if name not in post.left:
                continue
            if name in self._by_name and lane.is_free():
                post.targets.append(self._by_name[name])
            lane.open_posts += 1
        return post

    def _begin(self, letter: Letter) -> bool:
        if letter.key in self._in_progress or len(self._in_progress) >= MAX_IN_PROGRESS:
            return False
        self._in_progress.add(letter.key)
        return True

    def ended(self, letter: Letter) -> None:
        """The Save or GroupPost that brought this letter has been answered, or given up."""
        self._in_progress.discard(letter.key)

    # --- who is online ---

    def session(self, name: str) -> Session | None:
        """The session of a name; None when it is offline."""
        return self._by_name.get(fold(name))

    def online(self) -> list[Session]:
        """The sessions of all who are online."""
        return list(self._by_name.values())

    def is_current(self, session: Session) -> bool:
        """Whether this is still the session of its name."""
        return self._by_name.get(fold(session.name)) is session

    def mark_offline(self, session: Session, at: float) -> bool:
        """End a session and show its name as offline. While the server runs, nothing else does. The callers:

        - `receive`: a Deregister; `_admit`: the same key has registered another name;
        - the delivery loop: a delivery and PROBES (5) probes, of one window each, were not answered;
        - the sweep in server.py: no request for SILENCE_LIMIT (65 s).

        Returns False if the session had ended: its name may have registered again during the last probe.
        """
        if not self.is_current(session):
            return False
        self._end(session)
        self._put(attrs.evolve(self.table[session.name], online=False, since=at))
        return True

    def overdue(self, now: float) -> list[Session]:
        """The sessions without a request for SILENCE_LIMIT."""
        return [session for session in self._by_name.values() if now - session.heard_at > SILENCE_LIMIT]

    def _end(self, session: Session) -> None:
        del self._by_name[fold(session.name)]
        del self._by_key[session.peer.key]

    def _put(self, record: Record) -> None:
        self.table.put(record)
        self._changed(record)

    # --- in which order ---

    def next_step(self, session: Session, id: bytes) -> TableChange | NextStep:
        """What to send to a client next: the table first, then letters, unless a post is open for its name."""
        if not self.is_current(session):
            return NextStep.REST
        if session.catching_up:
            change = self.table.change_since(session.held, id)
            if change is not None:
                return change
            session.catching_up = False
        lane = self._lanes[fold(session.name)]
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
        """How many letters were stored. Get it before reading the store, and pass it to `found_empty` afterwards."""
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
        """The post no longer holds back anybody's letters."""
        for name in post.left:
            self._lanes[name].open_posts -= 1

    def reopen(self, letter: Letter, left: Iterable[str]) -> Post:
        """A post that was not finished when the server stopped: those left get it as a letter."""
        post = Post(letter, {fold(name) for name in left}, [])
        for name in post.left:
            self._lanes[name].open_posts += 1
        return post


def _shown_address(peer: Peer) -> tuple[str, int]:
    """Host and port, without the zone of an IPv6 address: fe80::1%eth0 means nothing on another machine."""
    host, port = peer.address
    return host.partition("%")[0], port
