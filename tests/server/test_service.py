"""The server's decisions: who is online, who owns a name, and which requests are accepted.

No sockets and no clock (tests/bare_server.py). What is handed over, and in which order, is in test_order.py.
"""

import random
from contextlib import contextmanager

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bare_server import (
    SERVER,
    SERVER_KEY,
    A,
    B,
    BareServer,
    C,
    credentials_of,
    elsewhere,
    identity_of,
    program_at,
)
from trio_chat.crypto.identities import Identity, credentials, sign_identity
from trio_chat.link.session import Peer
from trio_chat.protocol.duplicates import Reaction
from trio_chat.protocol.limits import Limits
from trio_chat.protocol.messages import (
    Ack,
    Batch,
    Deregister,
    Deregistered,
    DirectMessage,
    Elsewhere,
    Find,
    GroupPost,
    Heartbeat,
    MessagesKept,
    Refused,
    Register,
    Save,
    SessionEnded,
    TableChange,
)
from trio_chat.protocol.records import (
    EVERYONE,
    NO_KEY,
    Credentials,
    Entry,
    EntryKind,
    PublicKeys,
    Reason,
    Record,
    Version,
    fold,
)
from trio_chat.server.service import SILENCE_LIMIT, TAKEOVER_LIMIT, Admission, Append


@pytest.fixture
def server() -> BareServer:
    return BareServer()


def coming_and_going(server) -> list[tuple[str, bool]]:
    return [(row.name, row.online) for row in server.published]


def is_refused(answer, reason) -> bool:
    return isinstance(answer, Refused) and answer.reason is reason


def is_not_registered(answer) -> bool:
    return is_refused(answer, Reason.NOT_REGISTERED)


# --- online and offline ---


def test_the_table_shows_the_address_that_a_registration_came_from(server):
    admission = server.register("alice", A)
    assert admission.record == Record("alice", "10.0.0.1", 1, True, server.at, credentials_of(A, "alice"))
    assert (admission.ended, admission.superseded) == ((), [])
    assert (admission.session.peer, admission.session.key) == (A, ALICE.public.signing)
    assert admission.session.since == server.now
    assert isinstance(admission.request, Register)
    assert server.published == [admission.record]
    assert server.service.table["alice"] == admission.record
    assert server.service.is_current(admission.session)
    assert server.service.session("ALICE") is admission.session


def test_the_zone_of_an_address_is_not_in_the_table(server):
    place = elsewhere(A, ("fe80::1%eth0", 7))
    admission = server.register("alice", place)
    assert admission.session.peer == place
    assert admission.record.address == ("fe80::1", 7)


def test_a_deregistration_marks_offline_at_that_time(server):
    session = server.enter("alice", A)
    request = Deregister(server.id())
    assert server.ask(A, request) == Deregistered(Deregister.kind, request.id)
    assert server.published[-1] == Record("alice", "10.0.0.1", 1, False, server.at, credentials_of(A, "alice"))
    assert server.online() == {}
    assert not server.service.is_current(session)


def test_the_same_program_at_the_same_address_begins_a_new_session(server):
    first = server.enter("alice", A)
    admission = server.register("alice", A)
    assert (admission.ended, admission.superseded) == ((first,), [])
    assert not server.service.is_current(first)
    assert server.service.is_current(admission.session)
    assert coming_and_going(server) == [("alice", True), ("alice", True)]


def test_another_name_from_the_same_address_ends_the_first(server):
    alice = server.enter("alice", A)
    server.enter("bob", A)
    assert coming_and_going(server) == [("alice", True), ("alice", False), ("bob", True)]
    assert not server.service.is_current(alice)
    assert server.online() == {"bob": A}


def test_names_differ_by_more_than_case_and_are_shown_as_registered_last(server):
    server.enter("bob", A)
    server.enter("Bob", A)
    assert server.online() == {"Bob": A}
    assert server.service.table["bob"].name == "Bob"
    assert len(server.service.table) == 1


def test_the_number_of_names_is_limited_and_known_ones_may_always_return():
    server = BareServer(Limits(names=2))
    server.enter("alice", A)
    server.enter("bob", B)
    assert is_refused(server.register("carol", C), Reason.NO_ROOM)
    server.leave(A)
    assert is_refused(server.register("carol", C), Reason.NO_ROOM)
    assert is_refused(server.register("ALICE", C), Reason.TAKEN)
    assert isinstance(server.register("ALICE", A), Admission)


@pytest.mark.parametrize("name", ["everyone", "Everyone"])
def test_nobody_is_called_everyone(server, name):
    assert is_refused(server.register(name, A), Reason.TAKEN)
    assert name not in server.service.table


def test_registrations_at_the_same_moment_have_different_stamps(server):
    server.pace = 0.0
    stamps = [server.enter("alice", A).since for _ in range(3)]
    stamps += [server.enter("bob", B).since]
    assert stamps == sorted(set(stamps))
    assert stamps[-1] == pytest.approx(0.0, abs=0.001)


# --- owners of names ---


@contextmanager
def nothing_happens(server):
    """Requests in this block change no row and no session, and do not count as a sign of life."""

    def state():
        sessions = [(id(session), session.peer, session.heard_at) for session in server.service.online()]
        return list(server.published), sessions, server.service.table.version

    before = state()
    yield
    assert state() == before


