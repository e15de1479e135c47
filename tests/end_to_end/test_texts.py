"""What is written and what is read: long texts of mixed scripts, and texts that would move the cursor."""

import trio_chat
from tests.end_to_end.theatre import open_stage

LIMIT = 16 * 1024


def long_text():
    """Exactly 16 KiB of UTF-8 in scripts of one to four bytes a character; two blanks in a row among them."""
    sample = "Grüße  an alle; Привет, мир; 你好世界; नमस्ते; שלום; مرحبا; 🦊🐙; "
    text = sample * (LIMIT // len(sample.encode()))
    return text + "." * (LIMIT - len(text.encode()))


async def test_16_kib_arrive_as_typed_directly_and_as_a_letter():
    text = long_text()
    async with open_stage() as stage:
        server = await stage.server()
        x = await stage.start("x", "client", "x", "127.0.0.1", server.port)
        y = await stage.start("y", "client", "y", "127.0.0.1", server.port)
        for party in (x, y):
            await party.sees("[Welcome, You are registered.]")

        await x.types(f"send y {text}")
        assert await y.says() == f"x: {text}"
        await x.sees("[Message received by y.]")

        await y.types("dereg")
        await y.sees("[You are Offline. Bye.]")
        await x.types(f"send y {text}")
        await x.sees("[Offline Message sent at 23:32:21 received by the server and saved.]")
        await y.types("reg")
        await y.sees("[RegSent]", "[You have offline messages:]")
        assert (await y.says()).endswith(f" {text}")


async def test_what_would_move_the_cursor_is_printed_escaped():
    async with open_stage() as stage:
        server = await stage.server()
        y = await stage.start("y", "client", "y", "127.0.0.1", server.port)
        await y.sees("[Welcome, You are registered.]")
        async with trio_chat.open_chat("x", ("127.0.0.1", server.port)) as x:
            await x.send("y", "one\ntwo\x1b[2J\t\0\x9b\u202e end")
            assert await y.says() == r"x: one\ntwo\x1b[2J\t\x00\x9b\u202e end"
            await x.send_all("\r[Welcome, You are registered.]")
            assert await y.says() == r"Group Chat x: \r[Welcome, You are registered.]"
