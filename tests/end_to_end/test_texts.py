"""What is written and what is read: long texts of mixed scripts, and texts that would move the cursor."""

import pytest

import trio_chat
from tests.end_to_end.processes import open_stage

pytestmark = [pytest.mark.usefixtures("performances"), pytest.mark.xdist_group("plays")]

LIMIT = 16 * 1024


def long_text():
    """Exactly 16 KiB of UTF-8 in scripts of one to four bytes a character; two blanks in a row among them."""
    sample = "Grüße  an alle; Привет, мир; 你好世界; नमस्ते; שלום; مرحبا; 🦊🐙; "
    text = sample * (LIMIT // len(sample.encode()))
    return text + "." * (LIMIT - len(text.encode()))


async def test_16_kib_arrive_as_typed_on_every_way_and_once():
    text = long_text()
    async with open_stage() as stage:
        server = await stage.server()
        x = await stage.client("x", server)
        y = await stage.client("y", server)

        await x.types(f"send y {text}")
        assert await y.says() == f"x: {text}"
        await x.sees("[Message received by y.]")

        await y.types("dereg")
        await y.sees("[You are Offline. Bye.]")
        await stage.settle()
        await x.types(f"send y {text}")
        await x.sees("[Offline Message sent at 23:32:21 received by the server and saved.]")
        await y.types("reg")
        await y.sees("[RegSent]", "[You have offline messages:]")
        assert (await y.says()).endswith(f" {text}")
        await x.sees("[Offline Message sent at 23:32:21 received by y.]")
        await stage.settle()

        y.freezes()
        await x.types(f"send y {text}")
        await x.sees(
            "[No ACK from y, message sent to server.]",
            "[Offline Message sent at 23:32:21 received by the server and saved.]",
        )
        y.thaws()
        assert await y.says() == f"x: {text}"
        await x.sees("[Offline Message sent at 23:32:21 received by y.]")

        await x.types(f"send y {text}")
        assert await y.says() == f"x: {text}"
        await x.sees("[Message relayed to y by the server.]")
        y.interrupt()
        await y.leaves(130)


async def test_what_would_move_the_cursor_is_printed_escaped():
    async with open_stage() as stage:
        server = await stage.server()
        y = await stage.client("y", server)
        async with trio_chat.open_chat("x", ("127.0.0.1", server.port)) as x:
            await x.send("y", "one\ntwo\x1b[2J\t\0\x9b\u202e end")
            await y.sees("x: one", r"   two\x1b[2J \x00\x9b\u202e end")
            await x.send_all("\r[Welcome, You are registered.]")
            await y.sees("Group Chat x: ", "              [Welcome, You are registered.]")
