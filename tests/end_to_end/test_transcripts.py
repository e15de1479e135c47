"""The conversations of the ancestors, with real processes on loopback, all at the same time."""

import pytest
import trio

from tests.end_to_end.performance import SCRIPTS, perform


@pytest.fixture(scope="module")
def failures(request):
    """What went wrong, by play: all that were asked for are performed at once, each on a stage of its own."""
    wanted = {item.callspec.params["name"] for item in request.session.items if item.path == request.path}
    return trio.run(_perform_all, wanted)


async def _perform_all(names):
    failures = {}

    async def attend(name):
        try:
            await perform(name)
        except AssertionError as error:
            failures[name] = "\n".join([str(error), *error.__notes__])

    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(attend, name)
    return failures


@pytest.mark.parametrize("name", SCRIPTS)
def test_transcript(name, failures):
    if name in failures:
        pytest.fail(failures[name], pytrace=False)
