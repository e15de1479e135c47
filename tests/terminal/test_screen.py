"""Lines from every kind of standard input, and what a screen shows.

Real pipes, files and pseudo terminals; the tests wait for lines, or until all tasks are blocked, and never for a time.
"""

import io
import os
import tty
from contextlib import closing, contextmanager

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from trio_chat.terminal.screen import MAX_LINE, LineSplitter, Screen, read_lines
from trio_chat.terminal.styling import Line


class Reading:
    """The lines that are read; `asked` counts the prompts."""

    def __init__(self, nursery, fd):
        self.asked = 0
        sender, self._lines = trio.open_memory_channel(1)
        nursery.start_soon(read_lines, fd, sender, self._ask)

    def _ask(self):
        self.asked += 1

    async def next(self):
        with trio.fail_after(60):
            return await self._lines.receive()

    async def rest(self):
        with trio.fail_after(60):
            return [line async for line in self._lines]


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0), open(writing, "wb", buffering=0) as writer:
        yield reading, writer


@contextmanager
def pseudo_terminal():
    master, slave = os.openpty()
    with open(master, "r+b", buffering=0) as keyboard, open(slave, "r+b", buffering=0):
        yield keyboard, slave


async def test_lines_of_a_pipe_come_as_they_are_written(pipe, nursery):
    fd, writer = pipe
    reading = Reading(nursery, fd)
    writer.write(b"who\nsend bob hi\r\n")
    assert await reading.next() == "who"
    assert await reading.next() == "send bob hi"
    writer.write(b"\n  exit ")
    assert await reading.next() == ""
    writer.close()
    assert await reading.rest() == ["  exit "]


async def test_a_character_may_come_in_pieces(pipe, nursery):
    fd, writer = pipe
    reading = Reading(nursery, fd)
    for byte in "send bob grüße 👋\n".encode():
        writer.write(bytes([byte]))
        await wait_all_tasks_blocked()
    writer.close()
    assert await reading.rest() == ["send bob grüße 👋"]


async def test_a_terminal_may_cut_a_character_in_two(nursery):
    with pseudo_terminal() as (keyboard, fd):
        tty.setraw(fd)
        reading = Reading(nursery, fd)
        first, second = "ü".encode()
        keyboard.write(b"send bob gr" + bytes([first]))
        await wait_all_tasks_blocked()
        keyboard.write(bytes([second]) + b"n\n")
        assert await reading.next() == "send bob grün"
        nursery.cancel_scope.cancel()


async def test_ctrl_d_ends_the_input_of_a_terminal(nursery):
    with pseudo_terminal() as (keyboard, fd):
        reading = Reading(nursery, fd)
        keyboard.write(b"who\n\x04")
        assert await reading.rest() == ["who"]


async def test_a_terminal_that_is_hung_up_has_ended(nursery):
    with pseudo_terminal() as (keyboard, fd):
        reading = Reading(nursery, fd)
        await wait_all_tasks_blocked()
        keyboard.close()
        assert await reading.rest() == []


async def test_a_file_is_read_to_its_end(tmp_path, nursery):
    script = tmp_path / "script"
    script.write_bytes(b"one\n" * 20_000 + b"last")
    with script.open("rb", buffering=0) as file:
        assert await Reading(nursery, file.fileno()).rest() == ["one"] * 20_000 + ["last"]


@pytest.mark.parametrize("place", [os.devnull, "/"])
async def test_a_descriptor_without_input_has_ended(place, nursery):
    fd = os.open(place, os.O_RDONLY)
    try:
        assert await Reading(nursery, fd).rest() == []
    finally:
        os.close(fd)


async def test_a_closed_descriptor_has_ended(nursery):
    fd = os.open(os.devnull, os.O_RDONLY)
    os.close(fd)
    assert await Reading(nursery, fd).rest() == []


async def test_what_is_not_utf8_stays_recognizable(pipe, nursery):
    """Before: it was replaced, and the message was sent with other characters."""
    fd, writer = pipe
    writer.write(b"send bob a\xff\xc3\nwho\n")
    writer.close()
    assert await Reading(nursery, fd).rest() == ["send bob a\udcff\udcc3", "who"]


