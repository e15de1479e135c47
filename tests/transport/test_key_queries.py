"""Which answer to a question for keys counts: the first of each address, and other keys only if no wanted ones came.

Nothing waits here.
"""

import pytest

from tests.stage import identity_of
from trio_chat.link.events import KeysLearned
from trio_chat.transport.key_queries import KeyQuery

A, B, C = ("10.0.0.1", 1), ("10.0.0.2", 2), ("10.0.0.3", 3)
OURS, FIRST, SECOND = (identity_of(name).public for name in ("ours", "first", "second"))


@pytest.fixture
def query():
    return KeyQuery([A, B], lambda keys: keys == OURS)


def test_other_keys_do_not_end_it_and_are_the_answer_only_if_no_wanted_ones_come(query):
    assert query.best() is None
    query.take(KeysLearned(A, FIRST))
    assert not query.answered.is_set()
    assert query.best() == KeysLearned(A, FIRST)
    query.take(KeysLearned(B, OURS))
    assert query.answered.is_set()
    assert query.best() == KeysLearned(B, OURS)


def test_of_each_address_the_first_answer_counts_and_of_several_addresses_the_earlier_one():
    query = KeyQuery([A, B], lambda keys: True)
    for learned in (KeysLearned(B, FIRST), KeysLearned(B, SECOND)):
        query.take(learned)
    assert query.best() == KeysLearned(B, FIRST)
    for learned in (KeysLearned(A, SECOND), KeysLearned(A, FIRST)):
        query.take(learned)
    assert query.best() == KeysLearned(A, SECOND)


def test_an_answer_from_an_address_that_was_not_asked_is_no_answer(query):
    query.take(KeysLearned(C, OURS))
    assert not query.answered.is_set()
    assert query.best() is None
