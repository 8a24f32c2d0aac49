"""From the vocabulary to SDK Views: the only attributes that become labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.sdk.metrics.view import View

from otel_coach.vocabulary import ALLOWED_LABELS

if TYPE_CHECKING:
    from collections.abc import Sequence


def build_views() -> Sequence[View]:
    """One View for every instrument of the process, ours and others'.

    One, because the SDK gives an instrument that two Views match twice. Buckets are not set
    here but advised by each instrument, which a View without an aggregation respects.
    """
    return [View(instrument_name="*", attribute_keys=set(ALLOWED_LABELS))]
