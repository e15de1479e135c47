"""Programs that chat: a client that prints JSON, and `send` with its exit codes.

Real processes; each wait has a deadline.
"""

import json

import pytest

from tests.end_to_end.processes import open_stage

pytestmark = pytest.mark.xdist_group("programs")  # one after the other, at the same time as the scripts


async def receives(party, event):
    """The next JSON object of that event; others before it are skipped."""
    while True:
        fields = json.loads(await party.says())
        if fields["event"] == event:
            return fields


async def test_a_robot_reports_and_a_program_reads():
    async with open_stage() as stage:
        server = await stage.server()
        reader = await stage.start("reader", "client", "reader", "127.0.0.1", server.port, "--json")
        assert await receives(reader, "registered") == {"event": "registered", "waiting": 0}
        (row,) = (await receives(reader, "table"))["rows"]
        assert (row["name"], row["online"], row["host"]) == ("reader", True, "127.0.0.1")

        async def robot(*args, sender="robot"):
            address = f"127.0.0.1:{server.port}"
            party = await stage.start("robot", "send", *args, "--as", sender, "--server", address)
            said, complaints = await party.last_words()
            assert len(said + complaints) == 1
            return party, said + complaints

        party, _ = await robot("reader", "\x1b[2J grün")
        await party.leaves(0)
        message = {"event": "message", "sender": "robot", "text": "\x1b[2J grün"}
        assert await receives(reader, "message") == message

        party, (line,) = await robot("robot", "hi", sender="reader")
        await party.leaves(2)
        assert line.endswith("reader is in use by another program here")
        party, (line,) = await robot("nobody", "hi")
        await party.leaves(2)
        assert line.endswith("no such user: nobody")

        await reader.types("send robot Thanks.")
        delivery = await receives(reader, "delivery")
        assert (delivery["recipient"], delivery["how"]) == ("robot", "saved")
        await reader.types_no_more()
        await receives(reader, "deregistered")
        await reader.leaves(0)

        party, (line,) = await robot("reader", "Come back!")
        await party.leaves(3)
        assert line.endswith("received by the server and saved.]")

        client = await stage.start("robot", "client", "robot", "127.0.0.1", server.port, "--json")
        letter = await receives(client, "letter")
        assert (letter["sender"], letter["text"], letter["sent_at"]) == ("reader", "Thanks.", delivery["sent_at"])
        server.process.kill()
        await server.last_words()
        await client.types("send_all still there?")
        error = await receives(client, "error")
        assert error == {"event": "error", "error": "ServerNotResponding", "text": "the server is not responding"}
        await client.leaves(1)

        gone = await stage.start(
            "robot", "send", "reader", "hi", "--as", "robot", "--server", f"127.0.0.1:{server.port}"
        )
        await gone.sees("[Server not responding]", "[Exiting]")
        await gone.leaves(1)
