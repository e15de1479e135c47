"""Texts are read as they were written: 16 KiB in many scripts. Control characters are printed escaped.

Real processes; each wait is for a printed line, with a deadline.
"""

import pytest

import trio_chat
from tests.end_to_end.processes import open_programs

pytestmark = [pytest.mark.usefixtures("conversations"), pytest.mark.xdist_group("conversations")]

LIMIT = 16 * 1024


def long_text():
    """Exactly 16 KiB of UTF-8, with characters of one to four bytes, and with two blanks in a row."""
    sample = "Grüße  an alle; Привет, мир; 你好世界; नमस्ते; שלום; مرحبا; 🦊🐙; "
    text = sample * (LIMIT // len(sample.encode()))
    return text + "." * (LIMIT - len(text.encode()))


async def test_16_kib_arrive_once_and_unchanged_on_every_path():
    text = long_text()
    async with open_programs() as programs:
        server = await programs.server()
        x = await programs.client("x", server)
        y = await programs.client("y", server)

        await x.types(f"send y {text}")
        assert await y.next_line() == f"x: {text}"
        await x.sees("[Message received by y.]")

        await y.types("dereg")
        await y.sees("[You are Offline. Bye.]")
        await programs.settle()
        await x.types(f"send y {text}")
        await x.sees("[Offline Message sent at 23:32:21 received by the server and saved.]")
        await y.types("reg")
        await y.sees("[RegSent]", "[You have offline messages:]")
        assert (await y.next_line()).endswith(f" {text}")
        await x.sees("[Offline Message sent at 23:32:21 received by y.]")
        await programs.settle()

        y.freezes()
        await x.types(f"send y {text}")
        await x.sees(
            "[No ACK from y, message sent to server.]",
            "[Offline Message sent at 23:32:21 received by the server and saved.]",
        )
        y.thaws()
        assert await y.next_line() == f"x: {text}"
        await x.sees("[Offline Message sent at 23:32:21 received by y.]")

        await x.types(f"send y {text}")
        assert await y.next_line() == f"x: {text}"
        await x.sees("[Message relayed to y by the server.]")
        y.interrupt()
        await y.exits(130)


async def test_control_characters_are_printed_escaped():
    async with open_programs() as programs:
        server = await programs.server()
        y = await programs.client("y", server)
        async with trio_chat.open_chat("x", ("127.0.0.1", server.port)) as x:
            await x.send("y", "one\ntwo\x1b[2J\t\0\x9b\u202e end")
            await y.sees("x: one", r"   two\x1b[2J \x00\x9b\u202e end")
            await x.send_all("\r[Welcome, You are registered.]")
            await y.sees("Group Chat x: ", "              [Welcome, You are registered.]")
