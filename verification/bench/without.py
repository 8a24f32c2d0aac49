"""The measured service without one of the optimisations, for `verification.bench.weighed`.

OpenTelemetry's own code encodes spans in it.
"""

from __future__ import annotations

from otel_coach.core.patching import undo_all
from otel_coach.setup import installation
from verification.bench.app import app

installed = installation._installed  # noqa: SLF001 - there is no setting for this
assert installed is not None  # noqa: S101
undo_all(installed.providers._exporters._undo)  # noqa: SLF001

__all__ = ["app"]
