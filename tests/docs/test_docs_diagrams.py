"""The drawings of the documentation are what a recorded run, and the rule of who imports whom, give now."""

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest

from docs.diagrams import PLACES, SCENES, STATIC, Arrow, drawings, record, walls
from tests.docs.blocks import ROOT

HOW_IT_WORKS = (ROOT / "docs" / "how-it-works.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def drawn_anew():
    """Drawn by a program of its own: a test's clock, and what other tests have left, must not matter."""
    program = "import json; from docs.diagrams import drawings; print(json.dumps(drawings()))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=True, timeout=300)
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", ["direct.svg", "saved.svg", "group.svg", "house.svg"])
def test_a_drawing_is_what_is_drawn_now(name, drawn_anew):
    assert (STATIC / name).read_text(encoding="utf-8") == drawn_anew[name], "run python -m docs.diagrams"


def test_all_drawings_are_shown_and_well_formed():
    shown = set(re.findall(r"_static/(\w+\.svg)", HOW_IT_WORKS))
    for name, svg in drawings().items():
        ElementTree.fromstring(svg)  # noqa: S314  (it is ours)
        assert name in shown


def test_only_the_letter_and_the_post_meet_the_server():
    met = {
        name: {step.text.partition(":")[0] for _, step in record(name) if is_through_the_server(step)}
        for name in SCENES
    }
    assert met["direct"] == set()
    assert {"Save", "Saved", "Letters", "Taken"} <= met["saved"]
    assert met["group"] == {"GroupPost", "Accepted", "Letters", "Taken"}


def is_through_the_server(step):
    return isinstance(step, Arrow) and "server" in (step.source, step.destination)


def test_every_arrow_of_the_house_points_down():
    assert all(PLACES[above][1] < PLACES[below][1] for above, below in walls())
