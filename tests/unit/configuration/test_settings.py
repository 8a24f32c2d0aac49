import copy
import dataclasses
import pickle

import pytest

from otel_coach.configuration.definitions import CAPTURE
from otel_coach.configuration.kinds import ListKind
from otel_coach.configuration.names import unknown_endpoints
from otel_coach.configuration.setting import settings_of
from otel_coach.configuration.trust import Trust
from otel_coach.settings import Settings, effective


def test_the_defaults_need_no_variable():
    settings = Settings.from_env({})
    assert settings == effective(Settings(), {})
    assert settings.enabled
    assert settings.serves_metrics
    assert settings.trace_exporters == ()
    assert settings.problems == ()


@pytest.mark.parametrize("name", ["OTEL_COACH_DISABLED", "OTEL_SDK_DISABLED"])
@pytest.mark.parametrize(
    ("text", "enabled"), [("true", False), ("TRUE", False), ("false", True), ("", True)]
)
def test_either_variable_disables(name, text, enabled):
    assert Settings.from_env({name: text}).enabled is enabled


@pytest.mark.parametrize(
    ("environ", "traces", "metrics"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, ("otlp",), ("prometheus",)),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c/v1/traces"}, ("otlp",), ("prometheus",)),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_TRACES_EXPORTER": "none"},
            (),
            ("prometheus",),
        ),
        ({"OTEL_TRACES_EXPORTER": "console, otlp"}, ("console", "otlp"), ("prometheus",)),
        ({"OTEL_METRICS_EXPORTER": "prometheus,otlp"}, (), ("prometheus", "otlp")),
        ({"OTEL_METRICS_EXPORTER": "none"}, (), ()),
        ({"OTEL_TRACES_EXPORTER": "none,console"}, ("console",), ("prometheus",)),
    ],
)
def test_the_standard_variables_choose_the_exporters(environ, traces, metrics):
    settings = Settings.from_env(environ)
    assert settings.trace_exporters == traces
    assert settings.metric_exporters == metrics


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("OTEL_COACH_DEPENDENCY_INTERVAL", "soon"),
        ("OTEL_COACH_DEPENDENCY_TIMEOUT", "nan"),
        ("OTEL_COACH_DEPENDENCY_TIMEOUT", "-1"),
        ("OTEL_EXPORTER_PROMETHEUS_PORT", "ninethousand"),
        ("OTEL_EXPORTER_PROMETHEUS_PORT", "70000"),
        ("OTEL_COACH_METRICS_PATH", "metrics"),
        ("OTEL_COACH_BUDGET_MODEL", "0"),
        ("OTEL_COACH_DISABLED", "perhaps"),
        ("OTEL_COACH_SERVER_SPANS", "mine"),
        ("OTEL_PYTHON_FASTAPI_EXCLUDED_URLS", "health,["),
    ],
)
def test_a_wrong_value_is_one_line_with_variable_and_value_and_the_default_stands_in(name, text):
    settings = Settings.from_env({name: text})
    (problem,) = settings.problems
    assert problem.variable == name
    assert name in problem
    assert repr(text) in problem
    defaults = Settings()
    for field in Settings.__dataclass_fields__:
        if field != "problems":
            assert getattr(settings, field) == getattr(defaults, field)


def test_dependencies_by_name_also_through_another_variable():
    settings = Settings.from_env(
        {
            "OTEL_COACH_DEPENDENCIES": "postgres_django=env:DATABASE_URL, cache=redis://h:1",
            "DATABASE_URL": "postgresql://u:p@h/db",
        }
    )
    assert settings.dependencies == {
        "postgres_django": "postgresql://u:p@h/db",
        "cache": "redis://h:1",
    }


def test_a_dependency_that_cannot_be_read_costs_only_itself_and_shows_no_password():
    settings = Settings.from_env(
        {"OTEL_COACH_DEPENDENCIES": ":hunter2@h,a=env:NOT_SET,c=env:A hunter2,b=tcp://h:2"}
    )
    assert settings.dependencies == {"b": "tcp://h:2"}
    assert len(settings.problems) == 3
    assert "entry 1" in settings.problems[0]
    assert "NOT_SET" in settings.problems[1]
    assert "entry 3" in settings.problems[2]
    assert "hunter2" not in "".join(problem for problem in settings.problems)


