"""The server's print-outs: one for each change, fewer under a flood, and none that the server waits for.

Time is virtual, and what is printed goes to a list; only the last tests use a real pipe.
"""

import ast
import os
import sys

import pytest
import trio
import trio.testing

from trio_chat import open_chat
from trio_chat.cli.server import serve_and_print
from trio_chat.cli.table_printer import (
    PRINTOUT_BURST,
    PRINTOUTS_PER_SECOND,
    ROOM_LINES,
    OutputThread,
    TablePrinter,
    TableView,
)
from trio_chat.protocol.records import EntryKind, Record
from trio_chat.server.sessions import RoomEvent
from trio_chat.storage.server_memory import MemoryServerStore

HEADING = ">>> [Client table updated.]\n"


def row(name, port, online=True):
    return Record(name, "127.0.0.1", port, online, 0.0)


class SlowReader:
    """Takes print-outs, each one only when it is allowed to."""

    def __init__(self):
        self.reading = trio.Event()
        self.reading.set()
        self.printed = []

    async def write(self, text):
        await self.reading.wait()
        self.printed += [(trio.current_time(), text)] if text else []

    def texts(self):
        return [text for _, text in self.printed]

    def last_table(self):
        return ast.literal_eval(self.texts()[-1].splitlines()[-1])


@pytest.fixture
async def printing(nursery):
    """The reader, and where to send changes."""
    reader = SlowReader()
    changes_in, changes = trio.open_memory_channel(10_000)
    nursery.start_soon(TablePrinter(TableView(), reader.write).run, changes)
    yield reader, changes_in.send_nowait
    nursery.cancel_scope.cancel()


async def test_changes_at_the_same_moment_are_printed_one_by_one(printing, autojump_clock):
    reader, change = printing
    for number in range(PRINTOUT_BURST):
        change(row(f"n{number}", 1))
    await trio.testing.wait_all_tasks_blocked()
    assert [text.count("127.0.0.1") for text in reader.texts()] == list(range(1, PRINTOUT_BURST + 1))
    assert {when for when, _ in reader.printed} == {trio.current_time()}


async def test_in_a_flood_print_outs_are_few_and_the_last_one_has_the_newest_state(printing, autojump_clock):
    reader, change = printing
    for number in range(3000):
        change(row("x", number + 1))
        change(row("y", number + 1, online=bool(number % 2)))
        await trio.sleep(0.001)
    await trio.sleep(1)
    assert len(reader.printed) <= PRINTOUT_BURST + 3 * PRINTOUTS_PER_SECOND + 2
    assert reader.last_table() == {"x": ("x", "127.0.0.1", 3000, True), "y": ("y", "127.0.0.1", 3000, True)}
    assert all(text.startswith(HEADING) for text in reader.texts())
    change(row("x", 1, online=False))
    await trio.testing.wait_all_tasks_blocked()
    assert reader.last_table()["x"] == ("x", "127.0.0.1", 1, False), "after the flood a change is printed at once"


async def test_in_a_flood_of_many_names_each_changed_row_is_printed(printing, autojump_clock):
    reader, change = printing
    for number in range(1000):
        change(row(f"n{number}", number + 1))
    await trio.sleep(1)
    assert len(reader.printed) == PRINTOUT_BURST + 1
    assert len(reader.last_table()) == 1000 - PRINTOUT_BURST


async def test_a_reader_who_returns_sees_how_many_changes_one_print_out_has(printing, autojump_clock):
    reader, change = printing
    reader.reading = trio.Event()
    for number in range(5000):
        change(row("x", number + 1))
        await trio.sleep(0.01)
    assert reader.printed == []
    reader.reading.set()
    await trio.testing.wait_all_tasks_blocked()
    first, second = reader.texts()
    assert first == HEADING + "{'x': ('x', '127.0.0.1', 1, True)}\n"
    note = ">>> [This output was stopped: 4999 changes are combined below.]\n"
    assert second == note + HEADING + "{'x': ('x', '127.0.0.1', 5000, True)}\n"
    change(row("x", 1))
    await trio.testing.wait_all_tasks_blocked()
    assert reader.texts()[2] == HEADING + "{'x': ('x', '127.0.0.1', 1, True)}\n"


# --- rooms ---


async def test_who_creates_joins_and_leaves_a_room_is_printed_at_once(printing, autojump_clock):
    reader, change = printing
    for kind, name in (
        (EntryKind.CREATED, "x"),
        (EntryKind.EPOCH, "x"),
        (EntryKind.JOINED, "y"),
        (EntryKind.LEFT, "x"),
    ):
        change(RoomEvent(kind, "Lunch", name))
        await trio.testing.wait_all_tasks_blocked()
    assert reader.printed == [
        (trio.current_time(), ">>> [Client x created group Lunch successfully]\n"),
        (trio.current_time(), ">>> [Client x changed who is in group Lunch]\n"),
        (trio.current_time(), ">>> [Client y joined group Lunch]\n"),
        (trio.current_time(), ">>> [Client x left group Lunch]\n"),
    ]


async def test_changes_of_rooms_stand_below_the_table(printing, autojump_clock):
    reader, change = printing
    change(row("x", 1))
    change(RoomEvent(EntryKind.CREATED, "Lunch", "x"))
    await trio.testing.wait_all_tasks_blocked()
    table = HEADING + "{'x': ('x', '127.0.0.1', 1, True)}\n"
    # They are one print-out or two, as the tasks happen to run.
    assert "".join(reader.texts()) == table + ">>> [Client x created group Lunch successfully]\n"