def came_back_after_a_restart(server) -> BareServer:
    after = BareServer()
    row = server.service.table["alice"]
    after.service.load([(row, row.credentials)])
    return after


SINCE_THEN = {
    "online": lambda server: server,
    "deregistered": lambda server: server.leave(A) and server,
    "marked offline": lambda server: server.service.mark_offline(server.service.session("alice"), 1.0) and server,
    "at another address": lambda server: server.enter("alice", elsewhere(A)) and server,
    "after a restart of the server": came_back_after_a_restart,
}


@pytest.mark.parametrize("take_over", [False, True])
@pytest.mark.parametrize("name", ["alice", "ALICE", "aLiCe"])
@pytest.mark.parametrize("since_then", SINCE_THEN.values(), ids=SINCE_THEN)
def test_a_name_belongs_to_the_key_that_it_was_first_registered_with(server, since_then, name, take_over):
    server.enter("Alice", A)
    server = since_then(server)
    with nothing_happens(server):
        assert is_refused(server.register(name, B, take_over=take_over), Reason.TAKEN)
        assert is_refused(server.register(name, elsewhere(B, A.address), take_over=take_over), Reason.TAKEN)
        assert is_refused(server.register(name, B, program=program_at(A), take_over=take_over), Reason.TAKEN)
    assert isinstance(server.register(name, A), Admission), "it is hers"


@pytest.mark.parametrize(("first", "second"), [(A, B), (B, A)])
def test_of_two_keys_that_register_at_the_same_moment_the_first_gets_the_name(server, first, second):
    server.pace = 0.0
    admission = server.register("alice", first)
    assert is_refused(server.register("Alice", second), Reason.TAKEN)
    assert server.service.is_current(admission.session)
    server.leave(first)
    assert is_refused(server.register("alice", second), Reason.TAKEN)


def test_a_refused_registration_does_not_change_the_name_one_has(server):
    server.enter("alice", A)
    server.enter("bob", B)
    with nothing_happens(server):
        assert is_refused(server.register("alice", B), Reason.TAKEN)


def certificate(identity, name="alice", server_key=SERVER_KEY) -> bytes:
    return sign_identity(identity, name=name, server_key=server_key)


ALICE, THIEF = identity_of(A), identity_of(B)
HERS = certificate(ALICE)
FORGED = {
    "nothing": bytes(64),
    "a changed one": HERS[:-1] + bytes((HERS[-1] ^ 1,)),
    "somebody else's": certificate(THIEF),
    "one for another name": certificate(ALICE, name="alice2"),
    "one for another server": certificate(ALICE, server_key=bytes(32)),
    "one for another link key": certificate(Identity(ALICE.signing_secret, THIEF.link_secret)),
    "one by the server": certificate(Identity(SERVER.signing_secret, ALICE.link_secret)),
}


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED)
def test_a_forged_certificate_gets_no_answer_and_no_name(server, forged):
    shown = Credentials(ALICE.public, forged)
    with nothing_happens(server):
        assert server.register("alice", A, shown=shown) is Reaction.SILENCE
    server.enter("alice", A)
    with nothing_happens(server):
        assert server.register("alice", A, shown=shown) is Reaction.SILENCE
        assert server.register("alice", elsewhere(A), shown=shown) is Reaction.SILENCE


def test_a_certificate_is_valid_for_a_name_in_any_case(server):
    assert server.register("ALICE", A, shown=Credentials(ALICE.public, HERS)).record.name == "ALICE"


STOLEN = {
    "her row as it is": Credentials(ALICE.public, HERS),
    "her row with their link key": Credentials(PublicKeys(ALICE.public.signing, THIEF.public.link), HERS),
    "her keys with their certificate": Credentials(ALICE.public, certificate(THIEF)),
    "her link key with their signing key": Credentials(
        PublicKeys(THIEF.public.signing, ALICE.public.link),
        certificate(Identity(THIEF.signing_secret, ALICE.link_secret)),
    ),
    "her signing key with their certificate": Credentials(
        PublicKeys(ALICE.public.signing, THIEF.public.link), certificate(THIEF)
    ),
    "her signing key with the server's certificate": Credentials(
        PublicKeys(ALICE.public.signing, THIEF.public.link),
        certificate(Identity(SERVER.signing_secret, THIEF.link_secret)),
    ),
}


@pytest.mark.parametrize("stolen", STOLEN.values(), ids=STOLEN)
@pytest.mark.parametrize("is_new", [True, False])
def test_a_thief_with_all_public_data_of_alice_and_even_the_servers_key_gets_nothing(server, stolen, is_new):
    server.enter("bob", B)
    if not is_new:
        server.enter("alice", A)
    with nothing_happens(server):
        assert server.register("alice", B, shown=stolen) is Reaction.SILENCE
        assert server.register("alice", elsewhere(B, A.address), shown=stolen) is Reaction.SILENCE


