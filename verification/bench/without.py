"""The measured services without one of the optimisations, for `verification.bench.weighed`.

`BENCH_WITHOUT` names the optimisation: `encoder` (OpenTelemetry's own code encodes spans) or
`switch_interval` (a scrape does not change the interpreter's switch interval).
"""

from __future__ import annotations

import os

from otel_coach.core.patching import undone
from otel_coach.prometheus.background import ShortSwitchInterval
from otel_coach.setup import installation

without = os.environ["BENCH_WITHOUT"]
if without == "switch_interval":
    from verification.bench.scraped_app import app

    ShortSwitchInterval.__enter__ = ShortSwitchInterval.__exit__ = lambda *_: None  # type: ignore[method-assign]
else:
    from verification.bench.app import app

    installed = installation._installed  # noqa: SLF001 - there is no setting for this
    assert installed is not None  # noqa: S101
    undone(installed.providers._exporters._undo)  # noqa: SLF001

__all__ = ["app"]
