"""The server's decisions: a request in, an answer or a piece of work out. Also who is online, and who owns which name.

No store, socket or clock: server/server.py does the work and reports the results.
"""

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from types import MappingProxyType

import attrs

from trio_chat.crypto.identities import verify_identity
from trio_chat.link.session import Peer
from trio_chat.protocol.duplicates import Reaction
from trio_chat.protocol.limits import LIMITS, Limits, origin
from trio_chat.protocol.messages import (
    Answer,
    Deregister,
    Find,
    GroupPost,
    Heartbeat,
    Introduce,
    ListNames,
    Register,
    Request,
    Save,
)
from trio_chat.protocol.records import (
    EVERYONE,
    EVERYONE_NAME,
    Credentials,
    Entry,
    EntryKind,
    Reason,
    Record,
    fold,
)
from trio_chat.protocol.room_messages import BeginEpoch, CreateRoom, RoomRequest
from trio_chat.protocol.table import ServerTable
from trio_chat.server.blocks import Blocks
from trio_chat.server.moderation import Moderation
from trio_chat.server.room_sessions import RoomSessions
from trio_chat.server.sessions import Admission, Append, AskRoom, Introduction, Session
from trio_chat.server.throttle import Throttle
from trio_chat.server.views import Views

SILENCE_LIMIT = 65.0
"""Seconds without a request after which a client is marked offline: three missed heartbeats (20 s) and a margin."""

TAKEOVER_LIMIT = 5.0
"""Seconds after an Elsewhere during which its client can take the name over: twice the time that a Register gets."""

TICK = 1e-6


Outcome = Answer | Reaction | Admission | Append | AskRoom | Introduction


