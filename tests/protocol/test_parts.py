"""The memory of requests and answers, and long messages in parts under any loss, order and duplication.

Pure functions; loss and order are drawn from the seeds of hypothesis.
"""

import math
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trio_chat.protocol.duplicates import DuplicateMemory, Seen
from trio_chat.protocol.messages import Part, PartAck, Save
from trio_chat.protocol.parts import Assembly, OutgoingRequest
from trio_chat.protocol.records import MAX_PARTS
from trio_chat.protocol.wire import MAX_PLAINTEXT, decode_untrusted

ID = bytes(range(16))
LONGEST = MAX_PARTS * 1100

fast = settings(suppress_health_check=[HealthCheck.too_slow])


def in_parts(data: bytes, id: bytes = ID) -> list[Part]:
    return [decode_untrusted(datagram) for datagram in OutgoingRequest(Save.kind, id, data).datagrams]


def sizes() -> st.SearchStrategy[int]:
    return st.integers(MAX_PLAINTEXT + 1, LONGEST) | st.sampled_from([1169, 1100 * 2, 1100 * 2 + 1, LONGEST])


def bitmap(indexes) -> int:
    return sum(1 << index for index in indexes)


# --- the memory of requests and answers ---


def test_a_request_is_new_then_in_work_then_answered():
    memory = DuplicateMemory()
    assert memory.recall("a") is Seen.NEW
    memory.begin("a")
    assert memory.recall("a") is Seen.IN_PROGRESS
    memory.settle("a", b"answer")
    assert memory.recall("a") == b"answer"
    assert memory.recall("b") is Seen.NEW, "other keys are not affected"


def test_a_request_that_was_not_handled_is_new_again():
    memory = DuplicateMemory()
    memory.begin("a")
    memory.forget("a")
    assert memory.recall("a") is Seen.NEW
    memory.forget("unknown")
    assert len(memory) == 0


def test_the_oldest_is_forgotten_first():
    memory = DuplicateMemory(limit=3)
    for key in "abc":
        memory.begin(key)
        memory.settle(key, key.encode())
    memory.begin("d")
    assert [memory.recall(key) for key in "abcd"] == [Seen.NEW, b"b", b"c", Seen.IN_PROGRESS]
    assert len(memory) == 3


def test_an_answer_to_a_forgotten_request_is_not_stored():
    memory = DuplicateMemory(limit=2)
    for key in "abc":
        memory.begin(key)
    memory.settle("a", b"late")
    assert memory.recall("a") is Seen.NEW
    assert len(memory) == 2


REQUESTS = [(sender, number) for sender in "ab" for number in range(5)]


@given(st.lists(st.tuples(st.sampled_from(["begin", "settle", "forget"]), st.sampled_from(REQUESTS))))
@settings(fast)
def test_the_memory_never_exceeds_its_limit_and_never_invents_an_answer(steps):
    memory = DuplicateMemory(limit=4)
    for step, key in steps:
        match step:
            case "begin" if memory.recall(key) is Seen.NEW:
                memory.begin(key)
                assert memory.recall(key) is Seen.IN_PROGRESS
            case "settle":
                memory.settle(key, repr(key).encode())
            case "forget":
                memory.forget(key)
        assert len(memory) <= 4
        assert all(memory.recall(key) in (Seen.NEW, Seen.IN_PROGRESS, repr(key).encode()) for key in REQUESTS)


def test_nobody_has_the_requests_of_others_forgotten():
    memory = DuplicateMemory(limit=100)
    for n in range(100):
        memory.begin(("mallory", n))
    memory.begin(("alice", "register"))
    memory.settle(("alice", "register"), b"registered")
    for n in range(100, 1000):
        memory.begin(("mallory", n))
    assert memory.recall(("alice", "register")) == b"registered"
    memory.begin(("bob", 1))
    assert memory.recall(("bob", 1)) is Seen.IN_PROGRESS
    assert len(memory) == 100
    assert [memory.recall(("mallory", n)) for n in (0, 999)] == [Seen.NEW, Seen.IN_PROGRESS], "the oldest first"


# --- sending parts ---


@pytest.mark.parametrize("size", [1, MAX_PLAINTEXT])
def test_a_short_message_is_sent_in_one_datagram(size):
    data = bytes(size)
    outgoing = OutgoingRequest(Save.kind, ID, data)
    assert outgoing.missing(0) == [data]
    outgoing.acknowledge(1, 0)
    assert outgoing.missing(0) == [data], "until it is answered"
    assert outgoing.missing(0, is_due=False) == []


