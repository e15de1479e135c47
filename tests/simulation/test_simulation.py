"""A few seeds of the simulation keep all promises, and a seed fixes everything. `nox -s simulate` runs more of them."""

import random
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio._core._run as scheduler

from tests.simulation.mutants import MUTANTS
from tests.simulation.run import report, simulate, trace_hash

ROOT = Path(__file__).parents[2]
STEPS = 8
"""Few, as the suite has little time."""

HASH = "from tests.simulation.run import simulate, trace_hash; print(trace_hash(simulate(3, steps=8)))"


@pytest.mark.parametrize("seed", range(10))
def test_the_promises_are_kept(seed):
    assert report(seed, simulate(seed, STEPS)) == []


def test_a_mutant_is_noticed_and_an_excerpt_of_the_trace_is_printed():
    with ExitStack() as patched:
        MUTANTS["the same message gets a new id when it goes by the server"](patched)
        for seed in range(100):
            world = simulate(seed, steps=16)
            first, *_ = lines = report(seed, world) or [""]
            if first.startswith(f"seed {seed}: nothing is shown twice: "):
                break
        else:
            pytest.fail("it was not noticed in 100 seeds")
    text = next(message for message in world.trace.messages.values() if message.mark in first)
    start = lines.index(f"--- seed {seed}, nothing is shown twice: the message {text.text[:40]!r}")
    excerpt = lines[start:]
    sends = next(n for n, line in enumerate(excerpt) if f"{text.sender} sends {text.mark}" in line)
    chat = next(n for n, line in enumerate(excerpt) if f"{text.sender:>6} -> {text.recipient:<6} DirectMessage" in line)
    saves = next(n for n, line in enumerate(excerpt) if f"{text.sender:>6} -> server Save" in line)
    shown = [n for n, line in enumerate(excerpt) if f"{text.recipient} is shown" in line and text.mark in line]
    assert sends < chat < shown[-1]
    assert sends < saves < shown[-1]
    assert len(shown) > 1


def test_a_seed_is_the_same_in_any_process():
    processes = [
        subprocess.Popen([sys.executable, "-c", HASH], cwd=ROOT, env={"PYTHONHASHSEED": seed}, stdout=subprocess.PIPE)
        for seed in ("1", "2")
    ]
    first, second = [process.communicate(timeout=300)[0] for process in processes]
    assert first
    assert first == second


def test_another_seed_is_different():
    assert trace_hash(simulate(1, steps=5)) != trace_hash(simulate(2, steps=5))


def test_the_private_names_of_trio_that_fix_the_order_of_tasks_are_there():
    assert isinstance(scheduler._ALLOW_DETERMINISTIC_SCHEDULING, bool)
    assert isinstance(scheduler._r, random.Random)
