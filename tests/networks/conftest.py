"""Whether this machine can run these tests, and what an earlier run has left behind."""

import pytest

from tests.networks.lines import remove_leftovers, why_not


@pytest.fixture(scope="session")
def _machine():
    why = why_not()
    if not why:
        remove_leftovers()
    return why


@pytest.fixture(autouse=True)
def _needs_namespaces(request):
    if request.node.get_closest_marker("networks") and (why := request.getfixturevalue("_machine")):
        pytest.skip(f"no test of real networks: {why}")
