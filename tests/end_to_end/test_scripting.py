"""Programs that chat: a client that prints JSON, and `send` with its exit codes.

Real processes; each wait has a deadline.
"""

import json

import pytest

from tests.end_to_end.processes import open_programs

pytestmark = pytest.mark.xdist_group("programs")  # one after the other, at the same time as the scripts


async def receives(program, event):
    """The next JSON object of that event; others before it are skipped."""
    while True:
        fields = json.loads(await program.next_line())
        if fields["event"] == event:
            return fields


async def test_a_robot_reports_and_a_program_reads():
    async with open_programs() as programs:
        server = await programs.server()
        reader = await programs.start("reader", "client", "reader", "127.0.0.1", server.port, "--json")
        assert await receives(reader, "registered") == {"event": "registered", "waiting": 0}
        (row,) = (await receives(reader, "table"))["rows"]
        assert (row["name"], row["online"], row["host"]) == ("reader", True, "127.0.0.1")

        async def robot(*args, sender="robot"):
            address = f"127.0.0.1:{server.port}"
            program = await programs.start("robot", "send", *args, "--as", sender, "--server", address)
            output, complaints = await program.rest()
            assert len(output + complaints) == 1
            return program, output + complaints

        program, _ = await robot("reader", "\x1b[2J grün")
        await program.exits(0)
        message = {"event": "message", "sender": "robot", "text": "\x1b[2J grün", "signed_at": None}
        assert await receives(reader, "message") == message

        program, (line,) = await robot("robot", "hi", sender="reader")
        await program.exits(2)
        assert line.endswith("reader is in use by another program here: write there, or end it first")
        program, (line,) = await robot("nobody", "hi")
        await program.exits(2)
        assert line.endswith("no such user: nobody")

        await reader.types("send robot Thanks.")
        delivery = await receives(reader, "delivery")
        assert (delivery["recipient"], delivery["how"]) == ("robot", "saved")
        await reader.ends_input()
        await receives(reader, "deregistered")
        await reader.exits(0)

        program, (line,) = await robot("reader", "Come back!")
        await program.exits(3)
        assert line.endswith("received by the server and saved.]")

        client = await programs.start("robot", "client", "robot", "127.0.0.1", server.port, "--json")
        letter = await receives(client, "letter")
        assert (letter["sender"], letter["text"], letter["signed_at"]) == ("reader", "Thanks.", None)
        # When the server took it; the sender's time, a moment before, names it in their receipt.
        assert delivery["sent_at"] <= letter["sent_at"] < delivery["sent_at"] + 60
        server.process.kill()
        await server.rest()
        await client.types("send_all still there?")
        error = await receives(client, "error")
        assert error == {"event": "error", "error": "ServerNotResponding", "text": "the server is not responding"}
        await client.exits(1)

        gone = await programs.start(
            "robot", "send", "reader", "hi", "--as", "robot", "--server", f"127.0.0.1:{server.port}"
        )
        await gone.sees("[Server not responding]", "[Exiting]")
        await gone.exits(1)


async def test_programs_meet_in_a_room():
    async with open_programs() as programs:
        server = await programs.server()

        async def start(name):
            program = await programs.start(name, "client", name, "127.0.0.1", server.port, "--json")
            return program, await receives(program, "registered")

        robot, _ = await start("robot")
        await robot.types("create_group Builds")
        assert await receives(robot, "room_created") == {"event": "room_created", "room": "Builds", "private": False}
        reader, _ = await start("reader")
        await reader.types("join_group builds")
        assert await receives(reader, "room_joined") == {"event": "room_joined", "room": "Builds"}
        assert await receives(robot, "member_joined") == {"event": "member_joined", "room": "Builds", "name": "reader"}

        await robot.types("send_group one")
        assert await receives(robot, "posted") == {"event": "posted", "room": "Builds"}
        post = await receives(reader, "group_message")
        assert (post["sender"], post["text"], post["room"]) == ("robot", "one", "Builds")
        await reader.ends_input()
        await reader.rest()
        await robot.types("send_group two")
        await receives(robot, "posted")

        reader, registered = await start("reader")
        assert registered["waiting"] == 1
        letter = await receives(reader, "letter")
        assert (letter["sender"], letter["text"], letter["group"], letter["room"]) == ("robot", "two", True, "Builds")
        await reader.types("list_groups")
        rooms = [
            {"name": "Builds", "members": 2, "joined": True, "private": False},
            {"name": "everyone", "members": None, "joined": True, "private": False},
        ]
        assert (await receives(reader, "rooms"))["rooms"] == rooms
        await reader.types("history #builds")
        assert [(one["text"], one["room"]) for one in (await receives(reader, "history"))["entries"]] == [
            ("one", "Builds"),
            ("two", "Builds"),
        ]
        await reader.types("leave_group")
        assert await receives(reader, "room_left") == {"event": "room_left", "room": "Builds", "current": ""}
        assert await receives(robot, "member_left") == {
            "event": "member_left",
            "room": "Builds",
            "name": "reader",
            "private": False,
        }
        await reader.types("send_group three")
        assert (await receives(reader, "error"))["error"] == "InNoGroup"
        await reader.types("leave_group builds")
        assert (await receives(reader, "error"))["error"] == "NotAMember"
        for program in (reader, robot):
            await program.ends_input()
            await program.rest()
            await program.exits(0)
