"""Spans that are told the same: ours and those of the SDK."""

from opentelemetry.sdk.trace import SpanProcessor


class Curious(SpanProcessor):
    """Wants to see starts: the SDK's own spans are made then."""

    def on_start(self, span, parent_context=None):
        pass
