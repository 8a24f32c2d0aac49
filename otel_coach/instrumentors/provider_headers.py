"""Keeps trace context and baggage from providers, and ignores those of untrusted callers.

Outgoing: a user's trace context and baggage must not leave the service in a call of a provider.
Three kinds of code inject them:

- Code that uses the global propagator (the contrib instrumentations of HTTP clients, a provider's
  own package) gets `Withholding`, which injects nothing while a model call is open, nor while the
  current span is that of an instrumentation of a provider's package.
- openllmetry uses OpenTelemetry's own propagators directly: their `inject` is patched to do the
  same. This and `Withholding` need public API only.
- The anthropic package also injects where no span identifies the call (nothing is traced, or not
  sampled), and then sends the baggage alone. So a private function of the package is patched:
  `anthropic._tracing.trace_headers(span)`, which in version 2.14 returns all tracing headers (trace
  context and baggage) that the package adds to a request. If a version has `_tracing` without this
  function, one log line says so, and `Withholding` still withholds what goes through it. Versions
  without `_tracing` inject nothing.

Incoming: the trace context and baggage of an untrusted caller are not extracted from the request,
whichever code tries to: the contrib instrumentations, FastAPI's telemetry and mounted applications
do it with the same propagators. Extraction from anything else is left alone: a message of a queue,
or the application's own copy of a request's headers.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import wraps
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import propagate, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators import textmap
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from otel_coach.core import compatibility
from otel_coach.core.guard import guarded
from otel_coach.core.import_hooks import when_imported
from otel_coach.core.installed import is_installed
from otel_coach.core.known_scopes import calls_a_provider
from otel_coach.core.patching import replace_method, undo_all
from otel_coach.core.spans import distrusts_caller, is_inside_call

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from otel_coach.core.guard import CountsFaults

_ANTHROPIC: Final = "anthropic._tracing"


class Withholding(textmap.TextMapPropagator):
    """Wraps the host's propagator: injects nothing for providers, ignores untrusted callers."""

    def __init__(
        self,
        host_propagator: textmap.TextMapPropagator,
        is_for_a_provider: Callable[[Context | None], bool | None],
        is_trusted: Callable[[object], bool | None],
    ) -> None:
        self.host_propagator = host_propagator
        self._is_for_a_provider = is_for_a_provider
        self._is_trusted = is_trusted

    @property
    def fields(self) -> set[str]:
        return self.host_propagator.fields

    def extract(
        self,
        carrier: textmap.CarrierT,
        context: Context | None = None,
        getter: textmap.Getter[textmap.CarrierT] = textmap.default_getter,
    ) -> Context:
        if not self._is_trusted(carrier):
            return Context() if context is None else context
        return self.host_propagator.extract(carrier, context, getter)

    def inject(
        self,
        carrier: textmap.CarrierT,
        context: Context | None = None,
        setter: textmap.Setter[textmap.CarrierT] = textmap.default_setter,
    ) -> None:
        if not self._is_for_a_provider(context):
            self.host_propagator.inject(carrier, context, setter)