def test_the_servers_own_keys_own_no_name(server):
    server.enter("alice", A)
    thief = Peer(B.address, SERVER.public.link)
    with nothing_happens(server):
        own = credentials(SERVER, name="alice", server_key=SERVER_KEY)
        assert is_refused(server.register("alice", thief, shown=own), Reason.TAKEN)


@pytest.mark.parametrize("name", ["alice", "ALICE"])
def test_a_name_without_credentials_goes_to_the_first_key_that_registers_it(server, name):
    server.service.load([(Record("Alice", "10.0.0.8", 8, False, 500.0), credentials_of(C, "Alice"))])
    server.enter(name, B)
    assert server.service.table["alice"].credentials == credentials_of(B, name)
    assert is_refused(server.register("Alice", A), Reason.TAKEN)
    server.leave(B)
    assert is_refused(server.register("Alice", A), Reason.TAKEN)


# --- one owner at several addresses ---


@pytest.mark.parametrize("name", ["alice", "Alice"])
def test_the_owner_takes_over_from_another_address_at_once(server, name):
    old = server.enter("alice", A)
    admission = server.register(name, elsewhere(A))
    assert admission.record == Record(name, "10.0.0.9", 9, True, server.at, credentials_of(A, name))
    assert (admission.ended, admission.superseded) == ((old,), [old])
    assert not server.service.is_current(old)
    assert server.online() == {name: elsewhere(A)}
    assert coming_and_going(server) == [("alice", True), (name, True)], "the name was never offline"
    assert is_not_registered(send_request(server, A, Heartbeat))
    assert isinstance(send_request(server, elsewhere(A), Heartbeat), Ack)


def test_a_program_that_registers_from_a_new_address_gets_no_takeover(server):
    old = server.enter("alice", A)
    admission = server.register("alice", elsewhere(A), program=old.program)
    assert (admission.ended, admission.superseded) == ((old,), [])
    assert server.online() == {"alice": elsewhere(A)}
    assert is_not_registered(send_request(server, A, Heartbeat)), "that was a copy, or is too late"


def test_another_program_at_the_same_address_replaces_without_a_takeover(server):
    old = server.enter("alice", A)
    admission = server.register("alice", A, program=bytes(16))
    assert (admission.ended, admission.superseded) == ((old,), [])
    assert server.service.is_current(admission.session)


def test_the_owner_may_use_another_link_key(server):
    old = server.enter("alice", A)
    renewed = Identity(ALICE.signing_secret, bytes(32))
    place = Peer(C.address, renewed.public.link)
    shown = credentials(renewed, name="alice", server_key=SERVER_KEY)
    admission = server.register("alice", place, shown=shown)
    assert (admission.ended, admission.superseded) == ((old,), [old])
    assert server.service.table["alice"].credentials == shown
    assert is_not_registered(send_request(server, A, Heartbeat))
    server.enter("alice2", A)
    assert server.online() == {"alice": place, "alice2": A}, "the former key no longer has this name"
    both = server.register("alice", A)
    assert [session.name for session in both.ended] == ["alice2", "alice"]
    assert server.online() == {"alice": A}


def test_nothing_is_taken_over_before_the_new_program_has_registered_twice(server):
    old = server.enter("alice", A)
    answer, request = server.register_once("alice", elsewhere(A))
    assert isinstance(answer, Elsewhere)
    assert server.service.is_current(old)
    server.leave(A)
    assert isinstance(server.take_over(elsewhere(A), request, answer), Admission)


def test_a_takeover_is_decided_by_the_owner_of_the_name_at_that_time(server):
    server.enter("alice", A)
    answer, request = server.register_once("alice", elsewhere(A))
    freed = attrs.evolve(server.service.table["alice"], credentials=credentials_of(B, "alice"))
    server.service.table.put(freed)
    assert is_refused(server.take_over(elsewhere(A), request, answer), Reason.TAKEN)


def test_a_takeover_after_another_takeover_has_to_be_sent_again(server):
    former, first, last = A, elsewhere(A), elsewhere(A, ("10.0.0.8", 8))
    server.enter("alice", former)
    answer, request = server.register_once("alice", first)
    server.leave(former)
    server.enter("alice", last)
    with nothing_happens(server):
        again = server.take_over(first, request, answer)
        assert isinstance(again, Elsewhere), "it may have been delayed, and its program may have ended"
    assert isinstance(server.take_over(first, request, again), Admission)


def test_a_takeover_that_arrives_late_has_to_be_sent_again(server):
    server.enter("alice", A)
    answer, request = server.register_once("alice", elsewhere(A))
    server.now += TAKEOVER_LIMIT
    with nothing_happens(server):
        again = server.take_over(elsewhere(A), request, answer)
        assert isinstance(again, Elsewhere), "though no other program has registered since"
    assert isinstance(server.take_over(elsewhere(A), request, again), Admission)


def test_a_takeover_at_a_time_that_is_still_to_come_has_to_be_sent_again(server):
    server.enter("alice", A)
    _, request = server.register_once("alice", elsewhere(A))
    with nothing_happens(server):
        answer = server.ask(elsewhere(A), attrs.evolve(request, id=server.id(), takeover_at=253_402_300_799.0))
        assert isinstance(answer, Elsewhere), "such a time would let one request take over at any time"


