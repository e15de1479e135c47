"""The conversations of the ancestors, with real processes on loopback, all at the same time."""

import pytest

from tests.end_to_end.scripts_runner import SCRIPTS

pytestmark = [pytest.mark.usefixtures("performances"), pytest.mark.xdist_group("plays")]


@pytest.mark.parametrize("play", SCRIPTS)
def test_transcript(play, performances):
    failures = performances.result()
    if play in failures:
        pytest.fail(failures[play], pytrace=False)
