"""Instruments that are not ours: the application's own meters and the stock instrumentations'.

They pass the same budgets before they reach the SDK: what never comes in takes no memory, is in no
exemplar, and looks the same on the page and in OTLP.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Final, cast

import wrapt
from opentelemetry.metrics import NoOpMeter, Observation

from otel_coach.cardinality import lines_of_a_histogram
from otel_coach.catalogue import CATALOGUE, family_name
from otel_coach.guards import guarded
from otel_coach.vocabulary import ALLOWED_LABELS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from opentelemetry.metrics import CallbackOptions, Meter
    from opentelemetry.util.types import Attributes

    from otel_coach.budgets import Budgets
    from otel_coach.recorder import Recorder

_logger = logging.getLogger("otel_coach")

_BOUNDS_OF_THE_SDK: Final = 15
"""Bounds of a histogram whose instrument advises none."""
_OURS: Final = frozenset(family_name(metric.name, metric.unit) for metric in CATALOGUE)


class ForeignMeters:
    """Puts the budgets around meters of others.

    Args:
        recorder: where faults of ours go.
        budgets: the process's.
        admitted: labels by instrument beyond the allowed ones, as the operator wants them.
    """

    def __init__(
        self, recorder: Recorder, budgets: Budgets, admitted: Mapping[str, Iterable[str]]
    ) -> None:
        self.recorder = recorder
        self._budgets = budgets
        self._gave_way = set[str]()
        self.has_measured = False
        """Whether an instrument of the application was measured in this process."""
        self.is_asked = False
        """Whether there is one that tells its figures when it is asked for them."""
        self._admitted = {name: frozenset(labels) for name, labels in admitted.items()}

    @guarded
    def bounded(self, meter: Meter) -> Meter:
        """`meter`, with instruments that keep to the budgets."""
        return cast("Meter", _Meter(meter, self))

    @guarded
    def gives_way(self, name: str, unit: str, lines: int) -> bool:
        """Whether an instrument is not to be measured: one of ours has its name, or too many.

        `lines` are those of one series of it. They are kept for what it measures without labels.
        """
        if family_name(name, unit) in _OURS:
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
            budgets.has_place_for_instrument(name.lower()) and budgets.has_lines(name, (), lines)
        )

    @guarded
    def attributes(self, name: str, attributes: Attributes, lines: int = 1) -> dict[str, str]:
        """What of `attributes` becomes labels of the instrument `name`, as text.

        Nothing where the page has no `lines` for another series.
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
        told = [part for item in labels.items() for part in item]
        return labels if budgets.has_lines(name, told, lines) else {}

    def observing(
        self, name: str, callback: Callable[..., Iterable[Observation]] | Generator[Any, Any, Any]
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        """`callback` of an observable instrument, its observations bounded."""
        if isinstance(callback, Generator):
            next(callback)  # as the SDK would: to its first yield, from where it can be asked
            ask = callback.send
        else:
            ask = callback

        self.is_asked = True

        def bounded(options: CallbackOptions) -> Iterable[Observation]:
            try:
                observations = ask(options)
            except StopIteration:
                return
            for one in observations:
                attributes = self.attributes(name, one.attributes) or {}
                yield Observation(one.value, attributes, one.context)

        return bounded


def _nothing(how: str, name: str) -> Any:
    """An instrument that does nothing; of a new meter, because one remembers all names."""
    return getattr(NoOpMeter("otel_coach"), how)(name)


class _Meter(wrapt.ObjectProxy):  # type: ignore[type-arg] - generic in its stubs only
    """A meter whose instruments are bounded; all else is the meter's own."""

    def __init__(self, meter: Meter, foreign: ForeignMeters) -> None:
        super().__init__(meter)
        self._self_foreign = foreign

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

    def _self_create(self, how: str, name: str, unit: str = "", *args: Any, **kwargs: Any) -> Any:
        foreign = self._self_foreign
        lines = 1
        if how == "create_histogram":
            bounds = kwargs.get("explicit_bucket_boundaries_advisory")
            lines = lines_of_a_histogram(_BOUNDS_OF_THE_SDK if bounds is None else len(bounds))
        if foreign.gives_way(name, unit, lines):
            return _nothing(how, name)
        instrument = getattr(self.__wrapped__, how)(name, unit, *args, **kwargs)
        return _Instrument(instrument, foreign, name, lines)

    def _self_observe(
        self,
        how: str,
        name: str,
        callbacks: Sequence[Any] | None = None,
        unit: str = "",
        description: str = "",
    ) -> Any:
        foreign = self._self_foreign
        if foreign.gives_way(name, unit, 1):
            return _nothing(how, name)
        bounded = [foreign.observing(name, callback) for callback in callbacks or ()]
        return getattr(self.__wrapped__, how)(name, bounded, unit, description)


class _Instrument(wrapt.ObjectProxy):  # type: ignore[type-arg] - as above
    """A synchronous instrument that is measured under bounded attributes."""

    def __init__(self, instrument: Any, foreign: ForeignMeters, name: str, lines: int) -> None:
        super().__init__(instrument)
        self._self_lines = lines
        self._self_foreign = foreign
        self._self_name = name

    def add(self, amount: float, attributes: Attributes = None, context: Any = None) -> None:
        self.__wrapped__.add(amount, self._self_bounded(attributes), context)

    def record(self, amount: float, attributes: Attributes = None, context: Any = None) -> None:
        self.__wrapped__.record(amount, self._self_bounded(attributes), context)

    def set(self, amount: float, attributes: Attributes = None, context: Any = None) -> None:
        self.__wrapped__.set(amount, self._self_bounded(attributes), context)

    def _self_bounded(self, attributes: Attributes) -> dict[str, str]:
        self._self_foreign.has_measured = True
        foreign = self._self_foreign
        return foreign.attributes(self._self_name, attributes, self._self_lines) or {}
