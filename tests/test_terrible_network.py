"""Twenty people on a network that loses 30 percent for five minutes: each message arrives once, with its receipt.

Virtual time (tests/stage.py) and one seed for the network and the people. More faults are in tests/simulation/.
"""

import random
from itertools import pairwise

from tests.network import Conditions, open_memory_network
from tests.stage import open_stage
from trio_chat.client.events import GroupMessageReceived, LetterReceived, MessageReceived, ReceiptReceived
from trio_chat.errors import ServerNotResponding

MINUTES = 5
HEARTBEAT, HEARTBEAT_RETRY_DELAY = 20.0, 5.0


async def test_twenty_people_on_a_network_that_loses_30_percent(autojump_clock):
    dice = random.Random(1)
    async with open_memory_network(1) as network, open_stage(network) as stage:
        people = [await stage.enter(f"user{n}") for n in range(20)]
        network.default = Conditions(loss=0.3, duplicate=0.05, delay=(0.0, 0.05))
        changes_before = len(stage.changes)
        ways: dict[str, str] = {}
        posts = []
        for minute in range(MINUTES):
            for turn in range(6):
                sender, recipient = dice.sample(people, 2)
                text = f"{minute}:{turn} {sender.chat.name} -> {recipient.chat.name}"
                try:
                    ways[text] = (await sender.chat.send(recipient.chat.name, text)).how
                except ServerNotResponding:
                    ways[text] = "unknown"
                await stage.pass_time(dice.uniform(0, 16))
            poster = dice.choice(people)
            try:
                await poster.chat.send_all(f"{minute} to all")
                posts.append((poster, f"{minute} to all"))
            except ServerNotResponding:
                pass
        changes_after = len(stage.changes)
        network.default = Conditions()
        await stage.pass_time(60)

        assert_nobody_was_offline_for_longer_than_a_heartbeat_and_two_retries(stage)
        assert changes_after - changes_before < 20, "few table changes"
        assert {person.chat.table.version for person in people} == {people[0].chat.table.version}
        assert all(record.online for record in people[0].chat.table.values())
        everything = [
            (person.chat.name, event)
            for person in people
            for event in person.received
            if isinstance(event, MessageReceived | LetterReceived)
        ]
        direct = [(name, event.text) for name, event in everything if " -> " in event.text]
        for text, way in ways.items():
            copies = [name for name, received in direct if received == text]
            assert copies == [text.split()[-1]] or (way == "unknown" and not copies)
        for poster, text in posts:
            got = [p for p in people for event in p.received if getattr(event, "text", "") == text]
            assert sorted(p.chat.name for p in got) == sorted(p.chat.name for p in people if p is not poster)
        assert_one_receipt_for_each_saved_message(people, ways)
        assert any(isinstance(event, GroupMessageReceived) for event in people[0].received)


def assert_nobody_was_offline_for_longer_than_a_heartbeat_and_two_retries(stage):
    for name in {record.name for record in stage.changes}:
        records = [record for record in stage.changes if record.name == name]
        assert records[-1].online
        for gone, back in pairwise(records):
            if not gone.online:
                assert back.since - gone.since <= HEARTBEAT + 2 * HEARTBEAT_RETRY_DELAY + 3


def assert_one_receipt_for_each_saved_message(people, ways):
    receipts = sum(isinstance(event, ReceiptReceived) for person in people for event in person.received)
    saved = sum(way == "saved" for way in ways.values())
    unknown = sum(way == "unknown" for way in ways.values())
    assert saved <= receipts <= saved + unknown
