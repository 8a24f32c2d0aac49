"""From the vocabulary to SDK Views: the only attributes that become labels."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.metrics.view import View

from otel_coach.vocabulary import ALLOWED_LABELS, LABEL_SET, LIMITS

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from opentelemetry.sdk.metrics.view import Aggregation

_LIMIT: Final = "aggregation_cardinality_limit"
_KNOWS_LIMIT: Final = _LIMIT in inspect.signature(View).parameters
"""From SDK 1.45.2 on; before, it has no limit."""


def build_views(
    admitted: Collection[str] = (),
    label_sets: int = LIMITS[LABEL_SET],
    aggregation: Aggregation | None = None,
) -> Sequence[View]:
    """One View for every instrument of the process, ours and others'.

    One, because the SDK gives an instrument that two Views match twice. Buckets are not set
    here but advised by each instrument, which the default `aggregation` respects, and ours.

    `admitted` are labels that an operator admits to instruments of his own; to which of them,
    `foreign` sees to. `label_sets` is how many combinations an instrument may have. The SDK's
    own limit, past which it would show a label of its own, is set beyond what can be reached.
    """
    limit: dict[str, Any] = {_LIMIT: 2 * label_sets + 1000} if _KNOWS_LIMIT else {}
    allowed = {*ALLOWED_LABELS, *admitted}
    return [
        View(instrument_name="*", attribute_keys=allowed, aggregation=aggregation, **limit),
    ]
