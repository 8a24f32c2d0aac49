"""Builds the SDK's View from the allowed labels, so that no other attributes become labels."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.metrics.view import View

from otel_coach.metrics.catalogue import CATALOGUE
from otel_coach.metrics.labels import ALLOWED_LABELS, LABEL_SET, LIMITS
from otel_coach.metrics.series_bound import max_series

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from opentelemetry.sdk.metrics.view import Aggregation

_LIMIT: Final = "aggregation_cardinality_limit"
_KNOWS_LIMIT: Final = _LIMIT in inspect.signature(View).parameters
"""True from SDK 1.45.2 on; older versions have no such limit."""


def build_views(
    admitted: Collection[str] = (),
    budgets: Mapping[str, int] | None = None,
    aggregation: Aggregation | None = None,
) -> Sequence[View]:
    """Returns one View for all instruments of the process, otel-coach's and others.

    It is one View because the SDK exports an instrument twice if two Views match it. Buckets are
    not set here: each instrument advises its own, and both the SDK's default `aggregation` and
    otel-coach's own follow that advice.

    `admitted` are the labels that an operator admits to some of the application's instruments;
    `sdk.bounded_meters` keeps them from all others. `budgets` overrides the default sizes. The
    SDK's own limit, past which it would add a label of its own, is set higher than any instrument
    can reach: otel-coach's are bounded by `max_series`, others by the limit for label sets, past
    which few combinations remain.
    """
    limit: dict[str, Any] = {_LIMIT: _out_of_reach(budgets or {})} if _KNOWS_LIMIT else {}
    allowed = {*ALLOWED_LABELS, *admitted}
    return [
        View(instrument_name="*", attribute_keys=allowed, aggregation=aggregation, **limit),
    ]


def _out_of_reach(budgets: Mapping[str, int]) -> int:
    label_sets = {**LIMITS, **budgets}[LABEL_SET]
    most = max(max_series(metric, budgets) for metric in CATALOGUE)
    return max(2 * label_sets, most) + 1000
