"""The public API: `otel_coach` and `otel_coach.testing`. A change here is a change for users."""

import dataclasses
import inspect

import otel_coach
from otel_coach import testing
from otel_coach.settings import Settings

PUBLIC = {
    "Settings": "(*, FIELDS) -> None",
    "instrument": "(app: Starlette | None = None, *, settings: Settings | None = None) -> None",
    "labels": "(mode: str) -> Labels",
    "stop_abandoned": "(*misplaced: Never, after: float = 0.2, tools: bool = False)"
    " -> StopAbandoned",
    "uninstrument": "() -> None",
    "watch_dependency": "(name: str) -> Watch",
}
TESTING = {
    "Call": (
        "(model: str, is_stream: bool, messages: tuple[Mapping[str, Any], ...], status: int, "
        "prompt_tokens: int, completion_tokens: int) -> None"
    ),
    "Failure": "(status: int = 500, message: str = a failure of the script) -> None",
    "Measured.forget_spans": "(self) -> None",
    "Measured.page": "(self) -> Page",
    "Measured.span_tree": "(self, *attributes: str) -> str",
    "Measured.spans": "property -> Sequence[ReadableSpan]",
    "Page": "(text: str) -> None",
    "Page.labels": "property -> set[str]",
    "Page.names": "property -> set[str]",
    "Page.samples": "(self, name: str, /, **labels: str) -> list[tuple[dict[str, str], float]]",
    "Page.sum": "(self, name: str, /, **labels: str) -> float",
    "ScriptedProvider": "(*script: str | ToolCall | Failure, pace: float = 0.0) -> None",
    "ScriptedProvider.base_url": "property -> str",
    "ScriptedProvider.gateways": "property -> dict[str, str]",
    "ScriptedProvider.script": "property -> list[str | ToolCall | Failure]",
    "ToolCall": "(name: str, arguments: Mapping[str, object] = <factory>) -> None",
    "measuring": "(settings: Settings | None = None) -> Generator[Measured]",
}
SETTINGS = [
    "admitted",
    "budgets",
    "captures_on_events",
    "captures_on_spans",
    "config_file",
    "content_limit",
    "content_redactor",
    "credential_headers",
    "dependencies",
    "dependency_interval",
    "dependency_timeout",
    "disabled_instrumentations",
    "enabled",
    "excluded_urls",
    "gateways",
    "log_exporters",
    "log_queue",
    "metric_exporters",
    "metrics_host",
    "metrics_path",
    "metrics_port",
    "metrics_token",
    "otlp_logs_protocol",
    "otlp_metrics_protocol",
    "otlp_traces_protocol",
    "pinned",
    "prices_file",
    "propagates_to_providers",
    "quiet",
    "server_spans",
    "shared_folder",
    "span_attributes",
    "span_queue",
    "stop_abandoned",
    "stop_after",
    "stop_tools",
    "target_info",
    "trace_exporters",
    "trust_incoming",
]


def signature(member):
    if isinstance(member, property):
        return f"property -> {member.fget.__annotations__['return']}"
    text = str(inspect.signature(member))
    return text.replace("'", "")


def test_the_package_has_these_names_and_signatures():
    assert set(otel_coach.__all__) == {*PUBLIC, "StoppedError", "__version__"}
    assert otel_coach.StoppedError.__bases__ == (BaseException,)
    found = {name: signature(getattr(otel_coach, name)) for name in set(PUBLIC) - {"Settings"}}
    assert found == {name: text for name, text in PUBLIC.items() if name != "Settings"}
    assert otel_coach.Settings is Settings
    assert isinstance(otel_coach.__version__, str)


def test_settings_have_these_fields():
    fields = dataclasses.fields(Settings)
    assert sorted(field.name for field in fields) == SETTINGS
    assert all(field.kw_only for field in fields)


def test_the_testing_module_has_these_names_and_signatures():
    constructed = ("Call", "Failure", "Page", "ScriptedProvider", "ToolCall", "measuring")
    assert {*testing.__all__} == {*constructed, "Measured"}
    found = {name: signature(getattr(testing, name)) for name in constructed}
    for cls in (testing.Measured, testing.Page, testing.ScriptedProvider):
        for name, member in vars(cls).items():
            if not name.startswith("_") and (callable(member) or isinstance(member, property)):
                found[f"{cls.__name__}.{name}"] = signature(member)
    assert found == TESTING