class Service:
    """The table and the sessions, for the server with this public Ed25519 key.

    `changed` is called with each new row of the table, in order, none left out.
    """

    def __init__(
        self,
        key: bytes,
        epoch: bytes,
        changed: Callable[[Record], object] = lambda record: None,
        limits: Limits = LIMITS,
        moderation: Moderation | None = None,
    ) -> None:
        self.moderation = moderation or Moderation()
        self.table = ServerTable(epoch)
        self.throttle = Throttle(limits)
        self.refused_by_links: Callable[[], Counter[str]] = Counter
        self._key = key
        self._changed = changed
        self._by_name: dict[str, Session] = {}
        self._by_key: dict[bytes, Session] = {}
        self.rooms = RoomSessions()
        self._blocks = Blocks(limits.blocked)
        self.views = Views(self.table, self._blocks)
        self._latest = 0.0

    def load(
        self,
        names: Iterable[tuple[Record, Credentials | None]],
        past_owners: Iterable[tuple[str, Credentials]] = (),
    ) -> None:
        """Begin with what a store kept: each name, and its owner or its last one; and who had names before.

        Everybody is offline.
        """
        for name, past_owner in past_owners:
            self.views.remember_owner(name, past_owner)
        for record, owner in names:
            self.table.put(attrs.evolve(record, online=False))
            self.views.remember_owner(record.name, owner)

    @property
    def refusals(self) -> Mapping[str, int]:
        """How often each limit was reached since the start, by the names of the fields of `Limits`."""
        return MappingProxyType(self.throttle.refusals + self.refused_by_links())

    def _stamp(self, now: float) -> float:
        """A time later than any before. Clients know their registration by it, and two may come at the same moment."""
        self._latest = max(now, self._latest + TICK)
        return self._latest

    # --- requests ---

    def receive(self, peer: Peer, request: Request, now: float, at: float) -> Outcome:
        """Decide on a request. `now`: monotonic seconds; `at`: seconds since 1970, UTC, which people see."""
        # Not answered: an answer has to be sealed, which costs as much as most of these requests.
        if self.throttle.pause(now, requests_per_key=peer.key):
            return Reaction.SILENCE
        if self.moderation.is_being_told(peer, request):
            return Reaction.SILENCE
        if isinstance(request, Register):
            return self._register(peer, request, now, at)
        sender = self._by_key.get(peer.key)
        # The right key at another address is a program that was replaced, or has not registered there.
        if sender is None or sender.peer != peer:
            return request.refused(Reason.NOT_REGISTERED)
        # Each start of the server begins a new epoch. If it was restarted while this client registered, the answer of
        # the previous server may have arrived first. Then the client drops every change of our table, which is of
        # another epoch, until it is refused here and registers again.
        if isinstance(request, Heartbeat) and request.since != sender.since:
            return request.refused(Reason.NOT_REGISTERED)
        sender.heard_at = now
        match request:
            case Heartbeat():
                self._show_address(sender, now)
                return request.ack()
            case Deregister():
                self.mark_offline(sender, at)
                return request.deregistered()
            case Find(name=name):
                return self.views.find(sender, request) if self._is_owned(name) else request.refused(Reason.UNKNOWN)
            case ListNames():
                after = self.throttle.pause(now, name_lists_per_key=sender.key)
                return request.refused(Reason.TOO_FAST, after) if after else self.views.list_names(sender, request)
            case Introduce():
                return self._introduce(sender, request, now)
            case Save():
                return self._save(sender, request, now, at)
            case GroupPost():
                return self._post(sender, request, now, at)
            case _ if isinstance(request, RoomRequest):
                return self._ask_room(sender, request, now, at)
        return Reaction.SILENCE

    def _is_owned(self, name: str) -> bool:
        return name in self.table and self.table[name].credentials is not None

    def _register(self, peer: Peer, request: Register, now: float, at: float) -> Outcome:
        """A name belongs to the key that first registered it; the owner is where they registered last."""
        name, keys = request.name, request.credentials.keys
        # Credentials are in the table for everybody to read. Only their owner has a link with this key.
        if keys.link != peer.key:
            return Reaction.SILENCE
        # Before the signature is checked, which costs more than all else here, and whether or not it is right.
        if after := self._count_registration(peer, now):
            return request.refused(Reason.TOO_FAST, after)
        known = self.table[name].credentials if name in self.table else None
        # Who writes to `everyone` means all people, and must not reach one who has taken that name.
        if fold(name) == EVERYONE_NAME or (known is not None and known.keys.signing != keys.signing):
            return request.refused(Reason.TAKEN)
        if reason := self.moderation.refusal(request, peer.address, at, is_owner=known is not None):
            return request.refused(reason)
        if limit := self._full_limit(request):
            self.throttle.refuse(limit)
            return request.refused(Reason.TOO_MANY_NAMES if limit == "names_per_key" else Reason.NO_ROOM)
        if not verify_identity(keys, request.credentials.certificate, name=name, server_key=self._key):
            return Reaction.SILENCE
        elsewhere = [session for session in self._sessions_of(peer, name) if session.program != request.program]
        # A Register may arrive late: its program may have ended, and a newer one may have the name. So a takeover needs
        # two. The first one is only told the time, and a program that has ended does not send a second one. The second
        # one may be late itself: then a newer session began after that time, or the time is long past.
        # And a time that is still to come was never told.
        # By the monotonic clock: a wall clock that is set forward and back would let nobody in for the time between.
        now = self._stamp(now)
        told_at = request.takeover_at
        is_valid = now - TAKEOVER_LIMIT <= told_at <= now
        if elsewhere and (not is_valid or any(session.since > told_at for session in elsewhere)):
            return request.elsewhere(now)
        # Last: only names that become known count.
        if name not in self.table and self.throttle.pause(now, new_names_per_address=origin(peer.address)):
            return request.refused(Reason.NO_ROOM)
        return self._admit(peer, request, now, at)

    def _count_registration(self, peer: Peer, now: float) -> float:
        # The key first: a program that registers all the time does not use up the share of those at its address.
        return self.throttle.pause(now, registrations_per_key=peer.key, registrations_per_address=origin(peer.address))

    def _full_limit(self, request: Register) -> str | None:
        """The limit that this registration would exceed by one more name. None if there is room, or it has the name."""
        limits, name = self.throttle.limits, request.name
        if name not in self.table and len(self.table) >= limits.names:
            return "names"
        if not self._is_owned(name) and self.table.names_of(request.credentials.keys.signing) >= limits.names_per_key:
            return "names_per_key"
        return None

    def _admit(self, peer: Peer, request: Register, now: float, at: float) -> Admission:
        name = request.name
        invitation = self.moderation.admit(request, is_owner=self._is_owned(name))
        ended = self._sessions_of(peer, name)
        for session in ended:
            if session.folded == fold(name):
                self._end(session)  # the row stays online: the others must not see an absence that did not happen
            else:
                self.mark_offline(session, at)
        new = Session(name, request.credentials.keys.signing, peer, request.program, now, now, request.held)
        self._by_name[new.folded] = self._by_key[peer.key] = new
        self.views.remember_owner(name, request.credentials)
        record = Record(name, *_shown_address(peer), True, at, request.credentials)
        before = self.table.row(name)
        self._put(record)
        now_shown = (self.table.version.n, record)
        self._blocks.replace(new.folded, new.key, request.blocked, origin(peer.address), before, now_shown)
        return Admission(request, new, record, ended, invitation)

    def _sessions_of(self, peer: Peer, name: str) -> tuple[Session, ...]:
        """The sessions of a key and of a name, which end when this key registers this name."""
        return tuple(dict.fromkeys(filter(None, (self._by_key.get(peer.key), self.session(name)))))

    def moved(self, before: Peer, after: Peer, now: float) -> None:
        """A peer has proven that it is at another address now: its session, if it has one, continues there."""
        session = self._by_key.get(before.key)
        # Who moves to a banned address has to register from there, and is refused.
        if session is not None and session.peer == before and not self.moderation.is_banned_address(after.address):
            session.peer = after
            self._show_address(session, now)

    def _show_address(self, session: Session, now: float) -> None:
        """Show the address of a session in its row, if it has moved."""
        row, (host, port) = self.table[session.name], _shown_address(session.peer)
        if row.address == (host, port):
            return
        # A row goes to everybody, so somebody who moves all the time changes it as seldom as by registering. Until the
        # next heartbeat, messages to them go by the server.
        if not self._count_registration(session.peer, now):
            self._put(attrs.evolve(row, host=host, port=port))

    def _introduce(self, sender: Session, request: Introduce, now: float) -> Outcome:
        other = self.session(request.name)
        is_online = other is not None and not self._blocks.hides(other.folded, sender.key)
        if other is None or not is_online or self.throttle.pause(now, introductions_per_key=sender.key):
            return Reaction.SILENCE
        return Introduction(other.peer, sender.name, request.at)

    def _save(self, sender: Session, request: Save, now: float, at: float) -> Outcome:
        if not self._is_owned(request.recipient):
            return request.refused(Reason.UNKNOWN)
        recipient = fold(request.recipient)
        # By the signing key: the owner of a name may change the link key with each registration.
        after = self.throttle.pause(
            now,
            letters_per_mailbox_and_key=(sender.key, recipient),
            letters_per_key=sender.key,
            letters_per_address=origin(sender.peer.address),
        )
        if after:
            return request.refused(Reason.TOO_FAST, after)
        return self._append(EntryKind.DIRECT, sender, request, recipient, at)

    def _post(self, sender: Session, request: GroupPost, now: float, at: float) -> Outcome:
        # What a post costs grows with those who get it.
        tokens = max(1.0, len(self.members_online(request.room)) / 100)
        address = origin(sender.peer.address)
        if after := self.throttle.pause(now, tokens, posts_per_key=sender.key, posts_per_address=address):
            return request.refused(Reason.TOO_FAST, after)
        return self._append(EntryKind.GROUP, sender, request, request.room, at)

    def _ask_room(self, sender: Session, request: RoomRequest, now: float, at: float) -> Outcome:
        rates = dict[str, Hashable](room_requests_per_key=sender.key)
        if isinstance(request, BeginEpoch):
            rates["epochs_per_key"] = sender.key
        if isinstance(request, CreateRoom) or (isinstance(request, BeginEpoch) and request.n == 1):
            rates |= {"new_rooms_per_key": sender.key, "new_rooms_per_address": origin(sender.peer.address)}
        tokens = max(1.0, len(self.rooms.told_of(request)) / 100)
        if after := self.throttle.pause(now, tokens, **rates):
            return request.refused(Reason.TOO_FAST, after)
        return AskRoom(request, sender.name, sender.key, at, origin(sender.peer.address))

    def _append(self, kind: EntryKind, sender: Session, request: Save | GroupPost, recipient: str, at: float) -> Append:
        return Append(request, Entry(0, kind, request.id, sender.name, sender.key, recipient, at, request.body))

    # --- who is online ---

    def session(self, name: str) -> Session | None:
        """The session of a name; None when it is offline."""
        return self._by_name.get(fold(name))

    def is_registered(self, key: bytes) -> bool:
        """Whether somebody with this link key is online."""
        return key in self._by_key

    def is_online_for(self, name: str, key: bytes) -> bool:
        """Whether a name is online, and does not block this key."""
        return fold(name) in self._by_name and not self._blocks.hides(fold(name), key)

    def members_online(self, room: str) -> Collection[Session]:
        """The sessions of those who get what is posted to a room."""
        return self._by_name.values() if room == EVERYONE else self.rooms.sessions(room)

    def online(self) -> list[Session]:
        """The sessions of all who are online."""
        return list(self._by_name.values())

    def is_current(self, session: Session) -> bool:
        """Whether this is still the session of its name."""
        return self._by_name.get(session.folded) is session

    def mark_offline(self, session: Session, at: float) -> bool:
        """End a session and show its name as offline. While the server runs, nothing else does. The callers:

        - `receive`: a Deregister; `_admit`: the same key has registered another name;
        - delivery.py: a delivery and PROBES (5) probes, of one window each, were not answered;
        - the sweep in server.py: no request for SILENCE_LIMIT (65 s);
        - `end_session`: the operator.

        Returns False if the session had ended: its name may have registered again during the last probe.
        """
        if not self.is_current(session):
            return False
        self._end(session)
        self._put(attrs.evolve(self.table[session.name], online=False, since=at))
        return True

    # --- what the operator decides ---

    def end_session(self, session: Session, at: float) -> None:
        """End a session. Its program gets no answers until `Moderation.told` is called."""
        self.mark_offline(session, at)
        self.moderation.begin_to_tell(session.peer, session.program)

    def free(self, name: str, only_for: str = "") -> None:
        """Nobody owns this name any more. `only_for`: the fingerprint of the only key that may take it."""
        self.moderation.reserve(name, only_for)
        self._blocks.forget(fold(name))
        self._put(attrs.evolve(self.table[name], credentials=None))

    def delete(self, name: str) -> None:
        """There is no such name any more."""
        self.moderation.reserve(name, "")
        self._blocks.forget(fold(name))
        self._changed(self.table.delete(name))

    def overdue(self, now: float) -> list[Session]:
        """The sessions without a request for SILENCE_LIMIT."""
        return [session for session in self._by_name.values() if now - session.heard_at > SILENCE_LIMIT]

    def _end(self, session: Session) -> None:
        self.rooms.leave_all(session)
        del self._by_name[session.folded]
        del self._by_key[session.peer.key]

    def _put(self, record: Record) -> None:
        self.table.put(record)
        self._changed(record)


def _shown_address(peer: Peer) -> tuple[str, int]:
    """Host and port, without the zone of an IPv6 address: fe80::1%eth0 means nothing on another machine."""
    host, port = peer.address
    return host.partition("%")[0], port