def test_a_late_registration_does_not_prevent_a_takeover(server):
    former, new = A, elsewhere(A)
    program = server.enter("alice", former).program
    answer, request = server.register_once("alice", new)
    server.enter("alice", former, program=program)
    again = server.take_over(new, request, answer)
    assert isinstance(again, Elsewhere)
    assert isinstance(server.take_over(new, request, again), Admission)
    assert server.online() == {"alice": new}


@pytest.mark.parametrize("name", ["alice", "ALICE"])
def test_a_superseded_program_does_not_take_the_name_back_by_itself(server, name):
    server.enter("alice", A)
    server.enter("alice", elsewhere(A))
    with nothing_happens(server):
        assert isinstance(server.register(name, A, take_over=False), Elsewhere)
        for place in (elsewhere(A), elsewhere(A, ("10.0.0.8", 8))):
            back = server.register(name, place, program=program_at(A), take_over=False)
            assert isinstance(back, Elsewhere), "from any address"
    server.enter(name, A)
    assert server.online() == {name: A}, "unless its owner says so"


@pytest.mark.parametrize("place", [A, elsewhere(A)])
def test_a_program_comes_back_by_itself_if_no_other_has_the_name(server, place):
    program = server.enter("alice", A).program
    server.enter("alice", place, program=program, take_over=False)
    server.leave(place)
    server.enter("alice", place, program=program, take_over=False)
    assert server.online() == {"alice": place}


@pytest.mark.parametrize("gone", ["left", "marked offline"])
def test_a_superseded_program_comes_back_when_the_other_has_gone(server, gone):
    server.enter("alice", A)
    other = server.enter("alice", elsewhere(A))
    if gone == "left":
        server.leave(other.peer)
    else:
        server.service.mark_offline(other, 1234.0)
    admission = server.register("alice", A, take_over=False)
    assert (admission.ended, admission.superseded) == ((), [])
    assert server.online() == {"alice": A}


def test_a_key_has_one_session_but_owns_all_its_names(server):
    alice = server.enter("alice", A)
    admission = server.register("bob", elsewhere(A))
    assert (admission.ended, admission.superseded) == ((alice,), [alice])
    assert coming_and_going(server) == [("alice", True), ("alice", False), ("bob", True)]
    assert server.online() == {"bob": elsewhere(A)}
    assert is_not_registered(send_request(server, A, Heartbeat))
    for name in ("alice", "bob"):
        assert is_refused(server.register(name, B), Reason.TAKEN)
    server.enter("alice", A)
    assert server.online() == {"alice": A}


def test_two_people_who_swap_addresses(server):
    server.enter("alice", A)
    server.enter("bob", B)
    server.enter("alice", elsewhere(A, B.address))
    assert server.online() == {"alice": elsewhere(A, B.address), "bob": B}, "an address does not identify a name"
    server.enter("bob", elsewhere(B, A.address))
    assert {row.name: row.address for row in server.published} == {"alice": B.address, "bob": A.address}
    assert isinstance(server.save(elsewhere(A, B.address), "bob"), Append)
    assert is_not_registered(server.save(A, "bob"))


# --- a new address within a session ---


def test_after_a_move_the_session_goes_on_and_the_table_shows_the_new_address(server):
    session, row = server.enter("Alice", A), server.published[-1]
    since = session.since
    place = elsewhere(A, ("fe80::1%eth0", 7))
    send_request(server, A, Heartbeat)
    server.moved(A, place)
    assert server.published[1:] == [attrs.evolve(row, host="fe80::1", port=7)], "still online since the same time"
    assert server.service.table["alice"] == server.published[-1]
    assert server.service.is_current(session)
    assert (session.peer, session.since) == (place, since)
    assert server.online() == {"Alice": place}
    assert isinstance(send_request(server, place, Heartbeat), Ack)
    assert is_not_registered(send_request(server, A, Heartbeat))
    server.leave(place)
    assert server.published[-1] == attrs.evolve(row, host="fe80::1", port=7, online=False, since=server.at)


def test_several_moves_are_followed(server):
    server.enter("alice", A)
    second, third = elsewhere(A), elsewhere(A, ("10.0.0.8", 8))
    server.moved(A, second)
    server.moved(second, third)
    assert server.online() == {"alice": third}
    with nothing_happens(server):
        server.moved(A, second)
    server.moved(third, A)
    assert server.online() == {"alice": A}


def test_a_move_of_somebody_else_changes_nothing(server):
    with nothing_happens(server):
        server.moved(A, elsewhere(A))
    server.enter("alice", A)
    with nothing_happens(server):
        server.moved(elsewhere(B, A.address), B)
        server.moved(elsewhere(A), elsewhere(A, ("10.0.0.8", 8)))
    server.enter("alice", elsewhere(A))
    with nothing_happens(server):
        server.moved(A, elsewhere(A, ("10.0.0.8", 8)))
    server.leave(elsewhere(A))
    with nothing_happens(server):
        server.moved(elsewhere(A), A)


# --- any sequence of requests of owners and thieves ---


