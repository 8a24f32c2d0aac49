"""Each part of verification/soak/parts, in short; `make soak SOAK='--part all'` runs longer."""

import pytest

from verification.soak.__main__ import PARTS

SECONDS = {"kills": 4.0}
COUNTED = {
    "kills": "while it wrote",
    "disk": "pages that say so",
    "memory": "answers",
    "shutdown": "seconds with 2000 streams",
    "clocks": "spans",
    "holder": "pages while it was stopped",
}


@pytest.mark.long
@pytest.mark.fleet
@pytest.mark.parametrize("part", PARTS)
def test_a_hardship_makes_nothing_fall_and_leaves_nothing_behind(part):
    outcome = PARTS[part](SECONDS.get(part, 0.0), 1)
    assert outcome.problems == []
    assert outcome.figures[COUNTED[part]] > 0
    assert outcome.figures.get("falls", 0) == 0
