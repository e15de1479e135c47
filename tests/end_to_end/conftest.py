"""When the plays are performed: all at once, beside the tests of the group `plays`, in the process that runs it."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import trio

from tests.end_to_end.scripts_runner import perform_all


@pytest.fixture(scope="session")
def performances(request):
    """A future of what went wrong, by play. The plays that were asked for begin now: they mostly wait."""
    calls = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    wanted = {params["play"] for params in calls if "play" in params}
    with ThreadPoolExecutor(1) as thread:
        yield thread.submit(trio.run, perform_all, wanted)
