"""The requests and answers of the presence service: which are valid, and what they mean."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_chat.presence.messages import (
    MAX_FRIENDS,
    STILL_THERE,
    FriendChanged,
    Refusal,
    Watch,
    encode_news,
    encode_refusal,
    encode_request,
    fold_friend,
    parse_answer,
    parse_watch,
)

USERS = st.integers(1, 2**63 - 1)
NAMES = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9_.-]{0,31}\Z")


@given(USERS, st.lists(USERS | NAMES, max_size=20), st.booleans())
def test_a_request_is_encoded_and_parsed(user_id, friends, push):
    watch = Watch(user_id, tuple(friend for friend in friends if friend != user_id), push)
    assert parse_watch(json.loads(encode_request(watch))) == watch


@given(USERS | NAMES, st.booleans())
def test_news_is_encoded_and_parsed_within_256_bytes(friend, online):
    data = encode_news(friend, online)
    assert len(data) <= 256
    assert parse_answer(json.loads(data)) == FriendChanged(friend, online)


def test_the_ancestors_can_still_read_each_answer():
    assert encode_news(2, True) == b'{"online": true, "user_id": 2}\n'
    assert encode_news("alice", False) == b'{"online": false, "user_id": "alice"}\n'
    assert STILL_THERE == b'{"msg": "are you still there?", "error": 0}'
    assert encode_refusal(Refusal(6, "No")) == b'{"msg": "[server] No", "error": 6}'


def test_push_may_be_left_out_and_other_fields_are_skipped():
    assert parse_watch({"user_id": 1, "friends": [2], "mood": {"is": "good"}}) == Watch(1, (2,), push=False)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({}, 5),
        ({"friends": []}, 5),
        *(({"user_id": user_id, "friends": []}, 5) for user_id in (0, -1, 1.0, True, None, "1", "alice", [1], 2**63)),
        *(({"user_id": 1, "friends": [2, friend]}, 5) for friend in (0, -2, 2.0, True, None, "", "b d", [2], 2**63)),
        ({"user_id": 1, "friends": ["bob\n"]}, 5),
        ({"user_id": 1, "friends": ["x" * 33]}, 5),
        ({"user_id": 1}, 3),
        *(({"user_id": 1, "friends": friends}, 3) for friends in (None, 2, "bob", {"2": 3}, [2] * (MAX_FRIENDS + 1))),
        *(({"user_id": 1, "friends": [], "push": push}, 3) for push in (1, None, "true")),
        ({"user_id": 1, "friends": [2, 1]}, 6),
    ],
)
def test_an_invalid_request_is_refused_with_a_code(fields, code):
    with pytest.raises(Refusal) as caught:
        parse_watch(fields)
    assert caught.value.code == code
    assert len(encode_refusal(caught.value)) <= 256


def test_the_most_friends_and_the_largest_number():
    assert len(parse_watch({"user_id": 2**63 - 1, "friends": [2] * MAX_FRIENDS}).friends) == MAX_FRIENDS


def test_names_are_compared_without_case():
    assert [fold_friend(friend) for friend in (2, "2", "Bob")] == [2, "2", "bob"]


def test_an_error_is_raised_with_the_text_of_the_server():
    with pytest.raises(Refusal) as caught:
        parse_answer({"msg": "[server] You can't", "error": 6})
    assert (caught.value.code, caught.value.text) == (6, "[server] You can't")


@pytest.mark.parametrize(
    "fields",
    [
        *(json.loads(STILL_THERE), {}, {"online": 1, "user_id": 2}, {"online": True}),
        *({"online": True, "user_id": nobody} for nobody in (None, True, 0, 2**63, "", "a b", "\x1b[2J")),
    ],
)
def test_any_other_answer_only_shows_that_the_server_is_alive(fields):
    assert parse_answer(fields) is None