def test_every_variable_of_ours_is_an_option_of_the_command():
    from otel_coach.configuration import environment_variables
    from otel_coach.configuration.setting import settings_of

    of_fields = {name for _, one in settings_of(Settings) for name in one.variables}
    read = {name for name in of_fields if name.startswith("OTEL_COACH_") and "*" not in name}
    offered = {name for name in vars(environment_variables) if name.startswith("OTEL_COACH_")}
    assert offered == read
    assert {*read} == environment_variables.OWN_VARIABLES


@pytest.mark.parametrize(
    "address",
    ["postgresql://u:sec,ret2@h/db", "postgresql://h1:5432,h2:5432/db", "redis://:a=b@h:1"],
)
def test_an_address_may_hold_commas_and_equals_signs(address):
    settings = Settings.from_env({"OTEL_COACH_DEPENDENCIES": f"db={address}, other=tcp://h:1"})
    assert settings.dependencies == {"db": address, "other": "tcp://h:1"}
    assert settings.problems == ()


@pytest.mark.parametrize("true", ["true", "yes", "on", "1", "YES", "On"])
@pytest.mark.parametrize("false", ["false", "no", "off", "0", "NO", "Off"])
def test_each_switch_knows_the_words_for_true_and_false(true, false):
    def read(text):
        found = Settings.from_env(
            {
                "OTEL_COACH_DISABLED": text,
                "OTEL_COACH_TARGET_INFO": text,
                "OTEL_COACH_PROPAGATE_TO_PROVIDERS": text,
                "OTEL_COACH_TRUST_INCOMING": text,
                "OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED": text,
            }
        )
        assert found.problems == ()
        effective_values = (
            *(not found.enabled, found.target_info, found.propagates_to_providers),
            *(found.trust.everybody, found.handles_logging),
        )
        assert len(set(effective_values)) == 1
        return effective_values[0]

    assert read(true) is True
    assert read(false) is False


@pytest.mark.parametrize("text", ["yes", "on", "1", "TRUE"])
@pytest.mark.parametrize("name", ["OTEL_COACH_DISABLED", "OTEL_SDK_DISABLED"])
def test_the_entry_points_know_the_same_words(monkeypatch, name, text):
    from otel_coach.configuration.environment_variables import is_enabled

    monkeypatch.setenv(name, text)
    assert not is_enabled()
    assert not Settings.from_env({name: text}).enabled


@pytest.mark.parametrize(
    ("text", "kept", "named"),
    [
        ("api=http://ok,cache=redis:/h", {"api": "http://ok"}, "cache"),
        ("api=http://ok/health,cache=redis:/h", {"api": "http://ok/health"}, "cache"),
        ("api=http://ok,cache=redis", {"api": "http://ok"}, "cache"),
        ("cache=localhost:6379,api=http://ok:80/x", {"api": "http://ok:80/x"}, "cache"),
        (
            "api=http://ok,cache=h:6379,db=tcp://h:1",
            {"api": "http://ok", "db": "tcp://h:1"},
            "cache",
        ),
        ("api=http://u:12@ok,cache=redis//h", {"api": "http://u:12@ok"}, "cache"),
    ],
)
def test_a_malformed_address_is_named_by_itself_and_breaks_no_other(text, kept, named):
    settings = Settings.from_env({"OTEL_COACH_DEPENDENCIES": text})
    assert settings.dependencies == kept
    (problem,) = settings.problems
    assert f"the address of {named} is not an address" in problem


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://u:12,x=ret2@h/db",
        "postgresql://u:1,x=a:b@h/db",
        "http://h/x?a=1,b=redis:2",
        "http://h/a,b=c",
        "host=db password=x,y=z:1",
    ],
)
def test_what_only_looks_like_a_second_entry_stays_in_its_address(address):
    settings = Settings.from_env({"OTEL_COACH_DEPENDENCIES": f"db={address}"})
    assert settings.dependencies == {"db": address}
    assert settings.problems == ()