async def test_an_endless_line_is_cut_and_the_next_one_is_whole(pipe, nursery):
    fd, writer = pipe
    reading = Reading(nursery, fd)
    for _ in range(100):
        await trio.to_thread.run_sync(writer.write, b"x" * 10_000)
    writer.write(b"\nwho\n")
    assert await reading.next() == "x" * MAX_LINE
    assert await reading.next() == "who"
    nursery.cancel_scope.cancel()


@given(st.binary(), st.lists(st.integers(0, 50)))
def test_lines_do_not_depend_on_where_the_bytes_were_cut(data, cuts):
    cut, whole = LineSplitter(), LineSplitter()
    lines, rest = [], data
    for size in cuts:
        lines += cut.feed(rest[:size])
        rest = rest[size:]
    lines += cut.feed(rest) + cut.end()
    assert lines == whole.feed(data) + whole.end()
    assert len(lines) == data.count(b"\n") + (data != b"" and not data.endswith(b"\n"))


async def test_the_prompt_is_shown_once_for_each_line(pipe, nursery):
    fd, writer = pipe
    reading = Reading(nursery, fd)
    await wait_all_tasks_blocked()
    assert reading.asked == 1
    writer.write(b"half a l")
    await wait_all_tasks_blocked()
    assert reading.asked == 1, "a prompt in the middle of a line"
    writer.write(b"ine\n")
    assert await reading.next() == "half a line"
    await wait_all_tasks_blocked()
    assert reading.asked == 2
    nursery.cancel_scope.cancel()


async def test_cancelling_a_reader_leaves_nothing_behind(pipe):
    fd, writer = pipe
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            Reading(nursery, fd)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    assert os.get_blocking(fd)
    writer.write(b"for the shell\n")
    assert os.read(fd, 100) == b"for the shell\n"


async def test_where_nothing_can_be_polled_a_waiting_read_is_abandoned(pipe, monkeypatch):
    async def refuse(fd):
        raise OSError("not a socket")

    monkeypatch.setattr(trio.lowlevel, "wait_readable", refuse)
    fd, writer = pipe
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            reading = Reading(nursery, fd)
            writer.write(b"who\n")
            assert await reading.next() == "who"
            nursery.cancel_scope.cancel()
        writer.write(b"lets the thread go\n")
        while trio.to_thread.current_default_thread_limiter().borrowed_tokens:
            await trio.lowlevel.checkpoint()


async def test_another_reader_of_the_same_pipe_does_no_harm(pipe):
    fd, writer = pipe
    os.set_blocking(fd, False)
    twin = os.dup(fd)
    try:
        async with trio.open_nursery() as nursery:
            readings = [Reading(nursery, fd), Reading(nursery, twin)]
            await wait_all_tasks_blocked()
            writer.write(b"only one gets it\n")
            await wait_all_tasks_blocked()
            assert len(nursery.child_tasks) == 2, "the other one goes on reading"
            writer.close()
            assert sorted([await reading.rest() for reading in readings]) == [[], ["only one gets it"]]
    finally:
        os.close(twin)


async def test_a_reader_waits_until_its_lines_are_taken(pipe, nursery):
    fd, writer = pipe
    writer.write(b"one\ntwo\nthree\n")
    writer.close()
    sender, lines = trio.open_memory_channel(1)
    nursery.start_soon(read_lines, fd, sender)
    await wait_all_tasks_blocked()
    assert lines.statistics().current_buffer_used == 1
    assert [line async for line in lines] == ["one", "two", "three"]


class Flushed(io.StringIO):
    """`seen` is what has been flushed."""

    seen = ""

    def flush(self):
        self.seen = self.getvalue()


def test_a_screen_without_a_prompt_prints_lines_and_nothing_else():
    with closing(Flushed()) as stream:
        screen = Screen(stream)
        screen.show_prompt()
        screen.show(Line("[Welcome]"))
        screen.show_prompt()
        screen.show(Line("x: hi"))
        screen.close()
        assert stream.seen == ">>> [Welcome]\n>>> x: hi\n"


def test_a_screen_with_a_prompt_keeps_it_below_the_lines():
    with closing(Flushed()) as stream:
        screen = Screen(stream, prompt=True)
        screen.show_prompt()
        assert stream.seen == "\r\x1b[K>>> "
        screen.show(Line("x: hi"))
        assert stream.seen == "\r\x1b[K>>> " + "\r\x1b[K>>> x: hi\n>>> "
        screen.close()
        assert stream.seen.endswith("\n>>> \r\x1b[K")
