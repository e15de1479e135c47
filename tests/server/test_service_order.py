"""The order in which everyone gets letters and posts, as decided by the service.

No sockets and no clock (tests/bare_server.py); the last test tries any sequence of events.
"""

import random

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bare_server import A, B, BareServer, C, D, credentials_of, elsewhere, program_at
from trio_chat.link.session import Peer
from trio_chat.protocol.messages import Register, TableChange
from trio_chat.protocol.records import Letter, LetterKind, Reason, Record
from trio_chat.server.service import Deposit, NextStep, Post, Session


@pytest.fixture
def server() -> BareServer:
    return BareServer()


# --- letters ---


def test_the_table_comes_before_letters(server):
    server.enter("alice", A)
    admission = server.register("bob", B)
    bob = admission.session
    server.service.kept(server.save(A, "bob"))
    change = server.step(bob)
    assert isinstance(change, TableChange)
    assert change.after == server.service.table.version
    assert server.step(bob).records == change.records, "until the client is known to have it"
    bob.held = change.after
    assert server.step(bob) is NextStep.LETTERS
    assert not bob.catching_up


def test_a_table_that_keeps_changing_is_sent_until_it_is_the_latest(server):
    server.enter("alice", A)
    bob = server.register("bob", B).session
    bob.held = server.step(bob).after
    server.leave(A)
    assert server.step(bob).records == (server.service.table["alice"],)


def test_a_session_with_the_latest_table_gets_the_next_change_by_fan_out(server):
    bob = server.enter("bob", B)
    assert server.step(bob) is NextStep.REST
    server.enter("alice", A)
    assert server.step(bob) is NextStep.REST
    bob.catching_up = True  # the fan-out was not answered
    assert isinstance(server.step(bob), TableChange)


def test_letters_are_handed_over_until_the_store_has_none(server):
    server.enter("alice", A)
    bob = server.enter("bob", B)
    assert server.step(bob) is NextStep.REST
    server.service.kept(server.save(A, "bob"))
    assert server.step(bob) is NextStep.LETTERS
    server.finds_no_letters(bob)
    assert server.step(bob) is NextStep.REST


def test_a_letter_that_is_saved_during_a_read_of_the_store_is_delivered(server):
    server.enter("alice", A)
    bob = server.enter("bob", B)
    server.service.kept(server.save(A, "bob"))
    deposits = server.service.deposits("bob")
    server.service.kept(server.save(A, "bob"))
    server.service.found_empty("bob", deposits)
    assert server.step(bob) is NextStep.LETTERS
    server.finds_no_letters(bob)
    assert server.step(bob) is NextStep.REST


def test_a_letter_that_is_being_saved_during_a_read_of_the_store_is_delivered(server):
    server.enter("alice", A)
    bob = server.enter("bob", B)
    server.service.kept(server.save(A, "bob"))
    deposit = server.save(A, "bob")
    server.finds_no_letters(bob)
    server.service.kept(deposit)
    assert server.step(bob) is NextStep.LETTERS


def test_a_receipt_is_delivered_like_a_letter(server):
    alice = server.enter("alice", A)
    server.service.letters_came("ALICE")
    assert server.step(alice) is NextStep.LETTERS


# --- posts ---


def test_a_post_is_for_everyone_but_its_sender_and_handed_to_those_online(server):
    server.enter("Alice", A)
    bob, carol = server.enter("Bob", B), server.enter("carol", C)
    server.enter("dave", D)
    server.leave(D)
    post = server.post(A)
    assert post.letter.kind is LetterKind.GROUP
    assert (post.letter.sender, post.letter.body, post.letter.sent_at) == ("Alice", b"hi all", 1000 + server.now)
    assert post.left == {"bob", "carol", "dave"}
    assert set(map(id, post.targets)) == {id(bob), id(carol)}


def test_a_post_is_not_left_for_somebody_who_has_it(server):
    server.enter("alice", A)
    server.enter("Bob", B)
    server.enter("carol", C)
    post = server.post(A)
    server.service.handed_over(post, "Bob")
    assert post.left == {"carol"}


def test_a_post_does_not_overtake_letters_that_wait(server):
    server.enter("alice", A)
    bob = server.enter("bob", B)
    server.service.kept(server.save(A, "bob"))
    post = server.post(A)
    assert post.targets == []
    assert post.left == {"bob"}
    assert server.step(bob) is NextStep.REST, "the letter in the store may be younger than the post"
    server.service.became_letters(post)
    assert server.step(bob) is NextStep.LETTERS
    server.finds_no_letters(bob)
    assert server.post(A).targets == [bob]


def test_a_post_does_not_overtake_a_letter_that_is_being_saved(server):
    server.enter("alice", A)
    bob = server.enter("bob", B)
    deposit = server.save(A, "bob")
    post = server.post(A)
    assert post.targets == []
    server.service.kept(deposit)
    server.service.became_letters(post)
    assert server.step(bob) is NextStep.LETTERS


def test_a_refused_letter_does_not_hold_back_others(server):
    server.enter("alice", A)
    bob = server.enter("bob", B)
    server.service.kept(server.save(A, "bob"))  # for example, the mailbox was full
    server.finds_no_letters(bob)
    assert server.post(A).targets == [bob]


