"""What tests of the terminal have in common."""

import pytest

from tests.person_at_client import PersonAtClient


@pytest.fixture
def enters(stage, nursery):
    """Starts a client, waits a second, and checks what it prints."""

    async def enter(name, *printed, **how):
        person = PersonAtClient(stage, name, how.pop("host", f"10.0.9.{len(name)}"), **how)
        await nursery.start(person.run)
        await stage.pass_time(1)
        assert person.printed == list(printed)
        return person

    return enter