class AnyOwners:
    """People who register any name from any address, with and without the right to it, come back, move and leave."""

    PLACES = (("10.0.0.1", 1), ("10.0.0.2", 2), ("10.0.0.3", 3))

    def __init__(self, dice: random.Random, server: BareServer | None = None) -> None:
        self.dice = dice
        self.server = server or BareServer()
        self.owners: dict[str, bytes] = {}

    def somebody(self) -> Peer:
        return elsewhere(self.dice.choice((A, B, C)), self.dice.choice(self.PLACES))

    def go_on(self) -> None:
        sessions = self.server.service.online()
        match self.dice.choice(["register", "register", "steal", "leave", "mark_offline", "move"]):
            case "register":
                self.register(self.somebody(), self.dice.choice(("alice", "Alice", "bob", "BOB", "carol")))
            case "steal" if sessions:
                self.steal(self.somebody(), self.dice.choice(sessions))
            case "leave":
                self.server.leave(self.somebody())
            case "mark_offline" if sessions and self.dice.random() < 0.3:
                self.server.service.mark_offline(self.dice.choice(sessions), self.server.at)
            case "move":
                peer = self.somebody()
                self.server.moved(peer, elsewhere(peer, self.dice.choice(self.PLACES)))

    def register(self, peer, name) -> None:
        take_over = self.dice.random() < 0.7
        outcome = self.server.register(name, peer, program=self.dice.choice((None, bytes(16))), take_over=take_over)
        if self.owners.get(fold(name), peer.key) != peer.key:
            assert is_refused(outcome, Reason.TAKEN)
        elif take_over or not isinstance(outcome, Elsewhere):
            assert isinstance(outcome, Admission)
            self.owners[fold(name)] = peer.key
            assert self.server.service.session(name).peer == peer

    def steal(self, peer, session) -> None:
        shown = self.server.service.table[session.name].credentials
        if peer.key != session.peer.key:
            if self.dice.random() < 0.5:
                shown = attrs.evolve(shown, keys=attrs.evolve(shown.keys, link=peer.key))
            with nothing_happens(self.server):
                assert self.server.register(session.name, peer, shown=shown) is Reaction.SILENCE

    def check(self) -> None:
        sessions = self.server.service.online()
        assert (
            len({session.peer.key for session in sessions})
            == len({fold(session.name) for session in sessions})
            == len(sessions)
        )
        rows = {fold(row.name): row for row in self.server.published}
        assert rows == {name: self.server.service.table[name] for name in self.owners}
        for name, row in rows.items():
            session = self.server.service.session(name)
            assert row.credentials.keys.link == self.owners[name]
            assert row.online == (session is not None)
            assert session is None or (session.name, session.peer) == (row.name, Peer(row.address, self.owners[name]))

    def check_posts(self) -> None:
        """Posts from every key and address are accepted only in the name, and from the address, of its session."""
        for peer in [elsewhere(who, place) for who in (A, B, C) for place in self.PLACES]:
            post = self.server.post(peer)
            if isinstance(post, Append):
                assert self.owners[fold(post.entry.sender)] == peer.key
                assert self.server.online()[post.entry.sender] == peer
                assert post.entry.key == identity_of(peer).public.signing
            else:
                assert is_not_registered(post)
                assert peer not in self.server.online().values()


@given(seed=st.integers(0, 2**64), steps=st.integers(1, 60))
def test_nobody_can_send_in_somebody_elses_name(seed, steps):
    owners = AnyOwners(random.Random(seed))
    for _ in range(steps):
        owners.go_on()
        owners.check()
    owners.check_posts()


# --- clients that do not answer ---


def test_mark_offline_ends_the_session_that_it_is_given(server):
    session = server.enter("alice", A)
    assert server.service.mark_offline(session, 1234.0)
    assert server.published[-1] == Record("alice", "10.0.0.1", 1, False, 1234.0, credentials_of(A, "alice"))
    assert server.online() == {}
    assert not server.service.mark_offline(session, 1235.0)
    assert coming_and_going(server) == [("alice", True), ("alice", False)], "and ends it once"


@pytest.mark.parametrize("back_at", [A, elsewhere(A)])
def test_mark_offline_for_an_old_session_changes_nothing(server, back_at):
    old = server.enter("alice", A)
    server.leave(A)
    new = server.enter("alice", back_at)
    assert not server.service.mark_offline(old, 1234.0)
    assert server.service.is_current(new)
    assert server.online() == {"alice": back_at}


def test_a_session_is_overdue_after_65_seconds_without_a_request(server):
    alice, bob = server.enter("alice", A), server.enter("bob", B)
    heard_at = server.now
    assert server.service.overdue(heard_at - 1 + SILENCE_LIMIT) == []
    assert server.service.overdue(heard_at - 0.5 + SILENCE_LIMIT) == [alice]
    assert server.service.overdue(heard_at + 1 + SILENCE_LIMIT) == [alice, bob]
    assert server.online().keys() == {"alice", "bob"}, "the service itself ends no session"


@pytest.mark.parametrize("word", [Heartbeat, Save, GroupPost, Find, DirectMessage, MessagesKept])
def test_any_request_is_a_sign_of_life(server, word):
    alice = server.enter("alice", A)
    server.now += SILENCE_LIMIT
    assert server.service.overdue(server.now + 1) == [alice]
    send_request(server, A, word)
    assert server.service.overdue(server.now + SILENCE_LIMIT) == []


