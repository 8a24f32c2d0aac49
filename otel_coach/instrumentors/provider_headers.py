"""Trace context and baggage that are not to pass: to a provider, and from an untrusted caller.

The trace context and the baggage of a user stay here when a provider is called.

Three ways lead there. Whatever asks the global propagator for headers (the stock instrumentations
of HTTP clients, a provider's own package) goes through `Withholding`, which has none for what runs
inside of a call of a model, nor for a client span that is a provider's. openllmetry asks
OpenTelemetry's own propagators themselves, whose `inject` has none there either. That is public
API.

The anthropic package asks also where it has no span to tell it by (nothing is traced, or not
sampled), and then sends the baggage alone. So a private part of it is relied on:
`anthropic._tracing.trace_headers(span)`, of 2.14, by which it gets all that it adds to a request.
Where a version has `_tracing` without it, one line says so, and what `Withholding` sees is still
withheld. Versions without `_tracing` send nothing.

The other way, those of a caller who is not trusted are not taken up, whoever wants to: the stock
instrumentations, FastAPI's telemetry and mounted applications read them from the request by the
same propagators. What else the application reads them from (a message of a queue) is left alone.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, Final

import wrapt
from opentelemetry import propagate, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators import textmap
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from otel_coach.guards import guarded
from otel_coach.known_scopes import calls_a_provider
from otel_coach.patches import replaced, undone
from otel_coach.tracing import distrusts_caller, is_inside_call

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from otel_coach.guards import CountsFaults

_logger = logging.getLogger("otel_coach")
_ANTHROPIC: Final = "anthropic._tracing"


class Withholding(textmap.TextMapPropagator):
    """The host's propagator, which has nothing for a provider or of an untrusted caller."""

    def __init__(
        self,
        hosts: textmap.TextMapPropagator,
        is_for_a_provider: Callable[[Context | None], bool | None],
        is_trusted: Callable[[object], bool | None],
    ) -> None:
        self.hosts = hosts
        self._is_for_a_provider = is_for_a_provider
        self._is_trusted = is_trusted

    @property
    def fields(self) -> set[str]:
        return self.hosts.fields

    def extract(
        self,
        carrier: textmap.CarrierT,
        context: Context | None = None,
        getter: textmap.Getter[textmap.CarrierT] = textmap.default_getter,
    ) -> Context:
        if not self._is_trusted(carrier):
            return Context() if context is None else context
        return self.hosts.extract(carrier, context, getter)

    def inject(
        self,
        carrier: textmap.CarrierT,
        context: Context | None = None,
        setter: textmap.Setter[textmap.CarrierT] = textmap.default_setter,
    ) -> None:
        if not self._is_for_a_provider(context):
            self.hosts.inject(carrier, context, setter)


class ProviderHeaders:
    """Stops them, until it is stopped itself.

    Args:
        recorder: where faults go.
        withholds: providers get none of them.
        trusts: says of an ASGI scope whether its caller's are taken up; None for all.
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
        """Stand before the global propagator; again, where the application set another since."""
        hosts = propagate.get_global_textmap()
        if not isinstance(hosts, Withholding):
            propagate.set_global_textmap(
                Withholding(hosts, self.is_for_a_provider, self.is_trusted)
            )
        if self._is_started:
            return
        self._is_started = True
        for cls in (TraceContextTextMapPropagator, W3CBaggagePropagator):
            if self._withholds:
                self._undo.append(replaced(cls, "inject", self._withheld))
            if self._trusts is not None:
                self._undo.append(replaced(cls, "extract", self._of_the_trusted))
        if self._withholds:
            wrapt.register_post_import_hook(self._patch, _ANTHROPIC)

    @guarded
    def is_for_a_provider(self, context: Context | None) -> bool:
        """Whether headers asked for in `context` (None: the current one) go to a provider."""
        if not self._withholds:
            return False
        if is_inside_call(context):
            return True
        # The API's spans have no scope; the SDK's, and whatever else is exported, have.
        scope = getattr(trace.get_current_span(context), "instrumentation_scope", None)
        return calls_a_provider(getattr(scope, "name", ""))

    @guarded  # what fails is not trusted
    def is_trusted(self, carrier: object) -> bool:
        """Whether what `carrier` holds is taken up: it is no request of an untrusted caller."""
        if self._trusts is None:
            return True
        if distrusts_caller.get():
            return not _is_request(carrier)
        # Also where a middleware around the whole application asks, before we were.
        return not _is_scope(carrier) or self._trusts(carrier)

    def _of_the_trusted(self, extract: Callable[..., Context]) -> Callable[..., Context]:
        """`extract`, a propagator's method, that takes nothing up of an untrusted caller."""

        @wraps(extract)
        def extracted(
            propagator: object,
            carrier: object,
            context: Context | None = None,
            *args: Any,
            **more: Any,
        ) -> Context:
            if not self.is_trusted(carrier):
                return Context() if context is None else context
            return extract(propagator, carrier, context, *args, **more)

        return extracted

    def _withheld(self, inject: Callable[..., None]) -> Callable[..., None]:
        """`inject`, a propagator's method, that has nothing for a provider."""

        @wraps(inject)
        def injected(
            propagator: object,
            carrier: object,
            context: Context | None = None,
            *args: Any,
            **more: Any,
        ) -> None:
            if not self.is_for_a_provider(context):
                inject(propagator, carrier, context, *args, **more)

        return injected

    def stop(self) -> None:
        """Give everything back."""
        self._is_started = self._is_patched = False
        undone(self._undo)
        self._undo.clear()
        current = propagate.get_global_textmap()
        if isinstance(current, Withholding):
            propagate.set_global_textmap(current.hosts)

    @guarded  # what is raised here would break the host's own import
    def _patch(self, module: ModuleType) -> None:
        if not self._is_started or self._is_patched:  # an import hook cannot be taken back
            return
        self._is_patched = True
        try:
            self._undo.append(replaced(module, "trace_headers", _nothing))
        except (AttributeError, KeyError) as missing:
            _logger.warning(
                "otel-coach: this anthropic package has no %s in %s; it may send the baggage of a "
                "user to the provider. ANTHROPIC_OPEN_TELEMETRY_PROPAGATION=false stops it.",
                missing,
                _ANTHROPIC,
            )


def _is_request(carrier: object) -> bool:
    """Whether `carrier` is a request of a server: of ASGI, of WSGI, or Starlette's words for it."""
    if _is_scope(carrier) or (isinstance(carrier, Mapping) and "wsgi.version" in carrier):
        return True
    return any(cls.__module__.startswith("starlette.") for cls in type(carrier).__mro__)


def _is_scope(carrier: object) -> bool:
    return isinstance(carrier, Mapping) and carrier.get("type") in {"http", "websocket"}


def _nothing(_original: Callable[..., Any]) -> Callable[..., dict[str, str]]:
    def trace_headers(*_args: object, **_kwargs: object) -> dict[str, str]:
        return {}

    return trace_headers
