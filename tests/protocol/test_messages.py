"""What messages know of themselves: their answers, and what makes two of them the same."""

import pytest
from hypothesis import given, settings

from tests.strategies import answers, requests
from trio_chat.protocol.messages import (
    Accepted,
    Ack,
    Busy,
    Delivered,
    Deregister,
    Deregistered,
    GroupPost,
    Held,
    Refused,
    Register,
    Registered,
    Save,
    Saved,
    TableChange,
    is_final,
)
from trio_chat.protocol.records import Letter, LetterKind, Reason, Version, fold

ID = bytes(range(16))
VERSION = Version(b"8 bytes.", 3)


@given(requests())
@settings(deadline=None, max_examples=50)
def test_whoever_is_asked_answers_with_the_kind_and_id_of_the_request(request):
    for answer in (request.ack(), request.busy(), request.refused(Reason.UNKNOWN)):
        assert (answer.of, answer.id) == (request.kind, request.id)


def test_each_request_builds_its_own_answers():
    assert Register(ID, "bob").registered(VERSION, 2, 7.0) == Registered(Register.kind, ID, VERSION, 2, 7.0)
    assert Deregister(ID).deregistered() == Deregistered(Deregister.kind, ID)
    assert Save(ID, "bob", "hi").delivered() == Delivered(Save.kind, ID)
    assert Save(ID, "bob", "hi").saved(7.0) == Saved(Save.kind, ID, 7.0)
    assert GroupPost(ID, "hi").accepted(7.0) == Accepted(GroupPost.kind, ID, 7.0)
    change = TableChange(ID, VERSION, VERSION, ())
    assert change.held(VERSION) == Held(TableChange.kind, ID, VERSION)
    assert change.held(None) == Held(TableChange.kind, ID, None)


@given(answers())
@settings(deadline=None, max_examples=100)
def test_an_answer_is_final_unless_it_asks_to_come_again(answer):
    comes_again = isinstance(answer, Busy) or getattr(answer, "reason", None) is Reason.NOT_REGISTERED
    assert is_final(answer) is not comes_again


def test_final_or_not():
    assert is_final(Ack(Save.kind, ID))
    assert is_final(Refused(Save.kind, ID, Reason.FULL))
    assert not is_final(Refused(Save.kind, ID, Reason.NOT_REGISTERED))
    assert not is_final(Busy(Save.kind, ID))


def test_names_are_compared_without_case():
    assert fold("Bob") == fold("bOB") != fold("bob2")


def test_a_letter_is_the_same_whichever_way_and_whenever_it_comes():
    letter = Letter(LetterKind.DIRECT, ID, "Alice", 1.0, "hi")
    assert letter.key == Letter(LetterKind.DIRECT, ID, "alice", 2.0, "hi").key
    others = [
        Letter(LetterKind.GROUP, ID, "Alice", 1.0, "hi"),
        Letter(LetterKind.RECEIPT, ID, "Alice", 1.0, "hi"),
        Letter(LetterKind.DIRECT, bytes(16), "Alice", 1.0, "hi"),
        Letter(LetterKind.DIRECT, ID, "Carol", 1.0, "hi"),
    ]
    assert letter.key not in {other.key for other in others}


@pytest.mark.parametrize("text", ["", "x" * (16 * 1024 + 1), "ä" * 8193])
def test_a_text_that_is_no_text_cannot_even_be_made(text):
    with pytest.raises(ValueError, match=r"empty|longer"):
        Save(ID, "bob", text)
