"""Kill -9, again and again, while everyone writes as fast as answers come: nothing is lost, nothing comes twice.

`nox -s crash -- --cycles 300` plays the same for longer.
"""

import trio

from tests.crash.play import NAMES, perform

CYCLES = 3
FEW = NAMES[:3]


async def test_what_was_acknowledged_survives_kills_of_the_server_and_of_clients(tmp_path):
    counts = {}

    async def play(victims):
        (tmp_path / victims).mkdir()
        counts[victims] = await perform(tmp_path / victims, names=FEW, **{victims: CYCLES})

    async with trio.open_nursery() as nursery:
        for victims in ("servers", "clients"):
            nursery.start_soon(play, victims)

    for count in counts.values():
        assert not count.faults, "\n".join([*count.lines(), *count.faults])
        for way in ("direct", "saved", "posted", "receipts"):
            assert count.table[way].acknowledged
