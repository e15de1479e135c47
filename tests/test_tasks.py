"""open_background: one error is raised without a group. WakeUp: no call is lost, many count as one. In virtual time."""

import pytest
import trio

from trio_chat.errors import StoreFailed
from trio_chat.tasks import WakeUp, open_background


async def fail():
    raise StoreFailed("no room")


async def test_a_single_error_of_a_task_is_raised_without_a_group():
    with pytest.raises(StoreFailed, match="no room"):
        async with open_background() as nursery:
            nursery.start_soon(fail)
            await trio.sleep_forever()


async def test_a_single_error_is_raised_without_a_group_when_the_block_is_cancelled_at_that_moment():
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


async def test_errors_of_two_tasks_are_raised_as_a_group():
    with pytest.raises(ExceptionGroup) as caught:
        async with open_background() as nursery:
            nursery.start_soon(fail)
            nursery.start_soon(fail)
            await trio.sleep_forever()
    assert len(caught.value.exceptions) == 2


async def test_a_wake_up_call_that_came_before_the_wait_is_not_lost(autojump_clock):
    wake_up = WakeUp()
    wake_up.set()
    with trio.fail_after(1):
        await wake_up.wait()


async def test_many_calls_count_as_one_and_the_next_wait_waits(autojump_clock):
    wake_up = WakeUp()
    wake_up.set()
    wake_up.set()
    await wake_up.wait()
    with trio.move_on_after(1) as waiting:
        await wake_up.wait()
    assert waiting.cancelled_caught


async def test_a_call_during_the_work_wakes_the_task_once_more(autojump_clock):
    wake_up, works = WakeUp(), []

    async def worker():
        while True:
            await wake_up.wait()
            works.append(trio.current_time())
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker)
        for _ in range(3):
            await trio.sleep(0.3)
            wake_up.set()
        await trio.sleep(5)
        nursery.cancel_scope.cancel()
    assert len(works) == 2