def test_a_post_does_not_overtake_the_post_before_it(server):
    server.enter("alice", A)
    bob = server.enter("bob", B)
    first, second = server.post(A), server.post(A)
    assert first.targets == [bob]
    assert second.targets == []
    server.service.became_letters(second)
    assert server.step(bob) is NextStep.REST, "the first one is still under way"
    server.service.handed_over(first, "bob")
    assert server.step(bob) is NextStep.LETTERS
    server.service.became_letters(first)
    assert server.step(bob) is NextStep.LETTERS


def test_a_letter_does_not_overtake_an_open_post(server):
    server.enter("alice", A)
    bob, carol = server.enter("bob", B), server.enter("carol", C)
    post = server.post(A)
    for name in ("bob", "carol"):
        server.service.kept(server.save(A, name))
    assert server.step(bob) is server.step(carol) is NextStep.REST
    server.service.handed_over(post, "bob")
    assert server.step(bob) is NextStep.LETTERS
    assert server.step(carol) is NextStep.REST
    server.service.became_letters(post)
    assert server.step(carol) is NextStep.LETTERS


def test_somebody_who_returns_during_a_fan_out_waits_for_its_end(server):
    server.enter("alice", A)
    server.enter("bob", B)
    server.leave(B)
    post = server.post(A)
    bob = server.enter("bob", elsewhere(B))
    assert server.step(bob) is NextStep.REST
    server.service.became_letters(post)
    assert server.step(bob) is NextStep.LETTERS


def test_waiting_letters_are_delivered_to_the_new_session_of_a_name(server):
    server.enter("alice", A)
    old = server.enter("bob", B)
    server.service.kept(server.save(A, "bob"))
    assert server.step(old) is NextStep.LETTERS
    new = server.enter("bob", elsewhere(B))
    assert server.step(old) is NextStep.REST
    assert server.step(new) is NextStep.LETTERS


def test_a_post_that_the_former_session_took_is_not_delivered_to_the_new_one(server):
    server.enter("alice", A)
    old = server.enter("bob", B)
    post = server.post(A)
    assert post.targets == [old]
    new = server.enter("bob", elsewhere(B))
    server.service.handed_over(post, "bob")
    server.service.became_letters(post)
    assert server.step(new) is NextStep.REST


def test_after_a_move_pending_letters_arrive(server):
    server.enter("alice", A)
    bob = server.enter("bob", B)
    post = server.post(A)
    server.service.moved(B, elsewhere(B))
    assert post.targets[0].peer == elsewhere(B)
    server.service.kept(server.save(A, "bob"))
    server.service.handed_over(post, "bob")
    assert server.step(bob) is NextStep.LETTERS


def test_a_repeated_post_that_is_withdrawn_changes_nothing(server):
    server.enter("alice", A)
    bob = server.enter("bob", B)
    server.service.withdraw(server.post(A))
    assert server.step(bob) is NextStep.REST
    assert server.post(A).targets == [bob]


# --- after a restart ---


def loaded(server, with_letters=(), **owners) -> None:
    rows = [Record(name, "10.0.0.9", 9, True, 500.0, credentials_of(peer, name)) for name, peer in owners.items()]
    server.service.load(rows, with_letters)


def test_after_a_restart_everyone_is_known_and_offline(server):
    loaded(server, Alice=A, bob=B)
    assert server.service.table["alice"] == Record("Alice", "10.0.0.9", 9, False, 500.0, credentials_of(A, "alice"))
    assert server.online() == {}
    assert server.published == [], "nobody came or went"
    assert server.leave(elsewhere(A)).reason is Reason.NOT_REGISTERED
    server.enter("carol", C)
    assert isinstance(server.save(C, "ALICE"), Deposit)


def test_after_a_restart_letters_that_waited_come_first(server):
    loaded(server, alice=A, bob=B, with_letters=["bob"])
    server.enter("alice", A)
    bob = server.enter("bob", B)
    post = server.post(A)
    assert post.targets == []
    server.service.became_letters(post)
    assert server.step(bob) is NextStep.LETTERS


def test_after_a_restart_an_open_post_goes_before_newer_letters(server):
    loaded(server, alice=A, bob=B, carol=C)
    letter = Letter(LetterKind.GROUP, server.id(), "alice", 500.0, b"hi all")
    post = server.service.reopen(letter, ["bob"])
    assert (post.letter, post.left, post.targets) == (letter, {"bob"}, [])
    server.enter("alice", A)
    bob, carol = server.enter("bob", B), server.enter("carol", C)
    newer = server.post(A)
    assert newer.targets == [carol]
    server.service.kept(server.save(A, "bob"))
    server.service.became_letters(newer)
    assert server.step(bob) is NextStep.REST
    server.service.became_letters(post)
    assert server.step(bob) is NextStep.LETTERS


def test_after_a_restart_stamps_increase_even_if_the_clock_went_back(server):
    loaded(server, alice=A)
    request = Register(server.id(), "alice", credentials_of(A, "alice"), program_at(A))
    admission = server.service.receive(A, request, 0.0, 400.0)
    assert admission.record.since > 500.0


