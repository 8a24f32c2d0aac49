"""Settings made in code: checked as those from the environment are."""

import re

import pytest
from opentelemetry.util.http import parse_excluded_urls

from otel_coach.configuration.setting import settings_of
from otel_coach.metrics.labels import DEFAULT_SIZES
from otel_coach.settings import Settings, effective
from otel_coach.testing import measuring

WRONG = [
    {"metrics_path": "metrics"},
    {"metrics_path": None},
    {"dependency_interval": -1.0},
    {"dependency_timeout": "5"},
    {"dependency_timeout": float("nan")},
    {"budgets": {"modell": 5}},
    {"budgets": {"model": "5"}},
    {"budgets": 5},
    {"server_spans": "django"},
    {"trace_exporters": "console"},
    {"trace_exporters": ("oltp",)},
    {"dependencies": {"pg": "nonsense"}},
    {"pinned": {"models": ("a",)}},
    {"pinned": {"model": "gpt-4o"}},
    {"admitted": {"jobs.done": {"queue": 0}}},
    {"metrics_port": "9464"},
    {"metrics_port": True},
    {"metrics_token": b"x"},
    {"metrics_host": "not a host"},
    {"shared_folder": "relative/folder"},
    {"prices_file": "/no/such/file"},
    {"content_redactor": "module"},
    {"content_limit": 0},
    {"captures_on_spans": "true"},
    {"excluded_urls": "(["},
    {"span_attributes": {"a b"}},
    {"credential_headers": ["x y"]},
    {"trust_incoming": "999.0.0.1"},
    {"trust_incoming": 1},
    {"otlp_traces_protocol": "http"},
    {"span_queue": 0},
]


@pytest.mark.parametrize("values", WRONG, ids=str)
def test_a_wrong_value_is_one_error_that_names_the_field_and_its_variable(values):
    (name,) = values
    variable = next(one.variables[0] for field, one in settings_of(Settings) if field.name == name)
    with pytest.raises(ValueError, match=f"{name} \\({re.escape(variable)}\\): ") as raised:
        Settings(**values)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("variable", "text", "bounds"),
    [
        ("OTEL_COACH_DEPENDENCY_INTERVAL", "0", "more than 0 and at most 86400"),
        ("OTEL_COACH_STOP_AFTER", "-1", "from 0 to 86400"),
    ],
)
def test_a_time_span_out_of_bounds_is_told_the_bounds(variable, text, bounds):
    (problem,) = Settings.from_env({variable: text}).problems
    assert f"{variable}={text!r} is not a number of seconds {bounds}; " in problem


def test_several_wrong_values_are_one_error():
    with pytest.raises(ValueError, match=r"metrics_path .*; server_spans ") as raised:
        Settings(server_spans="django", metrics_path="x")
    assert raised.type is ValueError


def test_a_wrong_name_is_an_error_that_names_the_nearest():
    with pytest.raises(TypeError, match="no field metric_path; perhaps metrics_path is meant"):
        Settings(metric_path="/x")


@pytest.mark.parametrize("name", ["problems", "components", "runtime_folder", "shares_figures"])
def test_what_a_process_finds_out_is_no_field(name):
    with pytest.raises(TypeError, match="no field"):
        Settings(**{name: None})


def test_a_password_is_in_no_error():
    for values in (
        {"dependencies": {"db": "hunter2"}},
        {"trust_incoming": "999.0.0.1,header:X=hunter2"},
        {"metrics_token": ["hunter2"]},
    ):
        with pytest.raises(ValueError, match=next(iter(values))) as raised:
            Settings(**values)
        assert "hunter2" not in str(raised.value)


def test_a_budget_alone_leaves_the_others_as_they_are():
    assert Settings(budgets={"model": 5}).budgets == {**DEFAULT_SIZES, "model": 5}
    with measuring(Settings(budgets={"model": 5})) as measured:
        assert measured.page().sum("otel_coach_errors_total") == 0


def test_collections_are_kept_as_their_type():
    settings = Settings(span_attributes=["a"], trace_exporters=["console"], trust_incoming=False)
    assert settings.span_attributes == frozenset({"a"})
    assert settings.trace_exporters == ("console",)
    assert settings.trust_incoming.everybody is False


def test_each_field_has_its_variable_and_its_meaning():
    for field, one in settings_of(Settings):
        assert one.variables, field.name
        assert one.meaning.endswith("."), field.name
    assert {field.name for field, _ in settings_of(Settings)} == set(Settings.__dataclass_fields__)


