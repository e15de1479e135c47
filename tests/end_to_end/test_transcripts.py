"""The conversations of the ancestors, with real processes on loopback, all at the same time."""

import pytest

from tests.end_to_end.conversations import SCRIPTS

pytestmark = [pytest.mark.usefixtures("conversations"), pytest.mark.xdist_group("conversations")]


@pytest.mark.parametrize("conversation", SCRIPTS)
def test_transcript(conversation, conversations):
    failures = conversations.result()
    if conversation in failures:
        pytest.fail(failures[conversation], pytrace=False)
