"""Some seeds of the simulation, and that a seed fixes everything. Many more: `nox -s simulate`."""

import random
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio._core._run as scheduler

from tests.simulation.mutants import ZOO
from tests.simulation.run import play, report, trace_hash

ROOT = Path(__file__).parents[2]
STEPS = 8
"""A few of what the long runs have: here there is little time."""

HASH = "from tests.simulation.run import play, trace_hash; print(trace_hash(play(7, steps=8)))"


@pytest.mark.parametrize("seed", range(40))
def test_the_promises_are_kept(seed):
    assert report(seed, play(seed, STEPS)) == []


def test_a_seeded_bug_is_noticed_and_told_as_a_play():
    with ExitStack() as patched:
        ZOO["a new id on the way by the server"](patched)
        world = play(3, steps=12)
    first, *_ = lines = report(3, world)
    assert first.startswith("seed 3: nothing is shown twice: ")
    text = next(message for message in world.ledger.messages.values() if message.mark in first)
    start = lines.index(f"--- seed 3, nothing is shown twice: the message {text.text[:40]!r}")
    play_of_it = lines[start:]
    says = next(n for n, line in enumerate(play_of_it) if f"{text.sender} says {text.mark}" in line)
    chat = next(
        n for n, line in enumerate(play_of_it) if f"{text.sender:>6} -> {text.recipient:<6} DirectMessage" in line
    )
    saves = next(n for n, line in enumerate(play_of_it) if f"{text.sender:>6} -> server Save" in line)
    shown = [n for n, line in enumerate(play_of_it) if f"{text.recipient} is shown" in line and text.mark in line]
    assert says < chat < shown[-1]
    assert says < saves < shown[-1]
    assert len(shown) > 1


def test_one_seed_is_one_play_in_any_process():
    processes = [
        subprocess.Popen([sys.executable, "-c", HASH], cwd=ROOT, env={"PYTHONHASHSEED": seed}, stdout=subprocess.PIPE)
        for seed in ("1", "2")
    ]
    first, second = [process.communicate(timeout=60)[0] for process in processes]
    assert first
    assert first == second


def test_another_seed_is_another_play():
    assert trace_hash(play(1, steps=5)) != trace_hash(play(2, steps=5))


def test_the_private_names_of_trio_that_fix_the_order_of_tasks_are_there():
    assert isinstance(scheduler._ALLOW_DETERMINISTIC_SCHEDULING, bool)
    assert isinstance(scheduler._r, random.Random)
