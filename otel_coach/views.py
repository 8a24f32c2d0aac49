"""Builds the SDK's View from the allowed labels, so that no other attributes become labels."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.metrics.view import View

from otel_coach.metrics.labels import ALLOWED_LABELS, LABEL_SET, LIMITS

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from opentelemetry.sdk.metrics.view import Aggregation

_LIMIT: Final = "aggregation_cardinality_limit"
_KNOWS_LIMIT: Final = _LIMIT in inspect.signature(View).parameters
"""True from SDK 1.45.2 on; older versions have no such limit."""


def build_views(
    admitted: Collection[str] = (),
    label_sets: int = LIMITS[LABEL_SET],
    aggregation: Aggregation | None = None,
) -> Sequence[View]:
    """Returns one View for all instruments of the process, otel-coach's and others.

    It is one View because the SDK exports an instrument twice if two Views match it. Buckets are
    not set here: each instrument advises its own, and both the SDK's default `aggregation` and
    otel-coach's own follow that advice.

    `admitted` are the labels that an operator admits to some of the application's instruments;
    `sdk.bounded_meters` keeps them from all others. `label_sets` is how many combinations of label
    values an instrument may have. The SDK's own limit, past which it would add a label of its own,
    is set higher than any instrument can reach.
    """
    limit: dict[str, Any] = {_LIMIT: 2 * label_sets + 1000} if _KNOWS_LIMIT else {}
    allowed = {*ALLOWED_LABELS, *admitted}
    return [
        View(instrument_name="*", attribute_keys=allowed, aggregation=aggregation, **limit),
    ]
