"""The diagrams of the documentation show what the program does now, and which package may import which.

The recordings run in virtual time, in a process of their own.
"""

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest

from docs.diagrams import BOX, POSITIONS, SCENES, STATIC, Arrow, center, drawings, imports, line, record
from tests.docs.blocks import ROOT

HOW_IT_WORKS = (ROOT / "docs" / "how-it-works.md").read_text(encoding="utf-8")


@pytest.mark.docs
def test_the_drawings_are_up_to_date():
    """They are made by another process: the state that other tests leave must not matter."""
    program = "import json; from docs.diagrams import drawings; print(json.dumps(drawings()))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=True, timeout=300)
    drawn = json.loads(done.stdout)
    assert set(drawn) == {path.name for path in STATIC.glob("*.svg")} - {"terminal.svg"}
    old = [name for name, svg in drawn.items() if (STATIC / name).read_text(encoding="utf-8") != svg]
    assert old == [], "run python -m docs.diagrams"


def test_all_drawings_are_shown_and_well_formed():
    shown = set(re.findall(r"_static/(\w+\.svg)", HOW_IT_WORKS))
    for name, svg in drawings().items():
        ElementTree.fromstring(svg)  # noqa: S314  (our own file)
        assert name in shown


def test_only_saved_and_group_messages_use_the_server():
    messages = {
        name: {step.text.partition(":")[0] for _, step in record(name) if uses_the_server(step)} for name in SCENES
    }
    assert messages["direct"] == set()
    assert {"Save", "Saved", "Batch", "Taken"} <= messages["saved"]
    assert messages["group"] == {"GroupPost", "Accepted", "Batch", "Taken"}


def uses_the_server(step):
    return isinstance(step, Arrow) and "server" in (step.source, step.destination)


def test_imports_point_down_and_cross_no_box():
    assert all(POSITIONS[above][1] < POSITIONS[below][1] for above, below in imports())
    crossed = [(pair, part) for pair in imports() for part in POSITIONS if part not in pair and crosses(pair, part)]
    assert crossed == []


def crosses(pair, part, margin=6):
    """Whether an arrow comes closer to the box of another package than so many pixels."""
    x1, y1, x2, y2 = line(*pair)
    x, y = center(part)
    points = [(x1 + (x2 - x1) * step / 200, y1 + (y2 - y1) * step / 200) for step in range(201)]
    return any(abs(a - x) < BOX[0] / 2 + margin and abs(b - y) < BOX[1] / 2 + margin for a, b in points)