# --- any sequence of events ---


@attrs.define
class Person:
    name: str
    peer: Peer
    mailbox: dict[int, Letter] = attrs.Factory(dict)
    expected: list[int] = attrs.Factory(list)
    got: list[int] = attrs.Factory(list)
    look: tuple[int, list[int]] | None = None

    def sees(self, number: int) -> None:
        if number not in self.got:  # a client shows nothing twice
            self.got.append(number)


class AnyEvents:
    """A server whose store commits in the order of receipt, but late, and people who come, go, move and miss things.

    What is sent is numbered in the order in which the server took it.
    """

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.server = BareServer()
        self.people = {name: Person(name, peer) for name, peer in zip("abc", (A, B, C), strict=True)}
        self.sent = 0
        self.to_commit: list[tuple[int, Deposit | Post]] = []
        self.open_posts: list[tuple[int, Post]] = []
        for person in self.people.values():
            self.server.enter(person.name, person.peer)

    def session_of(self, person: Person) -> Session | None:
        return self.server.service.session(person.name)

    def go_on(self) -> None:
        """One thing happens to somebody."""
        person = self.dice.choice(list(self.people.values()))
        things = ["write", "post", "commit", "commit", "fan-out", "look", "look", "end", "end", "come or go", "move"]
        match self.dice.choice(things):
            case "write" if self.session_of(person):
                recipient = self.dice.choice("abc")
                self.take(self.server.save(person.peer, recipient), [recipient])
            case "post" if self.session_of(person):
                post = self.server.post(person.peer)
                self.take(post, post.left)
            case "commit" if self.to_commit:
                self.commit()
            case "fan-out" if self.open_posts:
                self.end_fan_out(*self.open_posts.pop(self.dice.randrange(len(self.open_posts))))
            case "look":
                self.look(person)
            case "end" if person.look:
                self.end_delivery(person, self.dice.choice(["lost", "unacknowledged", "acknowledged", "acknowledged"]))
            case "come or go" if self.dice.random() < 0.3:
                if self.session_of(person):
                    self.server.leave(person.peer)
                else:
                    self.server.enter(person.name, person.peer)
            case "move" if self.dice.random() < 0.3:
                self.move(person)

    def move(self, person) -> None:
        """Move to the other address: within the session, or by registering there before it ends."""
        before, person.peer = person.peer, elsewhere(person.peer, self.dice.choice([("10.0.0.8", 8), ("10.0.0.9", 9)]))
        if self.dice.random() < 0.5:
            self.server.service.moved(before, person.peer)
        else:
            self.server.enter(person.name, person.peer)

    def take(self, outcome, names) -> None:
        for name in names:
            self.people[name].expected.append(self.sent)
        self.to_commit.append((self.sent, outcome))
        self.sent += 1

    def commit(self) -> None:
        number, outcome = self.to_commit.pop(0)
        if isinstance(outcome, Post):
            self.open_posts.append((number, outcome))
            return
        self.people[outcome.recipient].mailbox[number] = outcome.letter
        self.server.service.kept(outcome)
        self.server.service.ended(outcome.letter)

    def end_fan_out(self, number, post) -> None:
        for target in post.targets:
            if self.server.service.is_current(target) and self.dice.random() < 0.7:
                self.people[target.name].sees(number)
                if self.dice.random() < 0.7:
                    self.server.service.handed_over(post, target.name)
        for name in post.left:
            self.people[name].mailbox[number] = post.letter
        self.server.service.became_letters(post)
        self.server.service.ended(post.letter)

    def look(self, person) -> None:
        """A delivery task reads the store."""
        session = self.session_of(person)
        if session and not person.look and self.server.step(session) is NextStep.LETTERS:
            batch = sorted(person.mailbox)[: self.dice.randint(1, 3)]
            person.look = (self.server.service.deposits(person.name), batch)

    def end_delivery(self, person, outcome) -> None:
        (deposits, batch), person.look = person.look, None
        if not batch:
            self.server.service.found_empty(person.name, deposits)
        elif outcome != "lost" and self.session_of(person):
            for number in batch:
                person.sees(number)
                if outcome == "acknowledged":
                    person.mailbox.pop(number)

    def end(self) -> None:
        """Complete everything that is in progress, and let everyone come back."""
        while self.to_commit:
            self.commit()
        for number, post in self.open_posts:
            self.end_fan_out(number, post)
        for person in self.people.values():
            session = self.session_of(person) or self.server.enter(person.name, person.peer)
            while person.look or self.server.step(session) is NextStep.LETTERS:
                self.look(person)
                self.end_delivery(person, "acknowledged")


@given(seed=st.integers(0, 2**64), steps=st.integers(1, 120))
@settings(max_examples=60)
def test_everyone_gets_everything_once_and_in_order_whatever_happens(seed, steps):
    events = AnyEvents(random.Random(seed))
    for _ in range(steps):
        events.go_on()
    events.end()
    for person in events.people.values():
        assert person.got == person.expected, person.name
