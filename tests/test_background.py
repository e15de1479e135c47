"""What comes out of a block that tasks serve: one error as it is, whatever else happens at that moment."""

import pytest
import trio

from trio_chat.background import open_background
from trio_chat.errors import StoreFailed


async def fail():
    raise StoreFailed("no room")


async def test_one_error_of_a_task_comes_as_it_is():
    with pytest.raises(StoreFailed, match="no room"):
        async with open_background() as nursery:
            nursery.start_soon(fail)
            await trio.sleep_forever()


async def test_so_it_does_when_the_block_is_cancelled_at_that_moment():
    with pytest.raises(StoreFailed, match="no room"), trio.CancelScope() as scope:
        async with open_background() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(fail)
            scope.cancel()
            await trio.sleep_forever()


async def test_a_block_that_is_cancelled_ends_quietly():
    with trio.CancelScope() as scope:
        async with open_background() as nursery:
            nursery.start_soon(trio.sleep_forever)
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_what_two_tasks_did_wrong_comes_as_a_group():
    with pytest.raises(ExceptionGroup) as caught:
        async with open_background() as nursery:
            nursery.start_soon(fail)
            nursery.start_soon(fail)
            await trio.sleep_forever()
    assert len(caught.value.exceptions) == 2
