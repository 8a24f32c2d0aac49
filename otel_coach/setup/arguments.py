"""The arguments of each instrumentor, made from the settings."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import otel_coach
from otel_coach.core.stop_rule import StopRule
from otel_coach.instrumentors import ANTHROPIC, ASGI, DEPENDENCIES, LANGCHAIN, OPENAI
from otel_coach.prometheus.http.asgi_endpoint import MetricsEndpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from opentelemetry.trace import Tracer

    from otel_coach.instrumentors.asgi import AsgiArguments
    from otel_coach.instrumentors.dependencies import ProbeArguments
    from otel_coach.instrumentors.genai.client_instrumentor import ClientArguments
    from otel_coach.instrumentors.genai.run_recorder import ModelArguments
    from otel_coach.pricing.price_list import PriceList
    from otel_coach.prometheus.http.shared_renders import Renders
    from otel_coach.sdk.providers import Providers
    from otel_coach.settings import EffectiveSettings
    from otel_coach.setup.serving import Serving

_SCOPE: Final = "otel_coach"
_logger = logging.getLogger("otel_coach")


class InstallationParts(Protocol):
    """The parts of an installation that the arguments are made from."""

    settings: EffectiveSettings
    providers: Providers
    renders: Renders
    prices: PriceList
    reported: set[tuple[str, str]]
    """Models whose calls are not measured, with the reason: each is logged once."""
    serving: Serving

    def application_started(self) -> None:
        """Is called at the start of an application's lifespan."""
        ...

    def application_stopped(self, app: object) -> None:
        """Is called at the end of the lifespan of `app`."""
        ...


def _asgi(parts: InstallationParts) -> AsgiArguments:
    settings, providers, stopped = parts.settings, parts.providers, parts.settings.stop_abandoned
    page = None
    if settings.serves_metrics and settings.metrics_port is None:
        page = MetricsEndpoint(
            parts.renders,
            settings.metrics_path,
            providers.recorder,
            settings.metrics_token,
            parts.serving.announce,
        )
    makes_server_spans = settings.server_spans == "otel_coach"
    return {
        "recorder": providers.recorder,
        "tracer": _tracer(parts) if makes_server_spans else None,
        "credential_headers": settings.credential_headers,
        "excluded_urls": settings.excluded_urls,
        "page": page,
        "trusts": settings.trust.test,
        "stops": _stops(settings) if stopped else None,
        "on_routes": None if isinstance(stopped, bool) else _warning_of_unknown(stopped),
        "on_start": parts.application_started,
        "on_stop": parts.application_stopped,
        "announce": parts.serving.announce,
    }


def _stops(settings: EffectiveSettings) -> Callable[[str], StopRule | None]:
    """Returns the function that returns how the work of an endpoint is stopped."""
    rule, stopped = StopRule(settings.stop_after, settings.stop_tools), settings.stop_abandoned
    return lambda endpoint: rule if isinstance(stopped, bool) or endpoint in stopped else None


def _warning_of_unknown(stopped: frozenset[str]) -> Callable[[Sequence[str]], None]:
    """Returns a function that logs, once each, the entries that are no route's template."""
    return partial(_warn_of_unknown, stopped, set[str]())


def _warn_of_unknown(stopped: frozenset[str], reported: set[str], templates: Sequence[str]) -> None:
    from otel_coach.configuration.names import unknown_endpoints  # noqa: PLC0415 - only for a list
    from otel_coach.core.traps import STOPPED_ENDPOINT  # noqa: PLC0415 - only for a list

    for values in unknown_endpoints(stopped, templates):
        if values["endpoint"] in reported:
            continue
        reported.add(values["endpoint"])
        _logger.warning("otel-coach: %s", STOPPED_ENDPOINT.found(**values))


def _model_calls(parts: InstallationParts) -> ModelArguments:
    settings, providers = parts.settings, parts.providers
    return {
        "stops": bool(settings.stop_abandoned),
        "recorder": providers.recorder,
        "tracer": _tracer(parts),
        "prices": parts.prices,
        "reported": parts.reported,
        "content": {
            "on_spans": settings.captures_on_spans,
            "on_events": settings.captures_on_events,
            "limit": settings.content_limit,
            "redactor": settings.content_redactor,
        },
        "events": providers.logger_provider.get_logger(_SCOPE, otel_coach.__version__),
    }


def _direct_calls(parts: InstallationParts) -> ClientArguments:
    return {**_model_calls(parts), "announce": parts.serving.announce}


def _dependencies(parts: InstallationParts) -> ProbeArguments:
    settings = parts.settings
    return {
        "recorder": parts.providers.recorder,
        "addresses": settings.dependencies,
        "interval": settings.dependency_interval,
        "timeout": settings.dependency_timeout,
    }


def _tracer(parts: InstallationParts) -> Tracer:
    return parts.providers.tracer_provider.get_tracer(_SCOPE, otel_coach.__version__)


ARGUMENTS: Final[Mapping[str, Callable[[InstallationParts], Mapping[str, object]]]] = {
    ASGI: _asgi,
    LANGCHAIN: _model_calls,
    OPENAI: _direct_calls,
    ANTHROPIC: _direct_calls,
    DEPENDENCIES: _dependencies,
}
"""By entry point, the function that makes the instrumentor's arguments."""
