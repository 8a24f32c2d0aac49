"""Environments of any kind: settings in their ranges, and problems by name."""

import re

from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.util.http import parse_excluded_urls

from otel_coach.metrics.labels import DEFAULT_BUDGETS
from otel_coach.settings import Settings
from tests.support import strategies as some
from tests.support.paths import ROOT

SECRET = "s3cr3t"


# Settings


class Noting(dict):
    """An environment that notes what it is asked for."""

    def get(self, name, default=None):
        self[name] = default
        return default


def variables():
    asked = Noting()
    Settings.from_env(asked)
    readme = (ROOT / "README.md").read_text("utf-8")
    return sorted({*asked, *re.findall(r"OTEL_[A-Z_]+[A-Z]", readme)})


@given(st.dictionaries(st.sampled_from(variables()), some.ENVIRONMENT_TEXT, max_size=8))
@example({"OTEL_PYTHON_EXCLUDED_URLS": "a{99999999999999999999}"})
@example({"OTEL_PYTHON_EXCLUDED_URLS": "a,(?i)b"})
@example({"OTEL_COACH_PRICES": "9" * 5000, "OTEL_CONFIG_FILE": "9" * 5000})
@example({"OTEL_PYTHON_EXCLUDED_URLS": "(" * 3000 + ")" * 3000})
def test_any_environment_gives_settings_in_their_ranges_and_problems_by_name(environ):
    found = Settings.from_env(environ)
    assert 0 < found.dependency_interval <= 86_400
    assert 0 < found.dependency_timeout <= 86_400
    assert found.metrics_port is None or 0 <= found.metrics_port <= 65_535
    assert found.metrics_path.startswith("/")
    assert not set(found.metrics_path) & set("?# ")
    assert found.server_spans in {"otel_coach", "fastapi"}
    assert found.budgets.keys() >= DEFAULT_BUDGETS.keys()
    assert all(1 <= budget <= 100_000 for budget in found.budgets.values())
    assert "none" not in found.trace_exporters + found.metric_exporters
    assert all(name == name.lower() for name in found.credential_headers)
    parse_excluded_urls(found.excluded_urls).url_disabled("http://h/v1/chat")  # as the layer does
    about = [re.match(r"(\w+)(=?)", problem).groups() for problem in found.problems]
    assert [name for name, _ in about] == [problem.variable for problem in found.problems]
    assert {name for name, _ in about} <= environ.keys()
    whole = [name for name, mark in about if mark]  # others are about one entry of several
    assert len(whole) == len(set(whole))
    assert "\n" not in "".join(problem for problem in found.problems)


@given(some.environments())
def test_each_unusable_variable_is_one_line_and_each_other_one_counts(rows):
    found = Settings.from_env({name: text for name, (text, _) in rows.items()})
    for name, (_, value) in rows.items():
        lines = [one for one in found.problems if re.search(rf"\b{name}\b", one)]
        assert len(lines) == (value is None)
        field, *_ = some.VARIABLES[name]
        got, default = (
            one.budgets[field] if field in DEFAULT_BUDGETS else getattr(one, field)
            for one in (found, Settings())
        )
        assert got == (default if value is None else value)


@given(st.dictionaries(some.WORDS, some.ADDRESSES, max_size=3), st.sampled_from([",", " , "]))
def test_addresses_of_dependencies_are_read_as_they_are(addresses, comma):
    told = comma.join(f"{name}={address}" for name, address in addresses.items())
    found = Settings.from_env({"OTEL_COACH_DEPENDENCIES": told})
    assert found.dependencies == addresses
    assert found.problems == ()


PIECES = [
    *("db", "=", ",", "env:", " ", "://", "\n", "env:DB", f"u:{SECRET}@h"),
    *(f"postgresql://u:{SECRET}@h/db", f":{SECRET}@"),
]


@given(st.lists(st.sampled_from(PIECES) | some.TEXT, max_size=10).map("".join))
def test_no_problem_of_a_dependency_repeats_a_password(told):
    found = Settings.from_env({"OTEL_COACH_DEPENDENCIES": told, "DB": f"x {SECRET}"})
    assert SECRET not in "".join(problem for problem in found.problems)