@given(sizes())
@settings(fast, max_examples=50)
def test_a_longer_message_is_split_into_parts_that_fit(size):
    data = random.Random(size).randbytes(size)
    datagrams = OutgoingRequest(Save.kind, ID, data).datagrams
    parts = [decode_untrusted(datagram) for datagram in datagrams]
    assert all(len(datagram) <= MAX_PLAINTEXT for datagram in datagrams)
    assert {(part.of, part.id, part.count) for part in parts} == {(Save.kind, ID, len(parts))}
    assert [part.index for part in parts] == list(range(len(parts)))
    assert b"".join(part.body for part in parts) == data


def test_too_long_a_message_is_refused():
    OutgoingRequest(Save.kind, ID, bytes(LONGEST))
    with pytest.raises(ValueError, match="too long"):
        OutgoingRequest(Save.kind, ID, bytes(LONGEST + 1))


def of_parts(count: int) -> tuple[OutgoingRequest, list[bytes]]:
    """A request of so many parts, and these."""
    outgoing = OutgoingRequest(Save.kind, ID, bytes(count * 1100))
    return outgoing, [*outgoing.datagrams]


def test_only_missing_parts_are_sent_again():
    outgoing, parts = of_parts(5)
    assert outgoing.missing(0) == parts
    outgoing.acknowledge(bitmap([0, 2, 3]), 0.01)
    assert outgoing.missing(0.01, is_due=False) == [], "they may be on their way"
    assert outgoing.missing(0.1) == [parts[1], parts[4]]
    outgoing.acknowledge(bitmap([0, 1, 2, 3]), 0.11)
    assert outgoing.missing(0.15) == []
    assert outgoing.missing(0.2) == [parts[4]]


def test_when_all_parts_are_held_the_last_one_asks_for_the_answer():
    outgoing, parts = of_parts(5)
    outgoing.missing(0)
    outgoing.acknowledge(bitmap(range(5)), 0.01)
    assert outgoing.missing(0.01, is_due=False) == []
    assert outgoing.missing(0.1) == [parts[4]]


def test_a_receiver_that_had_to_forget_gets_the_parts_again():
    outgoing, parts = of_parts(5)
    outgoing.missing(0)
    outgoing.acknowledge(bitmap(range(5)), 0.01)
    outgoing.acknowledge(bitmap([4]), 0.02)
    assert outgoing.missing(0.02, is_due=False) == parts[:4]


def test_ten_parts_are_sent_at_once_and_two_more_for_each_that_arrives():
    outgoing, parts = of_parts(20)
    assert outgoing.missing(0) == parts[:10]
    outgoing.acknowledge(bitmap([0]), 0.001)
    assert outgoing.missing(0.001, is_due=False) == parts[10:12]
    outgoing.acknowledge(bitmap(range(4)), 0.002)
    assert outgoing.missing(0.002, is_due=False) == parts[12:18]


def test_until_something_arrives_one_part_at_a_time_finds_out_whether_all_are_lost():
    outgoing, parts = of_parts(20)
    outgoing.missing(0)
    assert outgoing.missing(0.1) == [parts[0]]
    assert outgoing.missing(0.25) == [parts[1]]
    outgoing.forget_sent()
    assert outgoing.missing(0.3) == parts[:10], "to another session of the receiver"


@pytest.mark.parametrize("seconds", [0.03, 0.15, 0.6])
def test_on_a_slow_line_hardly_anything_is_sent_twice(seconds):
    """Each part takes so long, and waits for those before it."""
    outgoing, parts = of_parts(15)
    line, sent, held, now = [], 0, 0, 0.0
    timers = [0.0, 0.1, 0.25, *(0.5 * n for n in range(1, 40))]
    while held.bit_count() < 15:
        arrives = line[0][0] if line else math.inf
        now, is_due = (timers.pop(0), True) if timers[0] <= arrives else (arrives, False)
        if not is_due:
            held |= 1 << parts.index(line.pop(0)[1])
            outgoing.acknowledge(held, now)
        for part in outgoing.missing(now, is_due=is_due):
            line.append(((line[-1][0] if line else now) + seconds, part))
            sent += 1
    assert sent <= 15 + 4


def test_what_is_lost_is_sent_again_with_fewer_on_their_way():
    outgoing, parts = of_parts(20)
    outgoing.missing(0)
    outgoing.acknowledge(bitmap([0]), 0.001)
    outgoing.missing(0.001, is_due=False)
    assert outgoing.missing(0.1) == parts[1:6], "11 were on their way"
    assert outgoing.missing(0.2) == parts[1:3]
    assert outgoing.missing(0.3) == parts[1:3]


# --- receiving parts ---