def send_request(server, peer, word):
    new, alice = server.id(), server.service.session("alice")
    requests = {
        Heartbeat: Heartbeat(new, alice.since if alice else 0.0),
        Deregister: Deregister(new),
        Save: Save(new, "alice", b"hi"),
        GroupPost: GroupPost(new, b"hi"),
        Find: Find(new, "alice"),
        SessionEnded: SessionEnded(new, 0.0),
        DirectMessage: DirectMessage(new, "bob", "alice", "hi"),
        MessagesKept: MessagesKept(new, (new,)),
        Batch: Batch(new, "bob", (Entry(1, EntryKind.GROUP, new, "alice", NO_KEY, EVERYONE, 0.0, b"hi"),)),
        TableChange: TableChange(new, server.service.table.version, server.service.table.version, ()),
    }
    return server.ask(peer, requests[word])


@pytest.mark.parametrize(
    "word",
    [Heartbeat, Deregister, Save, GroupPost, Find, DirectMessage, MessagesKept, Batch, TableChange, SessionEnded],
)
def test_any_request_of_an_unregistered_peer_is_refused(server, word):
    assert is_not_registered(send_request(server, B, word)), "never seen"
    server.enter("alice", A)
    assert is_not_registered(send_request(server, B, word)), "somebody else"
    assert is_not_registered(send_request(server, elsewhere(A), word)), "another address"
    assert is_not_registered(send_request(server, elsewhere(B, A.address), word)), "another key"
    server.enter("bob", B)
    server.leave(B)
    assert is_not_registered(send_request(server, B, word)), "gone"
    server.service.mark_offline(server.enter("bob", B), 1234.0)
    assert is_not_registered(send_request(server, B, word)), "marked offline"
    assert server.online() == {"alice": A}


def test_a_heartbeat_is_for_one_registration(server):
    former, alice = server.enter("alice", A), server.enter("alice", A)
    same = server.id()
    assert server.ask(A, Heartbeat(same, alice.since)) == Ack(Heartbeat.kind, same)
    server.now += SILENCE_LIMIT
    assert is_not_registered(server.ask(A, Heartbeat(same, former.since)))
    assert len(server.service.overdue(server.now)) == 1, "which is no sign of life of alice"


@pytest.mark.parametrize("word", [DirectMessage, MessagesKept, Batch, TableChange, SessionEnded])
def test_requests_that_are_not_for_a_server_are_not_answered(server, word):
    server.enter("alice", A)
    assert send_request(server, A, word) is Reaction.SILENCE


# --- direct messages ---


def test_an_entry_names_its_sender_as_registered_their_key_and_the_time(server):
    server.enter("Alice", A)
    server.enter("bob", B)
    save, post = Save(server.id(), "BOB", b"sealed"), GroupPost(server.id(), b"signed")
    key = ALICE.public.signing
    appended = server.ask(A, save)
    assert appended == Append(save, Entry(0, EntryKind.DIRECT, save.id, "Alice", key, "bob", server.at, b"sealed"))
    appended = server.ask(A, post)
    assert appended == Append(post, Entry(0, EntryKind.GROUP, post.id, "Alice", key, EVERYONE, server.at, b"signed"))


def test_everybody_who_has_ever_registered_can_be_written_to(server):
    server.enter("alice", A)
    request = Save(server.id(), "bob", b"hi")
    assert server.ask(A, request) == request.refused(Reason.UNKNOWN)
    server.enter("bob", B)
    server.leave(B)
    assert isinstance(server.ask(A, request), Append), "the refusal was not final"


def test_a_name_without_an_owner_cannot_be_written_to(server):
    server.service.load([(Record("Bob", "10.0.0.9", 9, False, 500.0), credentials_of(C, "Bob"))])
    server.enter("alice", A)
    assert is_refused(server.save(A, "bob"), Reason.UNKNOWN)
    assert is_refused(server.find(A, "bob"), Reason.UNKNOWN)
    server.enter("bob", B)
    assert isinstance(server.save(A, "bob"), Append)


def test_find_returns_the_row_of_a_name_in_any_case(server):
    server.enter("alice", A)
    assert is_refused(server.find(A, "bob"), Reason.UNKNOWN)
    server.enter("Bob", B)
    request = Find(server.id(), "BOB")
    row = server.service.table["bob"]
    assert (row.online, row.credentials) == (True, credentials_of(B, "bob"))
    assert server.ask(A, request) == request.found(row, server.service.table.version)
    server.leave(B)
    assert server.find(A, "bob").record == attrs.evolve(row, online=False, since=server.at - 1)


# --- rate limit ---


def saves(server, count, peer=A, recipient="bob") -> list[str]:
    """Send so many new Saves at this moment. Returns `taken` or `too fast` for each."""
    outcomes = [server.save(peer, recipient) for _ in range(count)]
    assert all(isinstance(one, Append) or is_refused(one, Reason.TOO_FAST) for one in outcomes)
    return ["taken" if isinstance(one, Append) else "too fast" for one in outcomes]


