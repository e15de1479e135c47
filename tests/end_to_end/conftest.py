"""When the conversations run: all at once, beside the tests of the group `conversations`, in that group's process."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import trio

from tests.end_to_end.conversations import run_all


@pytest.fixture(scope="session")
def conversations(request):
    """A future of what failed, by conversation. Those that were asked for start now: they mostly wait."""
    calls = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    wanted = {params["conversation"] for params in calls if "conversation" in params}
    with ThreadPoolExecutor(1) as thread:
        yield thread.submit(trio.run, run_all, wanted)