# For each setting: an invalid text, with what else is set, and what is in force instead. Where that
# is not the default, README says so: of a list the valid entries stay, and what was meant to close
# something closes it.
ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}
INSTEAD = {
    "enabled": ({"OTEL_COACH_DISABLED": "perhaps"}, True),
    "trace_exporters": ({"OTEL_TRACES_EXPORTER": "oltp,console", **ENDPOINT}, ("console",)),
    "metric_exporters": ({"OTEL_METRICS_EXPORTER": "console,promethues"}, ("console",)),
    "log_exporters": ({"OTEL_LOGS_EXPORTER": "oltp,console"}, ("console",)),
    "otlp_traces_protocol": ({"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http"}, "http/protobuf"),
    "otlp_metrics_protocol": ({"OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "http"}, "http/protobuf"),
    "otlp_logs_protocol": ({"OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "http"}, "http/protobuf"),
    "metrics_path": ({"OTEL_COACH_METRICS_PATH": "metrics"}, "/metrics"),
    "metrics_host": ({"OTEL_EXPORTER_PROMETHEUS_HOST": "not a host"}, "localhost"),
    "metrics_port": (
        {"OTEL_EXPORTER_PROMETHEUS_PORT": "http", "OTEL_EXPORTER_PROMETHEUS_HOST": "localhost"},
        9464,
    ),
    "metrics_token": ({"OTEL_COACH_METRICS_TOKEN": " "}, ""),  # no request gets the page
    "shared_folder": ({"OTEL_COACH_SHARED_DIR": "relative"}, None),
    "target_info": ({"OTEL_COACH_TARGET_INFO": "perhaps"}, False),
    "server_spans": ({"OTEL_COACH_SERVER_SPANS": "mine"}, "otel_coach"),
    "excluded_urls": ({"OTEL_PYTHON_FASTAPI_EXCLUDED_URLS": "["}, ""),
    "span_attributes": ({"OTEL_COACH_SPAN_ATTRIBUTES": "a b,c"}, frozenset({"c"})),
    "propagates_to_providers": ({"OTEL_COACH_PROPAGATE_TO_PROVIDERS": "perhaps"}, False),
    "trust_incoming": ({"OTEL_COACH_TRUST_INCOMING": "some"}, Trust(everybody=False)),  # nobody
    "disabled_instrumentations": (
        {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "a b,redis"},
        frozenset({"redis"}),
    ),
    "credential_headers": (
        {"OTEL_COACH_CREDENTIAL_HEADERS": "x y,X-Key"},
        frozenset({"x-key"}),
    ),
    "budgets": ({"OTEL_COACH_BUDGET_MODEL": "many"}, Settings().budgets),
    "pinned": ({"OTEL_COACH_ALLOWED_MODELS": ";;"}, {}),
    "admitted": (
        {"OTEL_COACH_ADMIT_LABELS": "queue,jobs.done:queue"},
        {"jobs.done": {"queue": 20}},
    ),
    "captures_on_spans": ({CAPTURE: "all"}, False),
    "captures_on_events": ({CAPTURE: "all"}, False),
    "content_limit": ({"OTEL_COACH_CONTENT_LIMIT": "0"}, 10_000),
    "content_redactor": ({"OTEL_COACH_CONTENT_REDACTOR": "module"}, None),  # nothing is captured
    "span_queue": ({"OTEL_BSP_MAX_QUEUE_SIZE": "0"}, 2048),
    "log_queue": ({"OTEL_BLRP_MAX_QUEUE_SIZE": "0"}, 2048),
    "prices_file": ({"OTEL_COACH_PRICES": "/no/such/file"}, None),
    "dependencies": ({"OTEL_COACH_DEPENDENCIES": "a=redis:/h,b=tcp://h:1"}, {"b": "tcp://h:1"}),
    "dependency_interval": ({"OTEL_COACH_DEPENDENCY_INTERVAL": "soon"}, 15.0),
    "dependency_timeout": ({"OTEL_COACH_DEPENDENCY_TIMEOUT": "-1"}, 5.0),
    "gateways": ({"OTEL_COACH_GATEWAYS": "a.b=openai,c.d"}, {"a.b": "openai"}),
    "stop_abandoned": ({"OTEL_COACH_STOP_ABANDONED": "/chat,plans"}, frozenset({"/chat"})),
    "stop_after": ({"OTEL_COACH_STOP_AFTER": "-0.1"}, 0.2),
    "stop_tools": ({"OTEL_COACH_STOP_TOOLS": "some"}, False),
    "quiet": ({"OTEL_COACH_QUIET": "perhaps"}, False),
    "config_file": None,  # any text is a path; that there is a file is seen when it is read
}


WORDS = {"budgets", "pinned"}
"""Mappings with a variable for each name, whose text is no list of entries."""


def test_of_each_list_the_valid_entries_are_kept():
    lists = {one.name for one, told in settings_of(Settings) if isinstance(told.kind, ListKind)}
    assert {"gateways", "stop_abandoned", "trace_exporters", "span_attributes"} <= lists
    for name in lists - WORDS:
        environ, value = INSTEAD[name]
        assert any("," in text for text in environ.values()), name
        assert value not in ((), frozenset(), {}, getattr(Settings(), name)), name


@pytest.mark.parametrize(
    ("environ", "name", "default"),
    [
        ({"OTEL_COACH_STOP_ABANDONED": "chat"}, "stop_abandoned", False),
        ({"OTEL_COACH_GATEWAYS": "nonsense"}, "gateways", {}),
        ({"OTEL_TRACES_EXPORTER": "oltp", **ENDPOINT}, "trace_exporters", ("otlp",)),
        ({"OTEL_METRICS_EXPORTER": "promethues"}, "metric_exporters", ("prometheus",)),
        ({"OTEL_LOGS_EXPORTER": "oltp"}, "log_exporters", ()),
    ],
)
def test_a_list_without_a_valid_entry_is_the_default(environ, name, default):
    assert getattr(Settings.from_env(environ), name) == default


def test_each_setting_has_a_row():
    assert INSTEAD.keys() == {field.name for field in dataclasses.fields(Settings)}


@pytest.mark.parametrize("name", [name for name, row in INSTEAD.items() if row])
def test_instead_of_an_invalid_value_the_default_or_what_readme_says_is_in_force(name):
    environ, value = INSTEAD[name]
    settings = Settings.from_env(environ)
    assert getattr(settings, name) == value
    (problem,) = settings.problems
    assert problem.startswith(next(iter(environ)))
    assert problem.variable == next(iter(environ))
    assert isinstance(problem, str)
    (copied,) = pickle.loads(pickle.dumps(copy.deepcopy(settings))).problems
    assert (copied, copied.variable) == (problem, problem.variable)
    if "the default is used" in problem:
        without = {key: text for key, text in environ.items() if key != next(iter(environ))}
        assert getattr(Settings.from_env(without), name) == value


def test_with_an_invalid_redactor_nothing_is_captured():
    environ = {CAPTURE: "SPAN_AND_EVENT", "OTEL_COACH_CONTENT_REDACTOR": "module"}
    settings = Settings.from_env(environ)
    assert (settings.captures_on_spans, settings.captures_on_events) == (False, False)


def test_an_invalid_protocol_of_a_signal_says_that_the_general_one_counts():
    environ = {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    settings = Settings.from_env(environ)
    assert settings.otlp_traces_protocol == "grpc"
    (problem,) = settings.problems
    assert problem.endswith("OTEL_EXPORTER_OTLP_PROTOCOL counts")


def test_the_cure_of_an_unknown_endpoint_keeps_the_rest_of_the_list():
    routes = ["/v1/chat", "/v1/plans", "/health"]
    (found,) = unknown_endpoints(["/v1/chat", "/v1/plan"], routes)
    assert found["endpoint"] == "/v1/plan"
    assert found["corrected"] == "/v1/chat,/v1/plans"
    (found,) = unknown_endpoints(["/v1/chat", "/something/else/entirely"], routes)
    assert (found["hint"], found["corrected"]) == ("", "/v1/chat")
