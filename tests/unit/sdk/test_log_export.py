"""The application's own log export, in this process."""

import logging
import logging.config

import pytest
from opentelemetry import _logs

from otel_coach.settings import Settings, effective
from tests.support.logging_script import HANDLER, instrumented


def settings(**variables):
    return Settings.from_env(variables)


ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}
CAPTURE = {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "EVENT_ONLY"}
NO_INSTRUMENTATION = {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "logging"}


@pytest.mark.parametrize(
    ("variables", "exporters", "exports", "handles"),
    [
        ({}, (), False, False),
        ({"OTEL_LOGS_EXPORTER": "console"}, ("console",), True, False),
        ({"OTEL_LOGS_EXPORTER": "none", **ENDPOINT}, (), False, False),
        ({"OTEL_LOGS_EXPORTER": "none", **HANDLER}, (), True, True),
        ({**HANDLER}, (), True, True),
        ({**HANDLER, **ENDPOINT}, ("otlp",), True, True),
        pytest.param(ENDPOINT, ("otlp",), True, False, marks=instrumented),
        ({**ENDPOINT, **NO_INSTRUMENTATION}, (), False, False),
        ({**ENDPOINT, "OTEL_PYTHON_LOG_AUTO_INSTRUMENTATION": "false"}, (), False, False),
        ({**ENDPOINT, **NO_INSTRUMENTATION, **CAPTURE}, ("otlp",), False, False),
        ({**CAPTURE, **NO_INSTRUMENTATION}, (), False, False),
    ],
)
def test_who_exports_what(variables, exporters, exports, handles):
    found = settings(**variables)
    assert (found.log_exporters, found.exports_logs, found.handles_logging) == (
        exporters,
        exports,
        handles,
    )


@pytest.mark.parametrize(
    ("exporters", "variables"),
    [
        ((), {}),
        ((), HANDLER),
        (("otlp",), {}),
        (("otlp",), HANDLER),
        (("console",), NO_INSTRUMENTATION),
    ],
)
def test_exporters_in_code_export_what_those_of_the_variable_export(exporters, variables):
    stated = settings(**variables, OTEL_LOGS_EXPORTER=",".join(exporters) or "none")
    in_code = effective(Settings(log_exporters=exporters), variables)
    assert (in_code.log_exporters, in_code.exports_logs, in_code.handles_logging) == (
        stated.log_exporters,
        stated.exports_logs,
        stated.handles_logging,
    )


# In this process


@pytest.fixture
def handled():
    """The provider that a handler hands records to, and what arrives there."""
    from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
    from opentelemetry.sdk.resources import Resource

    from otel_coach.sdk.logs import CoachLoggerProvider, install_handler

    exporter = InMemoryLogRecordExporter()
    provider = CoachLoggerProvider(Resource({}))
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    undo = install_handler(provider)
    try:
        yield provider, lambda: [one.log_record.body for one in exporter.get_finished_logs()]
    finally:
        undo()


def test_a_record_that_cannot_be_formatted_raises_nothing_into_the_application(handled, capsys):
    _, bodies = handled
    (handler,) = (
        h for h in logging.getLogger().handlers if type(h).__module__ == "otel_coach.sdk.logs"
    )
    wrong = logging.LogRecord("shop", logging.ERROR, __file__, 1, "%d", ("no number",), None)
    handler.handle(wrong)
    assert "--- Logging error ---" in capsys.readouterr().err
    logging.getLogger("shop").error("the next one")
    assert bodies() == ["the next one"]


def test_an_attribute_that_cannot_be_exported_makes_no_endless_record(handled):
    provider, bodies = handled
    assert not provider.has_records
    logging.getLogger("shop").error("odd", extra={"odd": object(), "odder": {1: object()}})
    assert bodies() == ["odd"]
    assert provider.has_records


def test_undone_nothing_is_left_of_the_handler():
    from opentelemetry.sdk.resources import Resource

    from otel_coach.sdk.logs import CoachLoggerProvider, install_handler

    def configuration():
        return (
            list(logging.getLogger().handlers),
            logging.basicConfig,
            logging.config.dictConfig,
            logging.config.fileConfig,
        )

    before = configuration()
    undo = install_handler(CoachLoggerProvider(Resource({})))
    assert all(now != then for now, then in zip(configuration(), before, strict=True))
    undo()
    assert configuration() == before


def test_a_provider_that_is_set_already_keeps_its_place(monkeypatch):
    from otel_coach.sdk.providers import Providers

    theirs = object()
    monkeypatch.setattr("otel_coach.sdk.providers.get_logger_provider", lambda: theirs)
    handlers = list(logging.getLogger().handlers)
    providers = Providers(settings(**HANDLER))
    try:
        providers.become_global()
        assert logging.getLogger().handlers == handlers
        assert _logs.get_logger_provider() is not providers.logger_provider
    finally:
        providers.shutdown()


@pytest.mark.parametrize("configurator", ["missing", ""])
def test_a_logger_configurator_that_is_not_there_is_one_line(configurator, caplog):
    from otel_coach.sdk.providers import Providers

    providers = Providers(settings(**HANDLER, OTEL_PYTHON_LOGGER_CONFIGURATOR=configurator))
    providers.shutdown()
    assert caplog.text.count("OTEL_PYTHON_LOGGER_CONFIGURATOR=missing") == bool(configurator)