@pytest.mark.parametrize("is_stopped", [True, False])
async def test_in_a_flood_of_rooms_at_most_a_number_waits_and_the_others_are_counted(
    printing, autojump_clock, is_stopped
):
    reader, change = printing
    if is_stopped:
        reader.reading = trio.Event()
        change(RoomEvent(EntryKind.JOINED, "Lunch", "x"))
    else:
        for number in range(PRINTOUT_BURST):  # no more print-outs, until the rate allows the next one
            change(row(f"n{number}", 1))
    await trio.testing.wait_all_tasks_blocked()
    reader.printed.clear()
    for number in range(ROOM_LINES + 50):
        change(RoomEvent(EntryKind.JOINED, "Lunch", f"n{number}"))
        await trio.testing.wait_all_tasks_blocked()
    assert reader.printed == []
    reader.reading.set()
    await trio.sleep(1)
    lines = "".join(reader.texts()).splitlines()
    first = [">>> [Client x joined group Lunch]"] if is_stopped else []
    assert lines[: len(first)] == first
    assert lines[len(first) :] == [
        *(f">>> [Client n{number} joined group Lunch]" for number in range(ROOM_LINES)),
        ">>> [50 more changes of groups]",
    ]
    change(RoomEvent(EntryKind.LEFT, "Lunch", "x"))
    await trio.testing.wait_all_tasks_blocked()
    assert reader.texts()[-1] == ">>> [Client x left group Lunch]\n", "the count begins again"


@pytest.mark.parametrize("ending", ["the channel is closed", "cancelled"])
async def test_changes_of_rooms_that_wait_are_still_printed_at_the_end(ending, autojump_clock):
    reader = SlowReader()
    changes_in, changes = trio.open_memory_channel(10_000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(TablePrinter(TableView(), reader.write).run, changes)
        for number in range(2 * PRINTOUT_BURST):
            changes_in.send_nowait(row("x", number + 1))
        changes_in.send_nowait(RoomEvent(EntryKind.LEFT, "Lunch", "x"))
        await trio.testing.wait_all_tasks_blocked()
        if ending == "cancelled":
            nursery.cancel_scope.cancel()
        else:
            changes_in.close()
    assert "".join(reader.texts()).splitlines().count(">>> [Client x left group Lunch]") == 1


@pytest.mark.parametrize("ending", ["the channel is closed", "cancelled"])
async def test_waiting_changes_are_still_printed_at_the_end(ending, autojump_clock):
    reader = SlowReader()
    changes_in, changes = trio.open_memory_channel(10_000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(TablePrinter(TableView(), reader.write).run, changes)
        for number in range(2 * PRINTOUT_BURST):
            changes_in.send_nowait(row("x", number + 1))
        await trio.testing.wait_all_tasks_blocked()
        if ending == "cancelled":
            nursery.cancel_scope.cancel()
        else:
            changes_in.close()
    assert reader.last_table() == {"x": ("x", "127.0.0.1", 2 * PRINTOUT_BURST, True)}


async def test_at_the_end_a_reader_who_does_not_read_is_not_waited_for(autojump_clock):
    reader = SlowReader()
    reader.reading = trio.Event()
    changes_in, changes = trio.open_memory_channel(10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(TablePrinter(TableView(), reader.write).run, changes)
        changes_in.send_nowait(row("x", 1))
        await trio.sleep(10)
        began = trio.current_time()
        nursery.cancel_scope.cancel()
    assert trio.current_time() - began <= 0.5


# --- a real pipe ---


@pytest.fixture
async def full_pipe(monkeypatch):
    """Standard output is a pipe that is full; yields where it can be read.

    Async, or else it would come too early: pytest replaces `sys.stdout` once more.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(writing, b"x" * 4096)
    os.set_blocking(writing, True)
    with os.fdopen(writing, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        yield reading
        os.close(reading)


def read_until(end, fd):
    """What the pipe has after the bytes that filled it."""
    data = b""
    while not data.endswith(end):
        data += os.read(fd, 65536)
    return data.lstrip(b"x").decode()


async def test_a_server_whose_output_nobody_reads_still_answers(full_pipe, nursery):
    output = OutputThread(sys.stdout)
    server = await nursery.start(serve_and_print, 0, "127.0.0.1", MemoryServerStore(), output.write)
    with trio.fail_after(60):
        for name in ("x", "y", "z"):
            async with open_chat(name, server, host="127.0.0.1") as chat:
                assert chat.online
        printed = await trio.to_thread.run_sync(read_until, b"}\n", full_pipe)
    assert printed.startswith(HEADING + "{'x': (")
    nursery.cancel_scope.cancel()


async def test_text_is_not_mixed_with_that_of_an_abandoned_thread(full_pipe):
    output = OutputThread(sys.stdout)
    with trio.move_on_after(0.1) as scope:
        await output.write("first\n")
    assert scope.cancelled_caught
    async with trio.open_nursery() as nursery:
        nursery.start_soon(output.write, "second\n")
        await trio.sleep(0.1)
        assert await trio.to_thread.run_sync(read_until, b"second\n", full_pipe) == "first\nsecond\n"


async def test_a_closed_standard_output_takes_everything(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    await OutputThread(sys.stdout).write("anything")
