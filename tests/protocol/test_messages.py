"""Messages: the answers that a request builds, and what makes two letters or names the same.

Pure functions; hypothesis generates the messages.
"""

import attrs
import pytest
from hypothesis import given, settings

from tests.strategies import answers, requests
from trio_chat.errors import InvalidName
from trio_chat.protocol.messages import (
    Accepted,
    Ack,
    Busy,
    Delivered,
    Deregister,
    Deregistered,
    DirectMessage,
    Find,
    Found,
    GroupPost,
    Letters,
    Receipt,
    Refused,
    Register,
    Registered,
    Save,
    Saved,
    TableChange,
    TableHeld,
    Taken,
    is_repeatable,
)
from trio_chat.protocol.records import (
    Credentials,
    Letter,
    LetterKind,
    PublicKeys,
    Reason,
    Record,
    Version,
    check_name,
    fingerprint,
    fold,
)

ID = bytes(range(16))
VERSION = Version(b"8 bytes.", 3)
CREDENTIALS = Credentials(PublicKeys(bytes(range(32)), bytes(32)), bytes(64))


@given(requests())
@settings(max_examples=50)
def test_answers_carry_the_kind_and_id_of_the_request(request):
    for answer in (request.ack(), request.busy(), request.refused(Reason.UNKNOWN)):
        assert (answer.of, answer.id) == (request.kind, request.id)


def test_each_request_builds_its_own_answers():
    register = Register(ID, "bob", CREDENTIALS, ID)
    assert register.registered(VERSION, 2, 7.0) == Registered(Register.kind, ID, VERSION, 2, 7.0)
    assert Deregister(ID).deregistered() == Deregistered(Deregister.kind, ID)
    assert DirectMessage(ID, "alice", "bob", "hi").receipt(b"signed") == Receipt(DirectMessage.kind, ID, b"signed")
    save = Save(ID, "bob", b"hi")
    assert save.delivered(b"signed", True) == Delivered(Save.kind, ID, b"signed", True)
    assert save.saved(7.0) == Saved(Save.kind, ID, 7.0)
    assert GroupPost(ID, b"hi").accepted(7.0) == Accepted(GroupPost.kind, ID, 7.0)
    letters = Letters(ID, "bob", (Letter(LetterKind.GROUP, ID, "alice", 1.0),))
    assert letters.taken((b"signed",), 1) == Taken(Letters.kind, ID, (b"signed",), 1)
    row = Record("bob", "10.0.0.2", 2, True, 1.0, CREDENTIALS)
    assert Find(ID, "BOB").found(row) == Found(Find.kind, ID, row)
    change = TableChange(ID, VERSION, VERSION, ())
    assert change.held(VERSION) == TableHeld(TableChange.kind, ID, VERSION)
    assert change.held(None) == TableHeld(TableChange.kind, ID, None)


@given(answers())
def test_an_answer_is_repeatable_unless_it_asks_to_try_again(answer):
    asks_to_try_again = isinstance(answer, Busy) or getattr(answer, "reason", None) is Reason.NOT_REGISTERED
    assert is_repeatable(answer) is not asks_to_try_again


def test_which_answers_are_repeatable():
    assert is_repeatable(Ack(Save.kind, ID))
    for reason in set(Reason) - {Reason.NOT_REGISTERED}:
        assert is_repeatable(Refused(Save.kind, ID, reason))
    assert not is_repeatable(Refused(Save.kind, ID, Reason.NOT_REGISTERED))
    assert not is_repeatable(Busy(Save.kind, ID))


def test_names_are_compared_ignoring_case():
    assert fold("Bob") == fold("bOB") != fold("bob2")


def test_the_key_of_a_letter_does_not_depend_on_how_or_when_it_arrives():
    letter = Letter(LetterKind.DIRECT, ID, "Alice", 1.0, b"sealed")
    assert letter.key == Letter(LetterKind.DIRECT, ID, "alice", 2.0, b"sealed again").key
    others = [
        *(Letter(kind, ID, "Alice", 1.0, b"sealed") for kind in set(LetterKind) - {LetterKind.DIRECT}),
        Letter(LetterKind.DIRECT, bytes(16), "Alice", 1.0, b"sealed"),
        Letter(LetterKind.DIRECT, ID, "Carol", 1.0, b"sealed"),
    ]
    assert letter.key not in {other.key for other in others}


@pytest.mark.parametrize("text", ["", "x" * (16 * 1024 + 1), "ä" * 8193])
def test_a_message_with_an_invalid_text_cannot_be_created(text):
    with pytest.raises(ValueError, match=r"empty|longer"):
        DirectMessage(ID, "alice", "bob", text)


def test_a_fingerprint_has_16_characters_and_depends_on_the_signing_key_only():
    row = Record("bob", "10.0.0.2", 2, True, 1.0, CREDENTIALS)
    assert row.fingerprint == fingerprint(bytes(range(32))) == "mmg4-2klg-yqzw-neis"
    assert attrs.evolve(row, credentials=None).fingerprint == ""
    other_link_key = attrs.evolve(CREDENTIALS, keys=PublicKeys(bytes(range(32)), bytes(range(32))))
    assert attrs.evolve(row, credentials=other_link_key).fingerprint == row.fingerprint
    assert fingerprint(bytes(32)) != row.fingerprint


@pytest.mark.parametrize("name", ["", "_x", "x" * 33, "a b\n"])
def test_an_invalid_name_is_refused_with_the_rule_in_one_line(name):
    with pytest.raises(InvalidName) as caught:
        check_name(name)
    assert str(caught.value).startswith(f"not a valid name: {name!r} (a name has 1 to 32 letters")
    assert str(caught.value).isprintable()