class ProviderHeaders:
    """Applies this module's restrictions from `start` to `stop`.

    Args:
        recorder: counts otel-coach's own errors.
        withholds: whether trace context and baggage are kept from providers.
        trusts: returns whether an ASGI scope's caller is trusted; None trusts all callers.
    """

    def __init__(
        self,
        recorder: CountsFaults,
        *,
        withholds: bool = True,
        trusts: Callable[[Any], bool] | None = None,
    ) -> None:
        self.recorder = recorder
        self._withholds = withholds
        self._trusts = trusts
        self._undo: list[Callable[[], None]] = []
        self._is_started = False
        self._is_patched = False

    @guarded
    def start(self) -> None:
        """Wraps the global propagator; called again in case the application has set another one."""
        current = propagate.get_global_textmap()
        if not isinstance(current, Withholding):
            propagate.set_global_textmap(
                Withholding(current, self.is_for_a_provider, self.is_trusted)
            )
        if self._is_started:
            return
        self._is_started = True
        for cls in (TraceContextTextMapPropagator, W3CBaggagePropagator):
            if self._withholds:
                self._undo.append(replace_method(cls, "inject", self._withholding))
            if self._trusts is not None:
                self._undo.append(replace_method(cls, "extract", self._ignoring_untrusted))
        if self._withholds:
            when_imported(_ANTHROPIC, self._patch)

    @guarded
    def is_for_a_provider(self, context: Context | None) -> bool:
        """Whether headers injected in `context` (None: the current one) go to a provider."""
        if not self._withholds:
            return False
        if is_inside_call(context):
            return True
        # The API's own spans have no instrumentation scope; spans that can be exported have one.
        scope = getattr(trace.get_current_span(context), "instrumentation_scope", None)
        return calls_a_provider(getattr(scope, "name", ""))

    @guarded  # returns None after an error: the caller is not trusted
    def is_trusted(self, carrier: object) -> bool:
        """Whether `carrier` is anything but a request of an untrusted caller."""
        if self._trusts is None:
            return True
        if distrusts_caller.get():
            return not _is_request(carrier)
        # A middleware around the whole application may extract before otel-coach's middleware runs.
        return not _is_scope(carrier) or self._trusts(carrier)

    def _ignoring_untrusted(self, extract: Callable[..., Context]) -> Callable[..., Context]:
        """Wraps `extract`, a propagator's method, to ignore the requests of untrusted callers."""

        @wraps(extract)
        def extracted(
            propagator: object,
            carrier: object,
            context: Context | None = None,
            *args: Any,
            **kwargs: Any,
        ) -> Context:
            if not self.is_trusted(carrier):
                return Context() if context is None else context
            return extract(propagator, carrier, context, *args, **kwargs)

        return extracted

    def _withholding(self, inject: Callable[..., None]) -> Callable[..., None]:
        """Wraps `inject`, a propagator's method, to inject nothing that would go to a provider."""

        @wraps(inject)
        def injected(
            propagator: object,
            carrier: object,
            context: Context | None = None,
            *args: Any,
            **kwargs: Any,
        ) -> None:
            if not self.is_for_a_provider(context):
                inject(propagator, carrier, context, *args, **kwargs)

        return injected

    def stop(self) -> None:
        """Removes all patches and restores the host's propagator."""
        self._is_started = self._is_patched = False
        undo_all(self._undo)
        self._undo.clear()
        current = propagate.get_global_textmap()
        if isinstance(current, Withholding):
            propagate.set_global_textmap(current.host_propagator)

    @guarded  # an exception here would break the host's own import
    def _patch(self, module: ModuleType) -> None:
        if not self._is_started or self._is_patched:  # an import hook cannot be unregistered
            return
        self._is_patched = True
        if compatibility.holds(compatibility.ANTHROPIC_HEADERS):
            self._undo.append(replace_method(module, "trace_headers", _without_headers))


def knows_trace_headers() -> bool:
    """Whether the anthropic package makes trace headers as expected, or does not trace at all.

    Versions before 2.14 do not trace, and have no such module.
    """
    if not is_installed(_ANTHROPIC):
        return True
    return hasattr(import_module(_ANTHROPIC), "trace_headers")


def _is_request(carrier: object) -> bool:
    """Whether `carrier` is an ASGI scope, a WSGI environ, or an object of Starlette's."""
    if _is_scope(carrier) or (isinstance(carrier, Mapping) and "wsgi.version" in carrier):
        return True
    return any(cls.__module__.startswith("starlette.") for cls in type(carrier).__mro__)


def _is_scope(carrier: object) -> bool:
    return isinstance(carrier, Mapping) and carrier.get("type") in ("http", "websocket")


def _without_headers(_original: Callable[..., Any]) -> Callable[..., dict[str, str]]:
    def trace_headers(*_args: object, **_kwargs: object) -> dict[str, str]:
        return {}

    return trace_headers