def test_each_part_is_acknowledged_with_all_that_are_held():
    parts = in_parts(bytes(range(250)) * 16)
    assembly = Assembly()
    assert assembly.add("a", parts[2]) == (PartAck(Save.kind, ID, 0b0100), None)
    assert assembly.add("a", parts[0]) == (PartAck(Save.kind, ID, 0b0101), None)
    assert assembly.add("a", parts[0]) == (PartAck(Save.kind, ID, 0b0101), None), "a duplicate changes nothing"
    assert assembly.add("a", parts[3]) == (PartAck(Save.kind, ID, 0b1101), None)
    assert assembly.add("a", parts[1]) == (PartAck(Save.kind, ID, 0b1111), bytes(range(250)) * 16)


def test_each_copy_of_a_part_completes_the_message_again_until_it_is_dropped():
    parts = in_parts(bytes(4000))
    assembly = Assembly()
    for part in parts:
        assembly.add("a", part)
    assert assembly.add("a", parts[1])[1] == bytes(4000)
    assert assembly.add("a", parts[3])[1] == bytes(4000)
    assembly.drop("a")
    assert len(assembly) == 0
    assert assembly.add("a", parts[1]) == (PartAck(Save.kind, ID, 0b0010), None), "from the beginning again"


def test_messages_of_different_senders_do_not_mix():
    ours, theirs = in_parts(b"o" * 2000), in_parts(b"t" * 2000)
    assembly = Assembly()
    assembly.add("us", ours[0])
    assert assembly.add("them", theirs[1]) == (PartAck(Save.kind, ID, 0b10), None)
    assert assembly.add("us", ours[1])[1] == b"o" * 2000
    assembly.drop("us")
    assert assembly.add("them", theirs[0])[1] == b"t" * 2000


def test_parts_of_a_different_split_replace_the_earlier_ones():
    two, three = in_parts(b"2" * 2200), in_parts(b"3" * 3300)
    assembly = Assembly()
    assembly.add("a", three[0])
    assembly.add("a", three[2])
    assert assembly.add("a", two[1]) == (PartAck(Save.kind, ID, 0b10), None)
    assert assembly.add("a", two[0])[1] == b"2" * 2200


@given(sizes(), st.integers(0, 2**64), st.floats(0, 0.7), st.sampled_from([0, 3, 10]))
@settings(fast, max_examples=60)
def test_a_long_message_survives_loss_reordering_and_duplication(size, seed, loss, forgetful):
    """Sender and receiver over a network that loses, duplicates and reorders in both directions. `forgetful`: when the
    receiver holds this number of parts for the first time, it forgets them all."""
    dice = random.Random(seed)
    data = dice.randbytes(size)
    outgoing, assembly, whole = OutgoingRequest(Save.kind, ID, data), Assembly(), None
    part_acks: list[PartAck] = []

    def across(datagrams):
        arriving = [one for one in datagrams for _ in range(dice.choice((1, 1, 1, 2))) if dice.random() > loss]
        dice.shuffle(arriving)
        return arriving

    rounds = 0
    while whole is None:
        rounds += 1
        assert rounds < 500, "the exchange does not end"
        for datagram in across(outgoing.missing(rounds * 0.25)):
            part_ack, whole_now = assembly.add("a", decode_untrusted(datagram))
            whole = whole or whole_now
            part_acks.append(part_ack)
            if forgetful and part_ack.held.bit_count() == forgetful:
                assembly.drop("a")
                forgetful, whole = 0, None
        for part_ack in across(part_acks):
            outgoing.acknowledge(part_ack.held, rounds * 0.25)
        part_acks = part_acks[-3:]  # some acknowledgements come very late
    assert whole == data


# --- bounded memory ---


MALLORY = ("10.0.0.66", "mallory")


def fill(assembly: Assembly, sender, count: int, part: Part) -> None:
    """Begin so many messages with one part each."""
    for n in range(count):
        assembly.add((sender, n), part, sender)


