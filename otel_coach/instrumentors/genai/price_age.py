"""The gauge that tells how old the price list is."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from otel_coach.metrics.catalogue import PRICE_LIST_AGE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_coach.metrics.recorder import Recorder
    from otel_coach.pricing.price_list import PriceList


def observe_age(recorder: Recorder, prices: PriceList) -> None:
    """Creates the gauge. Called by each instrumentor that computes costs by `prices`."""
    recorder.observe(PRICE_LIST_AGE, partial(_age, prices))


def _age(prices: PriceList) -> Mapping[tuple[object, ...], float]:
    age = prices.age_days()
    return {} if age is None else {(): age}
