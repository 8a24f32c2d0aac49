"""Cardinality budgets for instruments that otel-coach did not create.

These are the instruments of the application and of OpenTelemetry's contrib instrumentations. The
budgets are applied before a measurement reaches the SDK: what they drop uses no memory, is in no
exemplar, and is missing from the Prometheus page and from OTLP alike.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Sized
from typing import TYPE_CHECKING, Any, Final, cast

import wrapt
from opentelemetry.metrics import NoOpMeter, Observation

from otel_coach.core.guard import guarded
from otel_coach.metrics.catalogue import CATALOGUE, InstrumentKind, family_name
from otel_coach.metrics.labels import ALLOWED_LABELS
from otel_coach.metrics.series_bound import lines_of_a_histogram
from otel_coach.sdk.page_names import page_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from opentelemetry.metrics import CallbackOptions, Meter
    from opentelemetry.util.types import Attributes

    from otel_coach.core.guard import CountsFaults
    from otel_coach.metrics.cardinality import Budgets

_logger = logging.getLogger("otel_coach")

_DEFAULT_BOUNDS: Final = 15
"""Number of bucket bounds that the SDK uses for a histogram whose instrument advises none."""
_OWN_FAMILIES: Final = frozenset(family_name(metric.name, metric.unit) for metric in CATALOGUE)


class BoundedMeters:
    """Wraps meters so that their instruments keep to the budgets.

    Args:
        recorder: counts otel-coach's own faults.
        budgets: the budgets of this process.
        admitted: by instrument name, the labels that the operator admits beyond `ALLOWED_LABELS`.
    """

    def __init__(
        self, recorder: CountsFaults, budgets: Budgets, admitted: Mapping[str, Iterable[str]]
    ) -> None:
        self.recorder = recorder
        self._budgets = budgets
        self._gave_way = set[str]()
        self.measurements = 0
        """About how often synchronous instruments were measured in this process; threads that count
        at the same moment may lose a count."""
        self.has_observables = False
        """Whether there is an observable instrument, which is measured only on collection."""
        self._admitted = {name: frozenset(labels) for name, labels in admitted.items()}

    @guarded
    def bounded(self, meter: Meter) -> Meter:
        """Returns `meter`, wrapped so that its instruments keep to the budgets."""
        return cast("Meter", _Meter(meter, self))

    @guarded
    def gives_way(self, name: str, unit: str, kind: InstrumentKind, lines: int) -> bool:
        """Returns whether an instrument must not be measured.

        That is so if one of otel-coach's own metrics has its name on the page, or if the budget of
        instruments or that of lines on the page is used up. `lines` is how many lines one series of
        the instrument takes on the page. If the instrument may be measured, that many are reserved
        for its series without labels.
        """
        # Without `_total`, because a gauge may have the name of a counter's samples.
        if page_name(name, unit, kind).removesuffix("_total") in _OWN_FAMILIES:
            if name not in self._gave_way:
                self._gave_way.add(name)
                _logger.warning(
                    "otel-coach: the instrument %s gives way to otel-coach's own metric of that "
                    "name; rename it",
                    name,
                )
            return True
        budgets = self._budgets
        return not (
            budgets.take_slot_for_instrument(name.lower()) and budgets.take_lines(name, (), lines)
        )

    @guarded
    def attributes(self, name: str, attributes: Attributes, lines: int = 1) -> dict[str, str]:
        """Returns those of `attributes` that become labels of the instrument `name`, as text.

        Returns none of them if the page has no `lines` left for another series.
        """
        if not attributes:
            return {}
        admitted = ALLOWED_LABELS | self._admitted.get(name, frozenset())
        kept = sorted(key for key in attributes if key in admitted)
        if not kept:
            return {}
        budgets = self._budgets
        single = [budgets.bounded(key, attributes[key], name) for key in kept]
        labels = dict(zip(kept, budgets.together(name, kept, single), strict=True))
        parts = [part for item in labels.items() for part in item]
        return labels if budgets.take_lines(name, parts, lines) else {}

    def observing(
        self, name: str, callback: Callable[..., Iterable[Observation]] | Generator[Any, Any, Any]
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        """Wraps the `callback` of an observable instrument so that its observations are bounded."""
        if isinstance(callback, Generator):
            next(callback)  # as the SDK does: runs to the first yield, so that `send` works
            observe = callback.send
        else:
            observe = callback

        self.has_observables = True

        def bounded(options: CallbackOptions) -> Iterable[Observation]:
            try:
                observations = observe(options)
            except StopIteration:
                return
            for observation in observations:
                attributes = self.attributes(name, observation.attributes) or {}
                yield Observation(observation.value, attributes, observation.context)

        return bounded


def _no_op_instrument(method: str, name: str) -> Any:
    """Returns a no-op instrument of a new meter: a shared meter would remember all names."""
    return getattr(NoOpMeter("otel_coach"), method)(name)


def _kind(method: str) -> InstrumentKind:
    """Returns the kind of the instrument that `method` of a meter makes, as the page shows it."""
    if method in {"create_counter", "create_observable_counter"}:
        return InstrumentKind.COUNTER
    is_histogram = method == "create_histogram"
    return InstrumentKind.HISTOGRAM if is_histogram else InstrumentKind.GAUGE


class _Meter(wrapt.ObjectProxy):  # type: ignore[type-arg] - generic in its stubs only
    """A meter whose instruments are bounded; everything else is passed to the wrapped meter."""

    def __init__(self, meter: Meter, bounded_meters: BoundedMeters) -> None:
        super().__init__(meter)
        self._self_bounded_meters = bounded_meters

    def create_counter(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return self._self_create("create_counter", name, *args, **kwargs)

    def create_up_down_counter(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return self._self_create("create_up_down_counter", name, *args, **kwargs)

    def create_histogram(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return self._self_create("create_histogram", name, *args, **kwargs)

    def create_gauge(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return self._self_create("create_gauge", name, *args, **kwargs)

    def create_observable_counter(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return self._self_observe("create_observable_counter", name, *args, **kwargs)

    def create_observable_up_down_counter(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return self._self_observe("create_observable_up_down_counter", name, *args, **kwargs)

    def create_observable_gauge(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return self._self_observe("create_observable_gauge", name, *args, **kwargs)

    def _self_create(
        self, method: str, name: str, unit: str = "", *args: Any, **kwargs: Any
    ) -> Any:
        bounded_meters = self._self_bounded_meters
        lines = 1
        if method == "create_histogram":
            bounds = kwargs.get("explicit_bucket_boundaries_advisory")
            is_sized = isinstance(bounds, Sized)  # the SDK rejects others, and uses its own
            lines = lines_of_a_histogram(len(bounds) if is_sized else _DEFAULT_BOUNDS)
        if bounded_meters.gives_way(name, unit, _kind(method), lines):
            return _no_op_instrument(method, name)
        instrument = getattr(self.__wrapped__, method)(name, unit, *args, **kwargs)
        return _Instrument(instrument, bounded_meters, name, lines)

    def _self_observe(
        self,
        method: str,
        name: str,
        callbacks: Sequence[Any] | None = None,
        unit: str = "",
        description: str = "",
    ) -> Any:
        bounded_meters = self._self_bounded_meters
        if bounded_meters.gives_way(name, unit, _kind(method), 1):
            return _no_op_instrument(method, name)
        bounded = [bounded_meters.observing(name, callback) for callback in callbacks or ()]
        return getattr(self.__wrapped__, method)(name, bounded, unit, description)


class _Instrument(wrapt.ObjectProxy):  # type: ignore[type-arg] - as above
    """A synchronous instrument that bounds the attributes of its measurements."""

    def __init__(
        self, instrument: Any, bounded_meters: BoundedMeters, name: str, lines: int
    ) -> None:
        super().__init__(instrument)
        self._self_lines = lines
        self._self_bounded_meters = bounded_meters
        self._self_name = name

    def add(self, amount: float, attributes: Attributes = None, context: Any = None) -> None:
        self.__wrapped__.add(amount, self._self_bounded(attributes), context)

    def record(self, amount: float, attributes: Attributes = None, context: Any = None) -> None:
        self.__wrapped__.record(amount, self._self_bounded(attributes), context)

    def set(self, amount: float, attributes: Attributes = None, context: Any = None) -> None:
        self.__wrapped__.set(amount, self._self_bounded(attributes), context)

    def _self_bounded(self, attributes: Attributes) -> dict[str, str]:
        bounded_meters = self._self_bounded_meters
        bounded_meters.measurements += 1
        return bounded_meters.attributes(self._self_name, attributes, self._self_lines) or {}
