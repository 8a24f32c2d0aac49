"""The measured services without one of the optimisations, for `verification.bench.weighed`.

`BENCH_WITHOUT` names the optimisation: `encoder` (OpenTelemetry's own code encodes spans) or
`switch_interval` (a scrape does not change the interpreter's switch interval).
"""

from __future__ import annotations

import os

from otel_coach.prometheus.background import ShortSwitchInterval
from otel_coach.sdk.exporters import Exporters

without = os.environ["BENCH_WITHOUT"]
if without == "switch_interval":
    from verification.bench.scraped_app import app

    ShortSwitchInterval.__enter__ = ShortSwitchInterval.__exit__ = lambda *_: None  # type: ignore[method-assign]
else:
    from verification.bench.app import app

    # The exporter is created with its first batch, and would get otel-coach's encoder then.
    Exporters._encode_fast = lambda *_: None  # type: ignore[method-assign] # noqa: SLF001 - no setting

__all__ = ["app"]
