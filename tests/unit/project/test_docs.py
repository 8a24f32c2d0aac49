"""What docs promise: tests that are there, fields with their facts, and blocks that are run."""

import dataclasses
import re

import pytest

from otel_coach.settings import Settings
from tests.support.documentation import PAGES, not_run
from tests.support.paths import ROOT, TESTS

# What docs promise


def test_the_options_that_a_page_names_are_those_of_the_command():
    """`opentelemetry-instrument` makes them of the variables' names, without `OTEL_`."""
    told = set(re.findall(r"`--(\w*coach_\w+)", (ROOT / "docs" / "configuration.md").read_text()))
    assert told == {"coach_metrics_path"}


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


# The fields of `Settings`


def rows(name, count):
    """The rows of a page's tables with this number of columns, without heads."""
    lines = (ROOT / "docs" / name).read_text("utf-8").splitlines()
    cells = [re.split(r" (?<!\\)\| ", line[2:-2]) for line in lines if line.startswith("| ")]
    return [row for row in cells if len(row) == count and row[0].startswith("`")]


def test_the_api_page_has_each_field_with_type_default_and_meaning():
    found = {name.strip("`"): rest for name, *rest in rows("api.md", 4)}
    fields = {field.name: field for field in dataclasses.fields(Settings)}
    assert [*found] == [*fields]
    assert found["metrics_port"][:2] == ["`int` or `None`", "`None`"]
    assert found["stop_abandoned"][:2] == ["`bool` or `frozenset[str]`", "`False`"]
    assert found["metric_exporters"][:2] == ["`tuple[str, ...]`", '`("prometheus",)`']
    assert found["gateways"][:2] == ["`Mapping[str, str]`", "`{}`"]
    in_words = {"budgets", "trust_incoming"}
    defaults = {name: text for name, (_, text, _) in found.items() if name not in in_words}
    made = Settings()
    for name, text in defaults.items():
        assert eval(text.strip("`")) == getattr(made, name), name


def test_the_api_page_says_of_each_field_what_the_page_of_the_variables_says():
    of_variables = {field: meaning for _, field, _, meaning in rows("configuration.md", 4)}
    of_fields = {field: meaning for field, _, _, meaning in rows("api.md", 4)}
    assert of_fields == of_variables
    assert "Seconds between two probes" in of_fields["`dependency_interval`"]


# Their blocks: test_documented_blocks.py and test_documented_sessions.py run those of all pages.


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_block_is_run_by_a_test_or_is_no_program(page):
    assert not_run(page.relative_to(ROOT).as_posix(), page.read_text("utf-8")) == []


def test_all_folders_with_pages_are_looked_into():
    names = {page.relative_to(ROOT).as_posix() for page in PAGES}
    assert names >= {"README.md", "docs/abandoned.md", "deploy/README.md", "RELEASING.md"}
    assert "examples/coaching/README.md" in names


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("```shell\nls\n```\n  ```text\n  x\n  ```\n", []),
        ("```sh\nls\n```\n", [1, 3]),
        ("```bash\nls\n```\n```shell\nls\n```\n", [1, 3]),
        ("```\nls\n```\n", [1, 3]),
        ("- a list\n\n  ```zsh\n  ls\n  ```\n", [3, 5]),
        ("```text\n$ ls\n```\n", [1, 3]),
        ("```console\n$ ls\n```\n", []),
        ("~~~shell\nls\n~~~\n", [1, 3]),
        ("```shell title=x\nls\n```\n", [1, 3]),
        ("````shell\nls\n````\n", [1, 3]),
    ],
)
def test_a_block_that_no_test_runs_is_found(text, lines):
    found = not_run("page.md", text)
    assert [int(line.split(":")[1]) for line in found] == lines
