"""What is kept for each, when many have too much in all: as much as possible, and nobody pays for others.

The function is pure. What the stores do with it is in test_history.py and test_client_store.py.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_chat.storage.shares import fair_share


@pytest.mark.parametrize(
    ("counts", "limit", "share"),
    [
        ([], 10, 10),
        ([3, 7], 10, 10),
        ([3, 100], 10, 7),
        ([100, 3, 100], 13, 5),
        ([1] * 11, 10, 0),
        ([5, 5, 5], 14, 4),
        ([0, 0, 9], 3, 3),
    ],
)
def test_shares(counts, limit, share):
    assert fair_share(counts, limit) == share


@given(st.lists(st.integers(0, 50)), st.integers(0, 300))
def test_the_share_is_the_largest_that_fits(counts, limit):
    share = fair_share(counts, limit)
    assert sum(min(count, share) for count in counts) <= limit
    assert sum(counts) <= limit or sum(min(count, share + 1) for count in counts) > limit
