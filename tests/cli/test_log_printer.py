"""Log lines of a server: printed in order, and a reader who does not read them stops nothing.

All tests run in virtual time; what is written to is a function.
"""

import logging

import pytest
import trio

from trio_chat.cli.log_printer import MAX_WAITING, LogPrinter

log = logging.getLogger("trio_chat.test")


@pytest.fixture
def handlers():
    """The handlers of the root logger, which are the same at the end."""
    before = list(logging.getLogger().handlers)
    yield before
    assert logging.getLogger().handlers == before


async def test_lines_are_printed_in_order(handlers, autojump_clock):
    written = []

    async def write(text):
        written.append(text)

    async with trio.open_nursery() as nursery:
        await nursery.start(LogPrinter(write).run)
        log.warning("first: %s", 1)
        await trio.sleep(1)
        log.warning("second")
        log.warning("third")
        nursery.cancel_scope.cancel()
    assert "".join(written) == "first: 1\nsecond\nthird\n"


async def test_a_reader_who_does_not_read_stops_nothing_and_gets_the_newest_lines(handlers, autojump_clock):
    written, reads = [], trio.Event()

    async def write(text):
        await reads.wait()
        written.append(text)

    async with trio.open_nursery() as nursery:
        await nursery.start(LogPrinter(write).run)
        log.warning("0")
        await trio.sleep(1)
        for number in range(1, 2 * MAX_WAITING + 1):
            log.warning("%d", number)
        await trio.sleep(1)
        reads.set()
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    newest = range(MAX_WAITING + 1, 2 * MAX_WAITING + 1)
    assert "".join(written).splitlines() == ["0", *map(str, newest)]


async def test_what_is_logged_just_before_the_end_is_printed(handlers, autojump_clock):
    written = []

    async def write(text):
        await trio.lowlevel.checkpoint_if_cancelled()
        written.append(text)

    async with trio.open_nursery() as nursery:
        await nursery.start(LogPrinter(write).run)
        log.critical("the reason")
        nursery.cancel_scope.cancel()  # its task is awake already
    assert "".join(written) == "the reason\n"


async def test_it_ends_although_nobody_reads(handlers, autojump_clock):
    async def write(text):
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        await nursery.start(LogPrinter(write).run)
        log.warning("anything")
        await trio.sleep(1)
        log.warning("more")
        began = trio.current_time()
        nursery.cancel_scope.cancel()
    assert trio.current_time() - began < 1
