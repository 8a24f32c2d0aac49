"""Whether docs name tests that are there."""

import re

import pytest

from tests.support.paths import ROOT, TESTS

# What docs promise

TOLD = [
    (page.name, name)
    for page in (ROOT / "docs" / "security.md", ROOT / "docs" / "threat-model.md")
    for name in sorted(set(re.findall(r"`(test_\w+\.py(?:::\w+)?)`", page.read_text())))
]


@pytest.mark.parametrize(("page", "name"), TOLD)
def test_each_test_that_a_page_names_is_there(page, name):
    file, _, function = name.partition("::")
    (found,) = TESTS.rglob(file)
    assert re.search(
        rf"^def {function}\(" if function else r"^(?:async )?def test_",
        found.read_text(),
        re.MULTILINE,
    )


def test_each_row_of_the_threat_model_names_a_test():
    text = (ROOT / "docs" / "threat-model.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ") and "tested by" not in line]
    assert len(rows) > 20
    assert all("`test_" in row.split("|")[-2] for row in rows)
