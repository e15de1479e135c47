"""Everything that reads from the network keeps its promises for any bytes, by hypothesis and by mutation.

`nox -s fuzz` tries many more inputs.
"""

import random
import re
from functools import partial

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.fuzz.links import link_samples
from tests.fuzz.mutations import LONGEST, mutated
from tests.fuzz.run import fuzz, main
from tests.fuzz.targets import TARGETS, check_message, check_presence
from tests.strategies import messages
from trio_chat.crypto import letters, room_keys
from trio_chat.link import packets
from trio_chat.link.events import OtherVersion
from trio_chat.link.hellos import Hellos
from trio_chat.link.links import Links
from trio_chat.link.packets import Reset
from trio_chat.link.session import LinkSession
from trio_chat.presence.json_stream import JsonStream
from trio_chat.protocol import wire
from trio_chat.protocol.messages import Ack, Batch
from trio_chat.protocol.records import Entry, EntryKind
from trio_chat.protocol.wire import encode

fast = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
INPUTS = {"messages": 2000, "bundles": 500, "letters": 300, "rooms": 300, "links": 200, "presence": 200}


# --- inputs by hypothesis ---


@given(st.binary(max_size=1300))
@settings(fast, max_examples=60)
@example(b"")
@example(bytes((Batch.kind,)) + b"\xdf\xff\xff\xff\xff")
@example(bytes((Ack.kind,)) + b"\x81\xa3new" + b"\xdd\xff\xff\xff\xff")
def test_any_bytes_are_a_message_or_none(data):
    check_message(data)


@given(messages(), st.integers(0, 2**64))
@settings(fast, max_examples=40)
@example(
    Batch(bytes(16), "a", (Entry(1, EntryKind.DIRECT, bytes(16), "a", bytes(32), "a", 0.0, bytes(12_000)),) * 3), 0
)
def test_800_mutated_messages_are_messages_or_none(message, seed):
    dice, whole = random.Random(seed), encode(message)
    for _ in range(20):
        check_message(mutated(whole, dice, [whole]))


@given(st.binary(max_size=200))
@settings(fast, max_examples=30)
@pytest.mark.parametrize("name", ["letters", "rooms", "links"])
def test_any_bytes_break_no_promise(name, data):
    assert TARGETS[name].check(data)


@given(st.binary() | st.text('{}[]":,\\ 019aeNtrue\x01').map(str.encode))
@settings(fast, max_examples=40)
@example(b'{"a": 1}}')
@example(b'{"a": [1}, 2]}')
@example(b'{"a" 1}')
def test_any_bytes_are_a_stream_of_objects_or_none(data):
    check_presence(data)


# --- inputs by mutation ---


@pytest.mark.parametrize("name", TARGETS)
def test_no_mutation_breaks_a_promise_and_some_have_new_outcomes(name):
    samples = TARGETS[name].samples()
    tally = fuzz(TARGETS[name], 1, lambda tried: tried < INPUTS[name])
    assert tally.failures == {}
    assert tally.tried == INPUTS[name]
    assert any(data not in samples for data in tally.corpus)


def test_a_seed_fixes_all_inputs():
    one, same, other = (fuzz(TARGETS["messages"], seed, lambda tried: tried < 300) for seed in (1, 1, 2))
    assert one.corpus == same.corpus != other.corpus


def test_all_types_of_datagrams_are_mutated():
    opened = b"".join(sample[:3] for sample in link_samples())
    assert {bytes((kind,)) for kind in range(1, 11)} <= {opened[at : at + 1] for at in range(2, len(opened), 3)}


def test_inputs_fit_into_a_command_line():
    dice, whole = random.Random(1), bytes(LONGEST)
    assert all(len(mutated(whole, dice, [whole])) <= LONGEST for _ in range(100))


# --- broken programs are noticed ---


class Failing:
    """A decoder that raises the wrong exception if a field is missing."""

    def __init__(self, decoder):
        self._decoder = decoder

    def decode(self, data):
        if b"of" not in bytes(data):
            raise IndexError
        return self._decoder.decode(data)


class Greedy(Failing):
    """A decoder that allocates as much memory as the input asks for."""

    def decode(self, data):
        room = bytearray(100 * int.from_bytes(data[4:6], "big"))
        return self._decoder.decode(data) if room else None


def other_decoder(decoder, patch):
    patch(wire, "_decoders", wire._decoders | {Ack.kind: decoder(wire._decoders[Ack.kind])})


def unsigned_epochs(patch):
    patch(room_keys, "verify", lambda key, signature, stated: True)


def unsigned_letters(patch):
    patch(letters, "verify", lambda key, signature, stated: True)


def no_replay_window(patch):
    take = LinkSession.open_untrusted

    def forgetful(self, datagram):
        plaintext = take(self, datagram)
        self._seen = 0
        return plaintext

    patch(LinkSession, "open_untrusted", forgetful)


def long_reset(patch):
    patch(Reset, "encode", lambda self: packets.header(7, self.index) + bytes(100))


def calls_of_anybody(patch):
    receive = Links._receive_call

    def trusting(self, address, now):
        server = self._server()
        return receive(self, server.address if server else address, now)

    patch(Links, "_receive_call", trusting)


def versions_of_anybody(patch):
    patch(Hellos, "receive_other_version", lambda self, other, address: [OtherVersion(address, other.version)])


def stream_that_strips_pieces(patch):
    def feed(self, data):
        self._buffer += data.strip(b" ")

    patch(JsonStream, "feed", feed)


@pytest.mark.parametrize(
    ("name", "inputs", "mutant", "failure"),
    [
        ("messages", 600, partial(other_decoder, Failing), "IndexError"),
        ("messages", 600, partial(other_decoder, Greedy), "more memory than so few bytes are worth"),
        ("letters", 600, unsigned_letters, "Alice did not write this"),
        ("rooms", 600, unsigned_epochs, "Alice did not sign this"),
        ("links", 1, no_replay_window, "a message that arrived before"),
        ("links", 1, calls_of_anybody, "a call of somebody else"),
        ("links", 1, versions_of_anybody, "an answer of somebody who was not asked"),
        ("links", 1, long_reset, "an answer larger than the request"),
        ("presence", 60, stream_that_strips_pieces, "cut differently it is something else"),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_a_mutant_is_found_and_its_input_finds_it_again(monkeypatch, name, inputs, mutant, failure):
    with monkeypatch.context() as patched:
        mutant(patched.setattr)
        found = CliRunner().invoke(main, ["--inputs", f"{inputs}", "--target", name])
        assert found.exit_code == 1
        line = next(line for line in found.output.splitlines() if failure in line)
        assert line.startswith(f"{name}, seed 1: ")
        (data,) = re.findall(rf"{re.escape(line)}\n  --replay {name} ([0-9a-f]*)", found.output)
        again = CliRunner().invoke(main, ["--replay", name, data])
        assert again.exit_code == 1
        assert failure in again.output
    assert CliRunner().invoke(main, ["--replay", name, data]).exit_code == 0, "without the mutant its input is harmless"


def test_without_failures_the_exit_code_is_0():
    result = CliRunner().invoke(main, ["--inputs", "1", "--seed", "3"])
    assert result.exit_code == 0
    assert re.findall(r"(?m)^(\w+) +seed 3: [1-9].* inputs.* 0 failures$", result.output) == [*TARGETS]
