"""Kill -9, again and again, while everyone writes as fast as answers come: nothing is lost, nothing comes twice.

`nox -s crash -- --cycles 300` plays the same for longer.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import trio

from tests.crash.run import NAMES, perform

CYCLES = 5
FEW = NAMES[:3]


async def test_what_was_acknowledged_survives_kills_of_the_server_and_of_clients():
    counts = {}

    async def play(victims):
        with TemporaryDirectory() as folder:  # on the disk, unlike `tmp_path`
            counts[victims] = await perform(Path(folder), names=FEW, **{victims: CYCLES})

    async with trio.open_nursery() as nursery:
        for victims in ("servers", "clients"):
            nursery.start_soon(play, victims)

    for count in counts.values():
        assert not count.faults, "\n".join([*count.lines(), *count.faults])
        for way in ("direct", "saved", "posted", "receipts"):
            assert count.table[way].acknowledged