@pytest.fixture
def crowd(server) -> BareServer:
    """Alice, bob and carol are online, and no time passes."""
    for name, peer in (("alice", A), ("bob", B), ("carol", C)):
        server.enter(name, peer)
    server.pace = 0.0
    return server


def test_300_letters_at_once_and_then_100_a_minute(crowd):
    assert saves(crowd, 302) == ["taken"] * 300 + ["too fast"] * 2
    crowd.now += 60.0
    assert saves(crowd, 102) == ["taken"] * 100 + ["too fast"] * 2
    crowd.now += 0.5
    assert saves(crowd, 1) == ["too fast"]
    crowd.now += 0.2
    assert saves(crowd, 2) == ["taken", "too fast"]
    crowd.now += 3600.0
    assert saves(crowd, 301) == ["taken"] * 300 + ["too fast"]


def test_the_limit_is_per_sender_and_mailbox_in_any_case(crowd):
    assert saves(crowd, 301)[-1] == "too fast"
    assert saves(crowd, 1, recipient="BOB") == ["too fast"]
    assert saves(crowd, 1, recipient="carol") == ["taken"]
    assert saves(crowd, 1, peer=C) == ["taken"]
    crowd.leave(A)
    crowd.enter("ALICE", elsewhere(A))
    assert saves(crowd, 1, peer=elsewhere(A)) == ["too fast"]
    assert isinstance(crowd.post(elsewhere(A)), Append)


def test_the_limit_of_a_person_does_not_grow_with_their_names(crowd):
    assert saves(crowd, 301)[-1] == "too fast"
    crowd.enter("alice2", A)
    assert saves(crowd, 1) == ["too fast"]


def test_a_save_that_was_too_fast_may_be_sent_again(crowd):
    saves(crowd, 300)
    same = crowd.id()
    assert is_refused(crowd.save(A, "bob", same), Reason.TOO_FAST)
    crowd.now += 1.0
    assert isinstance(crowd.save(A, "bob", same), Append)


def test_a_refused_save_is_a_sign_of_life(crowd):
    saves(crowd, 300)
    crowd.now += 0.1
    assert saves(crowd, 1) == ["too fast"]
    assert crowd.service.session("alice") not in crowd.service.overdue(crowd.now + SILENCE_LIMIT)


def test_a_program_superseded_under_another_name_does_not_take_over(server):
    server.enter("alice", A)
    server.enter("bob", elsewhere(A))
    assert isinstance(server.register("alice", A, take_over=False), Elsewhere)
    assert list(server.online()) == ["bob"]


# --- who has sent what is handed over ---


def entry_of(name, key) -> Entry:
    return Entry(1, EntryKind.GROUP, bytes(16), name, key, EVERYONE, 500.0, b"signed")


@pytest.fixture
def told(server):
    """What bob is told about the senders of these (name, key). Alice and bob are online, and bob holds the table."""
    server.enter("Alice", A)
    bob = server.enter("bob", B)
    server.hold_table(bob)
    return lambda *sent: server.service.views.senders(bob, [entry_of(name, key) for name, key in sent])


HERS_NOW, THEIRS = credentials_of(A, "Alice"), credentials_of(C, "alice")


@pytest.mark.parametrize("name", ["Alice", "ALICE"])
def test_a_client_is_not_told_about_senders_whose_rows_it_holds(told, name):
    assert told((name, ALICE.public.signing), ("bob", THIEF.public.signing)) == ()


@pytest.mark.parametrize("held", [None, Version(b"epoch..0", 1000), Version(b"epoch..1", 0)])
def test_a_client_is_told_about_senders_whose_rows_it_does_not_hold(server, told, held):
    server.service.session("bob").held = held
    twice = ("Alice", ALICE.public.signing)
    assert told(twice, twice) == (("Alice", HERS_NOW),), "once"


def test_a_client_is_told_about_senders_whose_rows_have_changed_since(server, told):
    server.leave(A)
    assert told(("Alice", ALICE.public.signing)) == (("Alice", HERS_NOW),)
    server.hold_table(server.service.session("bob"))
    assert told(("Alice", ALICE.public.signing)) == (("Alice", HERS_NOW),), "her row may have been left out"
    server.enter("Alice", A)
    server.hold_table(server.service.session("bob"))
    assert told(("Alice", ALICE.public.signing)) == ()


def freed(server) -> None:
    """The operator frees the name of alice, and the server starts again; bob comes back and holds the new table."""
    row, bobs = server.service.table["alice"], server.service.table["bob"]
    server.service = type(server.service)(SERVER_KEY, b"epoch..1", server.published.append)
    server.service.load([(attrs.evolve(row, credentials=None), row.credentials), (bobs, bobs.credentials)])


def test_a_client_is_told_about_a_sender_whose_name_was_freed(server, told):
    freed(server)
    bob = server.enter("bob", B)
    server.hold_table(bob)
    assert server.service.views.senders(bob, [entry_of("Alice", ALICE.public.signing)]) == (("Alice", HERS_NOW),)


