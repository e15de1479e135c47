"""The server's decisions as small plays: who is there, who is gone, and which requests are taken.

In which order everyone gets what was taken is in test_service_order.py.
"""

import pytest

from tests.bare_server import A, B, BareServer, C
from trio_chat.protocol import service as service_module
from trio_chat.protocol.messages import (
    Ack,
    Chat,
    Deregister,
    Deregistered,
    GroupPost,
    Heartbeat,
    Letters,
    Refused,
    Register,
    Save,
    TableChange,
)
from trio_chat.protocol.records import Letter, LetterKind, Reason, Record
from trio_chat.protocol.reliability import Reaction
from trio_chat.protocol.service import SILENCE_LIMIT, Admission, Contest, Deposit, Post, Step


@pytest.fixture
def server() -> BareServer:
    return BareServer()


def coming_and_going(server) -> list[tuple[str, bool]]:
    return [(row.name, row.online) for row in server.told]


def is_not_registered(answer) -> bool:
    return isinstance(answer, Refused) and answer.reason is Reason.NOT_REGISTERED


# --- coming and going ---


def test_who_registers_is_in_the_table_where_the_datagram_came_from(server):
    admission = server.register("alice", A)
    assert admission.record == Record("alice", "10.0.0.1", 1, True, 1001.0)
    assert admission.vacated == {A}
    assert server.told == [admission.record]
    assert server.service.directory["alice"] == admission.record
    assert server.service.is_present(admission.registration)
    assert server.service.registration("ALICE") is admission.registration


def test_the_zone_of_an_address_stays_with_the_server(server):
    admission = server.register("alice", ("fe80::1%eth0", 7))
    assert admission.registration.peer == ("fe80::1%eth0", 7)
    assert admission.record.host == "fe80::1"


def test_who_deregisters_is_off_line_since_then(server):
    stay = server.enter("alice", A)
    request = Deregister(server.id())
    assert server.ask(A, request) == Deregistered(Deregister.kind, request.id)
    assert server.told[-1] == Record("alice", "10.0.0.1", 1, False, 1002.0)
    assert server.online() == {}
    assert not server.service.is_present(stay)
    assert server.step(stay) is Step.REST


def test_the_same_address_replaces_at_once(server):
    first = server.enter("alice", A)
    admission = server.register("alice", A)
    assert isinstance(admission, Admission)
    assert not server.service.is_present(first)
    assert server.service.is_present(admission.registration)
    assert coming_and_going(server) == [("alice", True), ("alice", True)]


def test_another_name_from_the_same_address_ends_the_first(server):
    alice = server.enter("alice", A)
    server.enter("bob", A)
    assert coming_and_going(server) == [("alice", True), ("alice", False), ("bob", True)]
    assert not server.service.is_present(alice)
    assert server.online() == {"bob": A}


def test_upper_and_lower_case_are_one_person_who_is_called_as_registered_last(server):
    server.enter("bob", A)
    server.enter("Bob", A)
    assert server.online() == {"Bob": A}
    assert server.service.directory["bob"].name == "Bob"
    assert len(server.service.directory) == 1


def test_there_is_room_for_so_many_names_and_those_known_may_always_return(server, monkeypatch):
    monkeypatch.setattr(service_module, "MAX_NAMES", 2)
    server.enter("alice", A)
    server.enter("bob", B)
    assert server.register("carol", C) is Reaction.SILENCE
    server.leave(A)
    assert server.register("carol", C) is Reaction.SILENCE
    assert isinstance(server.register("ALICE", C), Admission)


def test_stamps_tell_what_came_before_what_though_the_clock_stands_still_or_goes_back():
    server, stamps = BareServer(), []
    for at in (100.0, 100.0, 50.0, 100.0, 200.0, 199.0):
        outcome = server.service.receive(A, Register(server.id(), "alice"), 0.0, at)
        stamps.append(outcome.record.since)
        outcome = server.service.receive(A, Save(server.id(), "alice", "hi"), 0.0, at)
        stamps.append(outcome.letter.sent_at)
    assert stamps == sorted(set(stamps))
    assert stamps[-1] == pytest.approx(200.0, abs=0.001)


# --- a name that is held from another address ---


def test_a_holder_who_is_alive_keeps_the_name(server):
    holder = server.enter("alice", A)
    contest, request = server.contest("alice", B)
    assert contest.holder is holder
    assert server.decide(contest, B, request, alive=True) == request.refused(Reason.TAKEN)
    assert server.online() == {"alice": A}
    assert coming_and_going(server) == [("alice", True)], "nobody heard of it"