def test_from_the_environment_nothing_is_an_error():
    """Each wrong text is one line, and the default is in force."""
    wrong = {
        "OTEL_TRACES_EXPORTER": "oltp",
        "OTEL_METRICS_EXPORTER": "promethues",
        "OTEL_EXPORTER_PROMETHEUS_PORT": "http",
        "OTEL_EXPORTER_PROMETHEUS_HOST": "not a host",
        "OTEL_COACH_METRICS_PATH": "metrics",
        "OTEL_COACH_METRICS_TOKEN": " ",
        "OTEL_COACH_SHARED_DIR": "relative/dir",
        "OTEL_COACH_DEPENDENCIES": "pg=nonsense",
        "OTEL_COACH_DEPENDENCY_INTERVAL": "15s",
        "OTEL_COACH_PRICES": "/no/such/file",
        "OTEL_COACH_BUDGET_MODEL": "many",
        "OTEL_COACH_ALLOWED_MODELS": ";;",
        "OTEL_COACH_ALLOWED_COLOURS": "red",
        "OTEL_COACH_ADMIT_LABELS": "queue",
        "OTEL_COACH_SPAN_ATTRIBUTES": "a b",
        "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "true",
        "OTEL_COACH_CONTENT_REDACTOR": "module",
        "OTEL_COACH_CREDENTIAL_HEADERS": "x y",
        "OTEL_COACH_DISABLED": "perhaps",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http",
        "OTEL_COACH_TYPO": "x",
    }
    for name, text in wrong.items():
        settings = Settings.from_env({name: text})
        (problem,) = settings.problems
        assert problem.variable == name
        assert problem.startswith(name)
    settings = Settings.from_env({**wrong, "OTEL_COACH_METRICS_TOKEN": "t"})
    assert len(settings.problems) == len(wrong) - 1
    assert effective(Settings(metrics_token="t"), {}) == Settings.from_env(
        {"OTEL_COACH_METRICS_TOKEN": "t"}
    )


def test_of_several_names_the_right_ones_stay():
    settings = Settings.from_env({"OTEL_METRICS_EXPORTER": "prometheus,oltp"})
    assert settings.metric_exporters == ("prometheus",)
    (problem,) = settings.problems
    assert "'oltp'" in problem


def test_names_of_headers_are_compared_in_lower_case():
    assert Settings(credential_headers=["X-My-Token"]).credential_headers == {"x-my-token"}


@pytest.mark.parametrize("text", ["health,", ",health", "health,,metrics", " , health ,"])
def test_an_empty_expression_excludes_no_url(text):
    for settings in (
        Settings(excluded_urls=text),
        Settings.from_env({"OTEL_PYTHON_EXCLUDED_URLS": text}),
    ):
        excluded = parse_excluded_urls(settings.excluded_urls)
        assert excluded.url_disabled("http://x/health")
        assert not excluded.url_disabled("http://x/chat")


def test_a_variable_has_an_effect_where_settings_in_code_give_it_one():
    variables = {"OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST": "x"}
    named = {"http.request.header.x"}
    for settings, count in (
        (Settings(), 1),
        (Settings(span_attributes=named), 1),
        (Settings(server_spans="fastapi", span_attributes=named), 0),
    ):
        assert len(effective(settings, variables).without_effect) == count


def test_a_list_without_a_valid_entry_says_that_the_default_is_used():
    (problem,) = Settings.from_env({"OTEL_TRACES_EXPORTER": "zipkim"}).problems
    assert "; the default is used. Cure: correct the name, or install its package" in problem
    (problem,) = Settings.from_env({"OTEL_TRACES_EXPORTER": "zipkim,console"}).problems
    assert "; it is left out. Cure: correct the name, or install its package" in problem


def test_an_entry_in_libpqs_form_begins_after_a_comma():
    text = "cache=redis://h:6379/0,db=host=db user=coach"
    assert Settings.from_env({"OTEL_COACH_DEPENDENCIES": text}).dependencies == {
        "cache": "redis://h:6379/0",
        "db": "host=db user=coach",
    }


def test_a_wildcard_in_the_names_of_attributes_is_reported():
    (problem,) = Settings.from_env({"OTEL_COACH_SPAN_ATTRIBUTES": "http.request.header.*"}).problems
    assert "http.request.header.*" in problem


def test_a_host_without_a_port_has_opentelemetrys_default_port():
    """As the variables have it; `localhost` is the default, and asks for nothing."""
    assert Settings(metrics_host="0.0.0.0").metrics_port == 9464
    assert Settings(metrics_host="0.0.0.0", metrics_port=1234).metrics_port == 1234
    assert Settings().metrics_port is None
    assert Settings.from_env({}).metrics_port is None
