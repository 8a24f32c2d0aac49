"""The measured service without one of the optimisations, for `verification.bench.weighed`.

OpenTelemetry's own code encodes spans in it.
"""

from __future__ import annotations

from otel_coach.sdk.exporters import Exporters
from verification.bench.app import app

# The exporter is created with its first batch, and would get otel-coach's encoder then.
Exporters._encode_fast = lambda *_: None  # type: ignore[method-assign] # noqa: SLF001 - no setting

__all__ = ["app"]
