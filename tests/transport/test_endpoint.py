"""Requests over datagrams: windows, attempts, resends, parts, repeated answers, and answers that are refused.

Endpoints on the network in memory, in virtual time. Datagrams are sealed only in the last tests.
"""

import os
import secrets
from contextlib import asynccontextmanager, closing
from itertools import pairwise

import pytest
import trio

from tests.network import Conditions
from tests.plain_links import PlainLinks, plain_peer
from trio_chat.crypto.identities import Identity
from trio_chat.link.links import Links
from trio_chat.link.session import Peer
from trio_chat.protocol import parts
from trio_chat.protocol.duplicates import Reaction
from trio_chat.protocol.frames import pack, unpack_untrusted
from trio_chat.protocol.messages import Ack, Deregister, DirectMessage, Heartbeat, Part, PartAck, Refused, Save, Saved
from trio_chat.protocol.records import MAX_PARTS, Reason
from trio_chat.protocol.wire import decode_untrusted, encode
from trio_chat.transport.endpoint import BURST, CATCH_UP, Endpoint
from trio_chat.transport.ids import new_id
from trio_chat.transport.windows import ACK_WINDOW, LINK_STEPS

A, B, C = ("10.0.0.1", 1), ("10.0.0.2", 2), ("10.0.0.3", 3)
TO_A, TO_B, TO_C = map(plain_peer, (A, B, C))
LONG = "αβγ🙂 " * 1000


def heartbeat() -> Heartbeat:
    return Heartbeat(new_id(), 1.0)