def test_a_client_is_told_about_a_sender_whose_name_has_another_owner_now(server, told):
    freed(server)
    bob = server.enter("bob", B)
    carol = server.enter("alice", C)
    server.hold_table(bob)
    hers, theirs = entry_of("Alice", ALICE.public.signing), entry_of("alice", carol.key)
    # Bob has the row of the new owner.
    assert server.service.views.senders(bob, [hers, theirs]) == (("Alice", HERS_NOW),)
    bob.held = None
    assert server.service.views.senders(bob, [hers, theirs]) == (("Alice", HERS_NOW), ("alice", THEIRS))


def test_a_client_is_told_about_those_who_had_a_name_before(server, told):
    renewed = credentials(Identity(ALICE.signing_secret, bytes(32)), name="alice", server_key=SERVER_KEY)
    now, bobs = attrs.evolve(server.service.table["alice"], credentials=renewed), server.service.table["bob"]
    server.service = type(server.service)(SERVER_KEY, b"epoch..1", server.published.append)
    server.service.load(
        [(now, renewed), (bobs, bobs.credentials)], [("Alice", HERS_NOW), ("alice", THEIRS), ("carol", THEIRS)]
    )
    key = THEIRS.keys.signing
    sent = [entry_of("Alice", ALICE.public.signing), entry_of("ALICE", key), entry_of("carol", key)]
    told_now = server.service.views.senders(server.enter("bob", B), sent)
    assert told_now == (("Alice", renewed), ("ALICE", THEIRS), ("carol", THEIRS)), "who has it again"


def test_a_client_is_told_the_present_link_key_of_a_sender(server, told):
    renewed = Identity(ALICE.signing_secret, bytes(32))
    shown = credentials(renewed, name="alice", server_key=SERVER_KEY)
    server.enter("alice", Peer(C.address, renewed.public.link), shown=shown)
    assert told(("alice", ALICE.public.signing)) == (("alice", shown),)


def test_nobody_is_told_about_senders_whose_keys_are_not_known(server, told):
    server.service.session("bob").held = None
    assert told(("alice", NO_KEY), ("alice", bytes(31) + b"1"), ("nobody", ALICE.public.signing)) == ()


def test_an_owner_whose_keys_the_store_does_not_know_is_not_named(server):
    server.service.load([(Record("dave", "10.0.0.8", 8, False, 500.0), None)])
    bob = server.enter("bob", B)
    assert server.service.views.senders(bob, [entry_of("dave", ALICE.public.signing)]) == ()


# --- the wall clock ---

FIFTY_YEARS = 50 * 365 * 24 * 3600.0


def test_one_second_of_a_wall_clock_at_50_years_from_now_leaves_nothing_behind(server):
    server.enter("alice", A)
    server.wall += FIFTY_YEARS
    answer, request = server.register_once("alice", elsewhere(A))
    bob = server.enter("bob", B)
    assert isinstance(server.save(B, "alice"), Append)
    server.wall -= FIFTY_YEARS

    taken_over = server.take_over(elsewhere(A), request, answer)
    assert isinstance(taken_over, Admission)
    assert taken_over.record.since == server.at
    assert isinstance(server.register_once("alice", A)[0], Elsewhere)
    assert isinstance(server.register("alice", A), Admission), "and nobody has to wait for 50 years"
    assert isinstance(server.register("bob", elsewhere(B)), Admission)
    assert is_not_registered(server.ask(B, Heartbeat(server.id(), bob.since)))
    assert server.save(elsewhere(B), "alice").entry.taken_at == server.at
    assert server.service.table["bob"].since == server.at - 2
    assert server.service.overdue(server.now) == []


class Recorder(BareServer):
    """Records what was decided, without the time that people see."""

    def __init__(self, wall) -> None:
        super().__init__()
        self._wall_at = wall
        self.decided: list[object] = []

    @property
    def at(self) -> float:
        return self._wall_at(self.now)

    def ask(self, peer, request):
        outcome = super().ask(peer, request)
        match outcome:
            case Admission(session=session, ended=ended):
                shown = (session.name, session.since, session.peer, [one.since for one in ended])
            case Append(request, entry):
                shown = (request, attrs.evolve(entry, taken_at=0.0))
            case _:
                shown = outcome
        self.decided.append((shown, self.service.table.version, [one.since for one in self.service.overdue(self.now)]))
        return outcome


def decisions(seed, wall) -> list[object]:
    """What the server decides on some requests of owners and thieves, if its wall clock is this function of `now`."""
    owners = AnyOwners(random.Random(seed), Recorder(wall))
    for step in range(60):
        owners.server.now += 30.0 if step % 20 == 19 else 0.0  # some sessions become overdue
        owners.go_on()
    owners.check_posts()
    return owners.server.decided


WALLS = {
    "at 1970": lambda now: 0.0,
    "back": lambda now: max(0.0, 1e9 - now),
    "50 years ahead for a second": lambda now: 1e9 + now + FIFTY_YEARS * (10 < now <= 11),
    "standing still": lambda now: 1e9,
    "anywhere": lambda now: random.Random(now).uniform(0, 1e11),
}


@pytest.mark.parametrize("wall", WALLS.values(), ids=WALLS)
@given(seed=st.integers(0, 2**64))
@settings(max_examples=10)
def test_no_wall_clock_changes_a_decision(wall, seed):
    assert decisions(seed, wall) == decisions(seed, lambda now: 1e9 + now)