@pytest.mark.parametrize(
    "attackers",
    [
        [MALLORY],
        [("10.0.0.66", f"key {n}") for n in range(30)],
        [("10.0.0.1", "mallory")],
        [(f"10.1.0.{n}", f"key {n}") for n in range(20)],
    ],
    ids=["one", "many keys at an address", "at the address of the others", "20 addresses"],
)
def test_nobody_pushes_out_the_parts_of_others(attackers):
    assembly = Assembly(limit=2_000_000)
    honest = [("10.0.0.1", "alice"), ("10.0.0.1", "bob"), ("10.0.0.2", "cleo")]
    parts = in_parts(bytes(LONGEST))
    for sender in honest:
        for part in parts[:-1]:
            assembly.add(sender, part, sender)
    for sender in attackers:
        fill(assembly, sender, 3000 // len(attackers), parts[0])
    for sender in honest:
        assert assembly.add(sender, parts[-1], sender)[1] is not None


def test_nothing_is_left_of_messages_that_were_dropped():
    assembly = Assembly(limit=50_000)
    parts = in_parts(bytes(4000))
    fill(assembly, MALLORY, 200, parts[0])
    fill(assembly, ("10.0.0.1", "alice"), 3, parts[1])
    assembly.sweep()
    assembly.sweep()
    for name, value in vars(assembly).items():
        assert name == "_limit" or not value, name


def test_the_oldest_message_is_dropped_and_the_newest_can_always_be_completed():
    assembly = Assembly(limit=100_000)
    longest = in_parts(bytes(LONGEST))
    for sender in "abc":
        for part in longest[:-1]:
            assembly.add(sender, part)
    assert assembly.add("c", longest[-1])[1] == bytes(LONGEST)
    part_ack, _ = assembly.add("a", longest[-1])
    assert part_ack.held == 1 << 31, "the parts of the first message are gone"


@given(st.integers(0, 2**64), st.sampled_from([1, 100, 1100]))
@settings(fast, max_examples=20)
def test_a_flood_of_first_parts_is_bounded_however_small_they_are(seed, body):
    dice = random.Random(seed)
    limit = 60_000
    assembly = Assembly(limit)
    for _ in range(1500):
        part = Part(Save.kind, ID, dice.randrange(31), 32, dice.randbytes(body))
        part_ack, _ = assembly.add(dice.randrange(1000), part)
        assert part_ack.held >> part.index & 1, "the newest is never dropped"
        # Each part costs its body and a fixed overhead, so the number of messages is bounded too.
        assert len(assembly) * (body + 200) <= limit


def test_the_message_that_just_got_a_part_is_not_dropped():
    assembly = Assembly(limit=55_000)
    longest, long = in_parts(bytes(LONGEST)), in_parts(bytes(11_000))
    for part in longest[:-1]:
        assembly.add("first", part)
    for part in long[:-1]:
        assembly.add("second", part)
    assert assembly.add("first", longest[-1])[1] == bytes(LONGEST)
    assert assembly.add("second", long[-1])[0].held == 1 << len(long) - 1, "this one was dropped"


@pytest.mark.parametrize("again", [in_parts(bytes(5000)), [in_parts(bytes(2200))[1], in_parts(bytes(3300))[1]]])
def test_copies_and_different_splits_take_no_more_room(again):
    assembly = Assembly(limit=60_000)
    first = in_parts(bytes(2000))
    assembly.add("first", first[0])
    for part in again * 100:
        assembly.add("second", part)
    assert assembly.add("first", first[1])[1] == bytes(2000), "no message was dropped"


def test_dropping_a_message_frees_its_room():
    assembly = Assembly(limit=50_000)
    first, long = in_parts(bytes(2000)), in_parts(bytes(20_000))
    assembly.add("a", first[0])
    for sender in range(100):
        for part in long:
            assembly.add(sender, part)
        assembly.drop(sender)
        assembly.drop(sender)
    assert assembly.add("a", first[1])[1] == bytes(2000), "no message was dropped"


def test_a_message_without_new_parts_is_dropped_at_the_second_sweep():
    ours, theirs = in_parts(b"o" * 2000), in_parts(b"t" * 2000)
    assembly = Assembly()
    assembly.add("given up", ours[0])
    assembly.add("slow", theirs[0])
    assembly.sweep()
    assembly.add("slow", theirs[0])
    assert len(assembly) == 2
    assembly.sweep()
    assert len(assembly) == 1
    assert assembly.add("slow", theirs[1])[1] == b"t" * 2000


def test_parts_of_two_messages_with_one_id_are_not_mixed():
    """A message is sealed again under its id, and parts of the first one come late: in any order."""
    old, new = b"o" * 2000, b"n" * 2000
    for seed in range(200):
        dice, assembly, sender = random.Random(seed), Assembly(), OutgoingRequest(Save.kind, ID, new)
        late = in_parts(old)
        done = None
        for turn in range(50):
            for datagram in sender.missing(turn * 0.25):
                if late and dice.random() < 0.5:
                    _, mixed = assembly.add("a", late.pop(dice.randrange(len(late))))
                    assert mixed in (None, old)
                acknowledgement, whole = assembly.add("a", decode_untrusted(datagram))
                sender.acknowledge(acknowledgement.held, turn * 0.25)
                assert whole in (None, new)
                done = whole or done
            if done:
                break
        assert done == new, seed