class Party:
    """An endpoint, the requests that it got, and `reply`, which returns its answer or a Reaction."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.asked = []
        self.moves = []
        self.reply = lambda request: request.ack()

    def take(self, peer, request):
        self.asked.append(request)
        return self.reply(request)

    def on_link_event(self, event):
        self.moves.append((event.before, event.now))


@asynccontextmanager
async def open_party(network, address):
    with closing(network.bind(*address)) as socket:
        async with trio.open_nursery() as nursery:
            party = Party(Endpoint(socket, PlainLinks()))
            nursery.start_soon(party.endpoint.listen, party.take)
            yield party
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_parties(network):
    async with open_party(network, A) as a, open_party(network, B) as b:
        yield a, b


def sent(network, kind):
    """The messages of this class that were sent, each with its time."""
    return [
        (line.time, message)
        for line in network.log
        for message in map(decode_untrusted, unpack_untrusted(line.data))
        if isinstance(message, kind)
    ]


def times(network, kind):
    return [time for time, _ in sent(network, kind)]


async def test_an_answer_ends_the_window(network, autojump_clock):
    async with open_parties(network) as (a, b):
        request = heartbeat()
        assert await a.endpoint.request(TO_B, request) == request.ack()
        assert trio.current_time() == 0
        assert b.asked == [request]


async def test_five_windows_of_half_a_second(network, autojump_clock):
    async with open_parties(network) as (a, b):
        network.cut(A, B)
        assert await a.endpoint.request(TO_B, heartbeat(), attempts=5) is None
        assert trio.current_time() == pytest.approx(2.5)
        windows = [0, 0.5, 1, 1.5, 2]
        assert times(network, Heartbeat) == pytest.approx([at + late for at in windows for late in (0, 0.1, 0.25)])
        assert b.asked == []


async def test_a_request_is_sent_again_at_100_and_250_ms_inside_the_window(network, autojump_clock):
    async with open_parties(network) as (a, _):
        network.cut(A, B)
        assert await a.endpoint.request(TO_B, heartbeat()) is None
        assert trio.current_time() == pytest.approx(0.5)
        assert times(network, Heartbeat) == pytest.approx([0, 0.1, 0.25])


async def test_an_answer_counts_inside_the_window_and_not_after_it(network, autojump_clock):
    async with open_parties(network) as (a, b):
        network.set(Conditions(delay=(0.49, 0.49)), B, A)
        assert isinstance(await a.endpoint.request(TO_B, Deregister(new_id())), Ack)
        network.set(Conditions(delay=(0.51, 0.51)), B, A)
        assert await a.endpoint.request(TO_B, Deregister(new_id())) is None
        await trio.sleep(1)
        # The one that came in time was sent three times, too: each copy is answered.
        assert a.endpoint.counts.unexpected_answers == 2 + 3
        assert len(b.asked) == 2


async def test_copies_of_a_request_are_answered_but_not_handled_again(network, autojump_clock):
    async with open_parties(network) as (a, b):
        network.filters.append(lambda data, source, _: source == A or len(times(network, Ack)) == 3)
        assert isinstance(await a.endpoint.request(TO_B, Deregister(new_id()), attempts=5), Ack)
        assert len(b.asked) == 1
        assert len(times(network, Ack)) == 3


async def test_of_heartbeats_nothing_is_remembered(network, autojump_clock):
    async with open_parties(network) as (a, b):
        network.filters.append(lambda data, source, _: source == A or len(times(network, Ack)) == 3)
        assert isinstance(await a.endpoint.request(TO_B, heartbeat(), attempts=5), Ack)
        assert len(b.asked) == 3


async def test_copies_of_a_request_in_work_are_ignored(network, autojump_clock, nursery):
    async with open_parties(network) as (a, b):
        b.reply = lambda request: Reaction.IN_PROGRESS

        async def work():
            await trio.sleep(1.2)
            b.endpoint.answer(TO_A, b.asked[0], b.asked[0].saved())

        nursery.start_soon(work)
        answer = await a.endpoint.request(TO_B, Save(new_id(), "x", b"hi"), attempts=5)
        assert isinstance(answer, Saved)
        assert trio.current_time() == pytest.approx(1.2)
        assert len(b.asked) == 1


async def test_a_request_without_an_answer_is_handled_each_time(network, autojump_clock):
    async with open_parties(network) as (a, b):
        b.reply = lambda request: Reaction.SILENCE if len(b.asked) < 3 else request.ack()
        assert isinstance(await a.endpoint.request(TO_B, heartbeat(), attempts=5), Ack)
        assert len(b.asked) == 3


@pytest.mark.parametrize("reason", [None, Reason.NOT_REGISTERED, Reason.TOO_FAST, Reason.FULL])
async def test_answers_that_may_change_are_not_remembered(network, autojump_clock, reason):
    async with open_parties(network) as (a, b):
        request = Save(new_id(), "x", b"hi")
        b.reply = lambda request: request.refused(reason) if reason else request.busy()
        assert not isinstance(await a.endpoint.request(TO_B, request), Ack)
        b.reply = lambda request: request.ack()
        assert isinstance(await a.endpoint.request(TO_B, request), Ack)


@pytest.mark.parametrize("reason", [Reason.CONFLICT, Reason.TAKEN, Reason.UNKNOWN])
async def test_a_final_refusal_is_remembered(network, autojump_clock, reason):
    async with open_parties(network) as (a, b):
        request = Save(new_id(), "x", b"hi")
        b.reply = lambda request: request.refused(reason)
        assert isinstance(await a.endpoint.request(TO_B, request), Refused)
        b.reply = lambda request: request.ack()
        assert isinstance(await a.endpoint.request(TO_B, request), Refused)
        assert len(b.asked) == 1


async def test_forged_answers_settle_nothing(network, autojump_clock):
    async with open_parties(network) as (a, b):
        b.reply = lambda request: Reaction.SILENCE
        request = DirectMessage(new_id(), "x", "y", "hi")

        def forge(data, source, destination):
            if source == A:
                network.inject(encode(Ack(DirectMessage.kind, new_id())), B, A)  # another id
                network.inject(encode(request.ack()), C, A)  # from another address
                network.inject(encode(Ack(Save.kind, request.id)), B, A)  # for another kind of request
                network.inject(encode(PartAck(Save.kind, request.id, 1)), B, A)
            return True

        network.filters.append(forge)
        assert await a.endpoint.request(TO_B, request) is None
        assert a.endpoint.counts.unexpected_answers == 3 * 3, "three for each copy"


async def test_a_long_message_is_sent_in_parts_and_arrives_once(network, autojump_clock):
    async with open_parties(network) as (a, b):
        request = DirectMessage(new_id(), "x", "y", LONG)
        assert isinstance(await a.endpoint.request(TO_B, request), Ack)
        assert b.asked == [request]
        assert trio.current_time() == 0


async def test_only_the_parts_that_are_missing_are_sent_again(network, autojump_clock):
    async with open_parties(network) as (a, b):
        lost = []

        def lose_each_part_once(data, source, destination):
            message = decode_untrusted(unpack_untrusted(data)[0])
            if isinstance(message, Part) and message.index % 3 == 0 and message.index not in lost:
                lost.append(message.index)
                return False
            return True

        network.filters.append(lose_each_part_once)
        request = DirectMessage(new_id(), "x", "y", LONG)
        assert isinstance(await a.endpoint.request(TO_B, request), Ack)
        parts = [part for _, part in sent(network, Part)]
        assert len(parts) == parts[0].count + len(lost)
        assert b.asked == [request]


async def test_parts_are_acknowledged_only_if_there_is_no_answer_yet(network, nursery, autojump_clock):
    async with open_parties(network) as (a, b):
        request = DirectMessage(new_id(), "x", "y", LONG)
        assert isinstance(await a.endpoint.request(TO_B, request), Ack)
        assert len(sent(network, Part)) > 10
        # In memory, each datagram wakes the receiver, which may begin before the others are there.
        assert len(sent(network, PartAck)) <= 1
        b.reply = lambda request: Reaction.IN_PROGRESS
        again = DirectMessage(new_id(), "x", "y", LONG)
        assert isinstance(await a.endpoint.request(TO_B, again), PartAck)
        assert 1 <= len(sent(network, PartAck)) <= 3, "not one for each part"


async def test_one_part_is_enough_to_get_the_lost_answer_to_a_long_message(network, nursery, autojump_clock):
    async with open_parties(network) as (a, b):

        async def answer(request):
            await trio.sleep(0.01)  # in a datagram of its own: the acknowledgements of the parts are not lost with it
            b.endpoint.answer(TO_A, request, request.ack())

        def reply(request):
            nursery.start_soon(answer, request)
            return Reaction.IN_PROGRESS

        b.reply = reply
        network.filters.append(lambda data, source, _: source == A or len(times(network, Ack)) != 1)
        request = DirectMessage(new_id(), "x", "y", LONG)
        assert isinstance(await a.endpoint.request(TO_B, request), Ack)
        assert len(b.asked) == 1
        late = [time for time in times(network, Part) if time > 0]
        assert len(late) == 1


async def test_the_parts_of_a_message_without_an_answer_are_kept(network, autojump_clock):
    async with open_parties(network) as (a, b):
        b.reply = lambda request: Reaction.SILENCE if len(b.asked) < 2 else request.ack()
        request = DirectMessage(new_id(), "x", "y", LONG)
        assert isinstance(await a.endpoint.request(TO_B, request), Ack)
        assert len([time for time in times(network, Part) if time > 0]) == 1


async def test_a_part_ack_without_an_answer_is_returned(network, autojump_clock):
    async with open_parties(network) as (a, b):
        b.reply = lambda request: Reaction.SILENCE
        answer = await a.endpoint.request(TO_B, DirectMessage(new_id(), "x", "y", LONG))
        assert isinstance(answer, PartAck)


async def test_parts_that_are_not_a_message_are_dropped(network, autojump_clock):
    async with open_parties(network) as (_, b):
        id_ = new_id()
        for index, body in enumerate([b"\xff" * 1000, b"\xff"]):
            network.inject(encode(Part(DirectMessage.kind, id_, index, 2, body)), A, B)
        other = encode(Heartbeat(new_id(), 1.0))  # a message, but not the one that the parts name
        network.inject(encode(Part(DirectMessage.kind, id_, 0, 2, other[:5])), A, B)
        network.inject(encode(Part(DirectMessage.kind, id_, 1, 2, other[5:])), A, B)
        await trio.sleep(1)
        assert b.asked == []
        assert b.endpoint.counts.not_a_message == 2


async def test_a_peer_that_acknowledges_parts_is_waited_for_and_not_for_ever(network, autojump_clock):
    """Each acknowledgement begins the windows again. Somebody who sends nothing else holds up one request."""
    async with open_parties(network) as (a, _):
        network.cut(A, B, both=False)
        request = Save(new_id(), "x", LONG.encode())

        async def acknowledge():
            while True:
                network.inject(encode(PartAck(Save.kind, request.id, 1)), B, A)
                await trio.sleep(0.4)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(acknowledge)
            assert isinstance(await a.endpoint.request(TO_B, request), PartAck)
            nursery.cancel_scope.cancel()
        assert 5 < trio.current_time() < (1 + LINK_STEPS + MAX_PARTS) * ACK_WINDOW


async def test_long_messages_survive_a_bad_network(network, autojump_clock):
    network.default = Conditions(loss=0.3, duplicate=0.2, delay=(0.0, 0.08))
    async with open_parties(network) as (a, b):
        requests = [Save(new_id(), "x", f"{n}{LONG}".encode()) for n in range(20)]
        for request in requests:
            assert isinstance(await a.endpoint.request(TO_B, request, attempts=5), Ack)
        assert b.asked == requests, "each one once, unchanged"


async def test_a_fan_out_waits_one_window_and_reports_each_answer(network, autojump_clock):
    async with open_parties(network) as (a, _), open_party(network, C) as c:
        c.reply = lambda request: Reaction.SILENCE
        answered = []
        probe = heartbeat()
        await a.endpoint.fan_out(
            {TO_B: probe, TO_C: probe}, lambda peer, answer: answered.append((peer, trio.current_time()))
        )
        assert answered == [(TO_B, 0)]
        assert trio.current_time() == pytest.approx(0.5)
        assert len(c.asked) == 3


async def test_a_fan_out_ends_with_the_last_answer_and_an_empty_one_at_once(network, autojump_clock):
    async with open_parties(network) as (a, _), open_party(network, C):
        await a.endpoint.fan_out({}, lambda *_: None)
        await a.endpoint.fan_out({TO_B: heartbeat(), TO_C: heartbeat()}, lambda *_: None)
        assert trio.current_time() == 0


async def test_the_answers_of_a_fan_out_are_handled_before_later_datagrams_of_the_peer(network, autojump_clock):
    async with open_parties(network) as (a, b), open_party(network, C):
        handled = []
        a.reply = lambda request: handled.append(request) or request.ack()
        later = heartbeat()

        def ask_at_once(request):
            # It arrives in the same batch as the answer, before any task of a runs.
            trio.lowlevel.current_trio_token().run_sync_soon(network.inject, encode(later), B, A)
            return request.ack()

        b.reply = ask_at_once
        await a.endpoint.fan_out(
            {TO_B: heartbeat(), TO_C: heartbeat()}, lambda peer, answer: handled.append((peer, type(answer)))
        )
        await trio.sleep(1)
        assert [(TO_B, Ack), later] == [one for one in handled if one != (TO_C, Ack)]
        assert (TO_C, Ack) in handled


async def test_a_request_to_many_is_encoded_once(network, autojump_clock, monkeypatch):
    async with open_parties(network) as (a, b), open_party(network, C) as c:
        encoded = []

        def count(message):
            encoded.append(message)
            return encode(message)

        monkeypatch.setattr(parts, "encode", count)
        probe, other = heartbeat(), heartbeat()
        to_d = plain_peer(("10.0.0.4", 4))
        await a.endpoint.fan_out({TO_B: probe, TO_C: probe, to_d: other}, lambda *_: None)
        assert [one for one in encoded if isinstance(one, Heartbeat)] == [probe, other]
        assert b.asked == c.asked == [probe]


async def test_equal_requests_of_a_fan_out_are_answered_apart(network, autojump_clock):
    async with open_parties(network) as (a, b), open_party(network, C) as c:
        probe = heartbeat()
        b.reply, c.reply = (lambda request: request.ack()), (lambda request: request.busy())
        answers = {}
        await a.endpoint.fan_out({TO_B: probe, TO_C: probe}, answers.__setitem__)
        assert answers == {TO_B: probe.ack(), TO_C: probe.busy()}


async def test_a_long_request_to_many_goes_in_parts_of_which_each_peer_gets_those_that_it_lacks(
    network, autojump_clock
):
    async with open_parties(network) as (a, b), open_party(network, C) as c:
        request = Save(new_id(), "x", LONG.encode())
        lost = []

        def lose_one_part_to_c(data, source, destination):
            is_first = destination == C and not lost
            lost.extend([data] * is_first)
            return not is_first

        network.filters.append(lose_one_part_to_c)
        answers = {}
        await a.endpoint.fan_out({TO_B: request, TO_C: request}, answers.__setitem__)
        assert answers == {TO_B: request.ack(), TO_C: request.ack()}
        assert b.asked == c.asked == [request]
        assert [line.destination for line in network.log if line.time > 0 and line.source == A] == [C]
        assert trio.current_time() == pytest.approx(0.1)


async def test_abandoning_the_last_silent_peer_ends_a_fan_out(network, autojump_clock, nursery):
    async with open_parties(network) as (a, b), open_party(network, C) as c:
        b.reply = c.reply = lambda request: Reaction.SILENCE
        answered, ended_at = [], []

        async def fan_out():
            await a.endpoint.fan_out({TO_B: heartbeat(), TO_C: heartbeat()}, lambda *it: answered.append(it))
            ended_at.append(trio.current_time())

        nursery.start_soon(fan_out)
        await trio.sleep(0.2)
        a.endpoint.abandon(TO_B)
        await trio.sleep(0.05)
        assert ended_at == [], "c may still answer"
        a.endpoint.abandon(TO_C)
        await trio.sleep(1)
        assert ended_at == [pytest.approx(0.25)]
        assert answered == [], "as if they had stayed silent"
        b.endpoint.answer(TO_A, b.asked[0], b.asked[0].ack())
        await trio.sleep(1)
        assert answered == []
        assert a.endpoint.counts.unexpected_answers == 1


async def test_a_cancelled_fan_out_leaves_nothing_behind(network, autojump_clock):
    async with open_parties(network) as (a, _), open_party(network, C) as c:
        c.reply = lambda request: Reaction.IN_PROGRESS
        with trio.move_on_after(0.2):
            await a.endpoint.fan_out({TO_B: heartbeat(), TO_C: heartbeat()}, lambda *_: None)
        c.endpoint.answer(TO_A, c.asked[0], c.asked[0].ack())
        await trio.sleep(1)
        assert a.endpoint.counts.unexpected_answers == 1


async def test_a_large_fan_out_lets_others_run(network, autojump_clock, nursery):
    async with open_parties(network) as (a, _):
        turns = []

        async def count_turns():
            while len(network.log) < 1024:
                turns.append(len(network.log))
                await trio.lowlevel.checkpoint()

        nursery.start_soon(count_turns)
        await trio.lowlevel.checkpoint()
        with trio.move_on_after(0.05):
            await a.endpoint.fan_out(
                {plain_peer(("10.9.0.1", port)): heartbeat() for port in range(1, 1025)}, lambda *_: None
            )
        gaps = [after - before for before, after in pairwise([*turns, 1024])]
        assert max(gaps) <= 512, "other tasks run after each burst of 256"


class BusySocket:
    """A socket with junk of unknown senders in its buffer: it returns so many datagrams, one batch in each turn."""

    def __init__(self, *sizes):
        self._sizes = iter(sizes)

    async def receive_batch(self):
        await trio.lowlevel.checkpoint()
        size = next(self._sizes, 0)
        if not size:
            await trio.sleep_forever()
        return [(b"junk", B)] * size


async def open_busy_endpoint(nursery, *sizes):
    """An endpoint that has read the first of these batches."""
    endpoint = Endpoint(BusySocket(*sizes), PlainLinks())
    nursery.start_soon(endpoint.listen, lambda peer, request: Reaction.SILENCE)
    while not endpoint.counts.not_a_message:
        await trio.lowlevel.checkpoint()
    return endpoint


async def test_catching_up_reads_what_has_arrived(autojump_clock, nursery):
    endpoint = await open_busy_endpoint(nursery, *[BURST] * 5, 3)
    await endpoint.catch_up()
    assert endpoint.counts.not_a_message == 5 * BURST + 3


async def test_catching_up_ends_in_a_flood(autojump_clock, nursery):
    endpoint = await open_busy_endpoint(nursery, *[BURST] * 100)
    await endpoint.catch_up()
    assert CATCH_UP <= endpoint.counts.not_a_message / BURST <= CATCH_UP + 3


class LateSocket(BusySocket):
    """The same; each batch is handled for 0.2 s."""

    async def receive_batch(self):
        await trio.sleep(0.2)
        return await super().receive_batch()


async def test_an_endpoint_that_is_behind_says_so_to_its_links_until_it_has_caught_up_for_a_while(
    autojump_clock, nursery
):
    links = PlainLinks()
    endpoint = Endpoint(LateSocket(*[BURST] * 5, *[1] * 100), links)
    nursery.start_soon(endpoint.listen, lambda peer, request: Reaction.SILENCE)
    seen = []
    for _ in range(40):
        await trio.sleep(0.2)
        await trio.testing.wait_all_tasks_blocked()
        seen.append(links.is_behind)
    assert seen[:2] == [False, False], "a burst"
    assert seen[5:25] == [True] * 20
    assert seen[32:] == [False] * 8


async def test_catching_up_with_nothing_takes_one_turn(autojump_clock, nursery):
    endpoint = await open_busy_endpoint(nursery, 1, *[1] * 100)
    before = endpoint.counts.not_a_message
    await endpoint.catch_up()
    assert endpoint.counts.not_a_message - before <= 2


async def test_abandoned_requests_end_at_once_without_an_answer(network, autojump_clock, nursery):
    async with open_parties(network) as (a, b):
        b.reply = lambda request: Reaction.SILENCE
        answers = []

        async def ask():
            answers.append(await a.endpoint.request(TO_B, heartbeat(), attempts=5))

        nursery.start_soon(ask)
        await trio.sleep(0.7)
        a.endpoint.abandon(TO_C)
        await trio.sleep(0.1)
        assert answers == []
        a.endpoint.abandon(TO_B)
        await trio.sleep(0.1)
        assert answers == [None]
        assert trio.current_time() == pytest.approx(0.9)


async def test_a_cancelled_request_leaves_nothing_behind(network, autojump_clock):
    async with open_parties(network) as (a, b):
        b.reply = lambda request: Reaction.IN_PROGRESS
        with trio.move_on_after(0.2):
            await a.endpoint.request(TO_B, heartbeat(), attempts=5)
        b.endpoint.answer(TO_A, b.asked[0], b.asked[0].ack())
        await trio.sleep(1)
        assert a.endpoint.counts.unexpected_answers == 1


# --- sealed ---

ALICE, BOB = Identity(b"a" * 32, b"A" * 32), Identity(b"b" * 32, b"B" * 32)


@asynccontextmanager
async def open_sealed_party(network, address, identity):
    with closing(network.bind(*address)) as socket:
        async with trio.open_nursery() as nursery:
            party = Party(Endpoint(socket, Links(identity.link, secrets.token_bytes)))
            nursery.start_soon(party.endpoint.listen, party.take, party.on_link_event)
            yield party
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_sealed_parties(network):
    """Two parties with a session, and the peer that each is for the other."""
    async with open_sealed_party(network, A, ALICE) as a, open_sealed_party(network, B, BOB) as b:
        to_a, to_b = Peer(A, ALICE.public.link), Peer(B, BOB.public.link)
        assert isinstance(await a.endpoint.request(to_b, heartbeat()), Ack)
        b.asked.clear()
        yield a, b, to_a, to_b


async def test_the_first_request_to_a_peer_starts_a_session_at_once(network, autojump_clock):
    async with open_sealed_parties(network):
        assert trio.current_time() == 0


async def test_a_request_follows_a_peer_that_moves(network, autojump_clock, nursery):
    async with open_sealed_parties(network) as (a, b, to_a, to_b):
        network.translate(B, C)
        request, answers = heartbeat(), []

        async def ask():
            answers.append(await a.endpoint.request(to_b, request, attempts=5))

        nursery.start_soon(ask)
        await trio.sleep(0.1)
        assert b.asked == [], "it was sent to the old address of b"
        assert isinstance(await b.endpoint.request(to_a, heartbeat()), Ack)
        await trio.sleep(0.5)
        assert a.moves == [(to_b, Peer(C, BOB.public.link))]
        assert answers == [request.ack()]
        assert trio.current_time() < 0.8
        nursery.cancel_scope.cancel()


async def test_a_request_gets_the_same_answer_after_a_move(network, autojump_clock):
    async with open_sealed_parties(network) as (a, b, to_a, _):
        request = Deregister(new_id())
        assert isinstance(await b.endpoint.request(to_a, request), Ack)
        network.translate(B, C)
        for _ in range(2):
            assert isinstance(await b.endpoint.request(to_a, request), Ack)
        assert len(a.moves) == 1
        assert a.asked == [request]


# --- ids ---


def test_ids_are_never_repeated():
    assert len({new_id() for _ in range(10_000)}) == 10_000


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of Python 3.12, if there are threads
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_copy_of_the_process_makes_other_ids():
    new_id()  # there are random bytes for more
    read, write = os.pipe()
    if os.fork() == 0:  # pragma: no cover
        os.write(write, b"".join(new_id() for _ in range(256)))
        os._exit(0)
    os.wait()
    with open(read, "rb") as pipe:
        theirs = pipe.read(256 * 16)
    os.close(write)
    own = {new_id() for _ in range(256)}
    assert own.isdisjoint(theirs[at : at + 16] for at in range(0, len(theirs), 16))


# --- several messages in a datagram ---


async def ask(a, count, to=TO_B):
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(a.endpoint.request, to, heartbeat())


async def test_what_tasks_send_in_the_same_turn_goes_together_and_so_do_the_answers(network, autojump_clock):
    async with open_parties(network) as (a, b):
        await ask(a, 20)
        assert len(b.asked) == 20
        assert len(sent(network, Heartbeat)) == len(sent(network, Ack)) == 20
        there, back = [[line for line in network.log if line.source == source] for source in (A, B)]
        # The first one does not wait for others: whether there will be any is not known yet.
        assert len(there) == 2
        assert len(back) <= 2
        assert trio.current_time() == 0


async def test_a_lone_request_and_its_answer_are_bare_messages(network, autojump_clock):
    async with open_parties(network) as (a, _b):
        request = heartbeat()
        await a.endpoint.request(TO_B, request)
        assert [line.data for line in network.log] == [encode(request), encode(request.ack())]


async def test_messages_for_several_peers_never_share_a_datagram(network, autojump_clock):
    async with open_parties(network) as (a, b), open_party(network, C) as c, trio.open_nursery() as nursery:
        nursery.start_soon(ask, a, 5, TO_B)
        nursery.start_soon(ask, a, 5, TO_C)
        await trio.sleep(1)
        assert (len(b.asked), len(c.asked)) == (5, 5)


async def test_a_message_that_cannot_be_read_does_not_cost_the_others_of_its_datagram(network, autojump_clock):
    async with open_parties(network) as (_a, b):
        one, two = heartbeat(), heartbeat()
        network.inject(pack([encode(one), b"\x7f of a later version", encode(two)])[0], A, B)
        await trio.sleep(0.1)
        assert b.asked == [one, two]
        assert b.endpoint.counts.not_a_message == 1
        assert len(sent(network, Ack)) == 2


async def test_a_bundle_that_does_not_fit_together_is_dropped_as_a_whole(network, autojump_clock):
    async with open_parties(network) as (_a, b):
        whole = pack([encode(heartbeat()), encode(heartbeat())])[0]
        network.inject(whole[:-1], A, B)
        network.inject(whole + b"\0", A, B)
        await trio.sleep(0.1)
        assert b.asked == []
        assert b.endpoint.counts.not_a_message == 2


async def test_a_request_never_overtakes_what_was_answered_before_it(network, autojump_clock):
    async with open_parties(network) as (_a, b):
        b.reply = lambda request: Reaction.IN_PROGRESS
        request = heartbeat()
        network.inject(encode(request), A, B)
        await trio.sleep(0.1)
        b.endpoint.answer(TO_A, request, request.ack())
        await b.endpoint.request(TO_A, later := heartbeat())
        (line,) = [line for line in network.log if line.source == B]
        assert [decode_untrusted(data) for data in unpack_untrusted(line.data)] == [request.ack(), later]


async def test_many_copies_of_a_request_in_one_datagram_get_one_answer(network, autojump_clock):
    async with open_parties(network) as (_, b):
        request = encode(Deregister(new_id()))
        network.inject(pack([request] * 60)[0], A, B)
        await trio.sleep(0.1)
        assert len(b.asked) == len(sent(network, Ack)) == 1
        network.inject(pack([request] * 60)[0], A, B)
        await trio.sleep(0.1)
        assert len(b.asked) == 1
        assert len(sent(network, Ack)) == 2


async def test_full_bundles_of_one_peer_do_not_keep_other_tasks_waiting(network, nursery, autojump_clock):
    turns = []

    async def count_turns(party):
        while True:
            turns.append(len(party.asked))
            await trio.lowlevel.checkpoint()

    async with open_parties(network) as (_, b), trio.open_nursery() as inner:
        for _ in range(100):
            network.inject(pack([encode(heartbeat()) for _ in range(28)])[0], A, B)
        inner.start_soon(count_turns, b)
        with trio.fail_after(60):
            while len(b.asked) < 2800:
                await trio.lowlevel.checkpoint()
        inner.cancel_scope.cancel()
    # Two turns of the reader may lie between two of the other task.
    assert max(now - before for before, now in pairwise(turns)) <= 2 * (BURST + 2 * 28)