def test_a_holder_who_is_silent_loses_the_name(server):
    holder = server.enter("alice", A)
    contest, request = server.contest("ALICE", B)
    admission = server.decide(contest, B, request, alive=False)
    assert server.online() == {"ALICE": B}
    assert admission.vacated == {A, B}
    assert not server.service.is_present(holder)
    assert coming_and_going(server) == [("alice", True), ("ALICE", True)], "the name was never off line"
    assert is_not_registered(server.ask(A, Heartbeat(server.id(), "alice")))


@pytest.mark.parametrize("alive", [True, False])
def test_a_holder_who_left_meanwhile_makes_room(server, alive):
    server.enter("alice", A)
    contest, request = server.contest("alice", B)
    server.leave(A)
    assert isinstance(server.decide(contest, B, request, alive=alive), Admission)
    assert server.online() == {"alice": B}


def test_a_holder_who_came_back_meanwhile_keeps_the_name_whatever_the_verdict_on_the_former_stay(server):
    server.enter("alice", A)
    contest, request = server.contest("alice", B)
    back = server.register("alice", A)
    assert isinstance(back, Admission), "the same address replaces at once, a contest or not"
    assert server.decide(contest, B, request, alive=False) == request.refused(Reason.TAKEN)
    assert server.service.is_present(back.registration)


def test_of_two_newcomers_the_second_waits_for_the_first(server):
    server.enter("alice", A)
    contest, request = server.contest("alice", B)
    late = Register(server.id(), "alice")
    assert server.ask(C, late) is Reaction.SILENCE
    first = server.decide(contest, B, request, alive=False)
    second = server.ask(C, late)
    assert second == Contest(first.registration)
    assert server.decide(second, C, late, alive=True) == late.refused(Reason.TAKEN)
    assert server.online() == {"alice": B}


def test_a_third_who_came_when_the_holder_had_left_has_the_name(server):
    server.enter("alice", A)
    contest, request = server.contest("alice", B)
    server.leave(A)
    server.enter("alice", C)
    assert server.decide(contest, B, request, alive=False) == request.refused(Reason.TAKEN)
    assert server.online() == {"alice": C}


def test_a_newcomer_who_got_in_meanwhile_stays_in(server):
    server.enter("alice", A)
    contest, request = server.contest("alice", B)
    server.leave(A)
    server.enter("alice", B)
    assert isinstance(server.decide(contest, B, request, alive=True), Admission)
    assert server.online() == {"alice": B}


def test_after_a_contest_the_next_one_is_a_contest_again(server):
    holder = server.enter("alice", A)
    contest, request = server.contest("alice", B)
    server.decide(contest, B, request, alive=True)
    assert server.register("alice", B) == Contest(holder)


def test_a_newcomer_keeps_its_other_name_unless_it_wins(server):
    server.enter("alice", A)
    server.enter("bob", B)
    contest, request = server.contest("alice", B)
    server.decide(contest, B, request, alive=True)
    assert server.online() == {"alice": A, "bob": B}
    contest, request = server.contest("alice", B)
    server.decide(contest, B, request, alive=False)
    assert server.online() == {"alice": B}
    assert not server.service.directory["bob"].online


def test_two_clients_that_swap_addresses(server):
    server.enter("alice", A)
    server.enter("bob", B)
    for_bob, bobs = server.contest("bob", A)
    for_alice, alices = server.contest("alice", B)
    server.decide(for_bob, A, bobs, alive=False)
    assert not server.service.directory["alice"].online, "bob is where alice was"
    server.decide(for_alice, B, alices, alive=False)
    assert server.online() == {"bob": A, "alice": B}


# --- who is gone ---


def test_a_verdict_of_silence_ends_the_stay_that_it_is_about(server):
    stay = server.enter("alice", A)
    assert server.service.condemn(stay, 1234.0)
    assert server.told[-1] == Record("alice", "10.0.0.1", 1, False, 1234.0)
    assert server.online() == {}
    assert not server.service.condemn(stay, 1235.0)
    assert coming_and_going(server) == [("alice", True), ("alice", False)], "and ends it once"


@pytest.mark.parametrize("back_at", [A, B])
def test_a_verdict_of_silence_on_an_old_stay_condemns_nobody(server, back_at):
    old = server.enter("alice", A)
    server.leave(A)
    new = server.enter("alice", back_at)
    assert not server.service.condemn(old, 1234.0)
    assert server.service.is_present(new)
    assert server.online() == {"alice": back_at}


def test_65_seconds_without_a_word_are_too_many(server):
    alice, bob = server.enter("alice", A), server.enter("bob", B)
    heard_at = server.now
    assert server.service.overdue(heard_at - 1 + SILENCE_LIMIT) == []
    assert server.service.overdue(heard_at - 0.5 + SILENCE_LIMIT) == [alice]
    assert server.service.overdue(heard_at + 1 + SILENCE_LIMIT) == [alice, bob]
    assert server.online().keys() == {"alice", "bob"}, "the judgement is not in here"


