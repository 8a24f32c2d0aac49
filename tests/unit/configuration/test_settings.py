import pytest

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
    assert "hunter2" not in "".join(settings.problems)


def test_every_variable_of_ours_is_an_option_of_the_command():
    from otel_coach.configuration import environment_variables
    from otel_coach.configuration.setting import settings_of

    of_fields = {name for _, one in settings_of(Settings) for name in one.variables}
    read = {name for name in of_fields if name.startswith("OTEL_COACH_") and "*" not in name}
    offered = {name for name in vars(environment_variables) if name.startswith("OTEL_COACH_")}
    assert offered == read


@pytest.mark.parametrize(
    "address",
    ["postgresql://u:sec,ret2@h/db", "postgresql://h1:5432,h2:5432/db", "redis://:a=b@h:1"],
)
def test_an_address_may_hold_commas_and_equals_signs(address):
    settings = Settings.from_env({"OTEL_COACH_DEPENDENCIES": f"db={address}, other=tcp://h:1"})
    assert settings.dependencies == {"db": address, "other": "tcp://h:1"}
    assert settings.problems == ()