@pytest.mark.parametrize("word", [Heartbeat, Save, GroupPost, Chat])
def test_any_word_is_a_sign_of_life(server, word):
    alice = server.enter("alice", A)
    server.now += SILENCE_LIMIT
    assert server.service.overdue(server.now + 1) == [alice]
    say(server, A, word)
    assert server.service.overdue(server.now + SILENCE_LIMIT) == []


def say(server, peer, word, name="alice"):
    new = server.id()
    requests = {
        Heartbeat: Heartbeat(new, name),
        Deregister: Deregister(new),
        Save: Save(new, "alice", "hi"),
        GroupPost: GroupPost(new, "hi"),
        Chat: Chat(new, "bob", "alice", "hi"),
        Letters: Letters(new, "bob", (Letter(LetterKind.GROUP, new, "alice", 0.0, "hi"),)),
        TableChange: TableChange(new, server.service.directory.version, server.service.directory.version, ()),
    }
    return server.ask(peer, requests[word])


@pytest.mark.parametrize("word", [Heartbeat, Deregister, Save, GroupPost, Chat, Letters, TableChange])
def test_who_is_not_registered_is_told_so_whatever_is_said(server, word):
    assert is_not_registered(say(server, B, word)), "never seen"
    server.enter("alice", A)
    assert is_not_registered(say(server, B, word)), "another address"
    server.enter("bob", B)
    server.leave(B)
    assert is_not_registered(say(server, B, word)), "gone"
    server.service.condemn(server.enter("bob", B), 1234.0)
    assert is_not_registered(say(server, B, word)), "held for gone"
    assert server.online() == {"alice": A}


def test_a_heartbeat_is_for_one_name(server):
    server.enter("Alice", A)
    same = server.id()
    assert server.ask(A, Heartbeat(same, "alice")) == Ack(Heartbeat.kind, same)
    server.now += SILENCE_LIMIT
    assert is_not_registered(say(server, A, Heartbeat, name="bob"))
    assert len(server.service.overdue(server.now)) == 1, "which is no sign of life of alice"


@pytest.mark.parametrize("word", [Chat, Letters, TableChange])
def test_what_is_not_for_a_server_is_met_by_silence(server, word):
    server.enter("alice", A)
    assert say(server, A, word) is Reaction.SILENCE


# --- messages to one ---


def test_a_letter_names_its_sender_as_registered_and_the_time(server):
    server.enter("Alice", A)
    server.enter("bob", B)
    same = server.id()
    deposit = server.save(A, "BOB", same)
    assert deposit == Deposit("BOB", Letter(LetterKind.DIRECT, same, "Alice", 1000 + server.now, "hi"))


def test_who_has_ever_registered_can_be_written_to(server):
    server.enter("alice", A)
    request = Save(server.id(), "bob", "hi")
    assert server.ask(A, request) == request.refused(Reason.UNKNOWN)
    server.enter("bob", B)
    server.leave(B)
    assert isinstance(server.ask(A, request), Deposit), "the refusal was no last word"


@pytest.mark.parametrize("ask", [BareServer.save, BareServer.post])
def test_a_repeat_stays_without_an_answer_while_the_first_is_in_work(server, ask):
    server.enter("alice", A)
    server.enter("bob", B)
    words = {BareServer.save: ("bob",), BareServer.post: ()}[ask]
    same = server.id()
    first = ask(server, A, *words, id=same)
    assert ask(server, A, *words, id=same) is Reaction.SILENCE
    server.leave(A)
    server.enter("ALICE", C)
    assert ask(server, C, *words, id=same) is Reaction.SILENCE, "from wherever its sender repeats it"
    assert isinstance(ask(server, B, *words, id=same), Deposit | Post), "another sender's is another one"
    server.service.ended(first.letter)
    again = ask(server, C, *words, id=same)
    assert isinstance(again, Deposit | Post), "the store knows what it was answered"


def test_a_letter_and_a_post_of_one_id_are_two(server):
    server.enter("alice", A)
    server.enter("bob", B)
    same = server.id()
    assert isinstance(server.save(A, "bob", same), Deposit)
    assert isinstance(server.post(A, same), Post)


def test_there_is_only_so_much_in_work_at_a_time(server, monkeypatch):
    monkeypatch.setattr(service_module, "MAX_IN_WORK", 2)
    server.enter("alice", A)
    first = server.save(A, "alice")
    server.post(A)
    refused = server.id()
    assert server.save(A, "alice", refused) is Reaction.SILENCE
    assert server.post(A) is Reaction.SILENCE
    server.service.ended(first.letter)
    assert isinstance(server.save(A, "alice", refused), Deposit)
