"""Writes the recording rules and alerts as YAML for Prometheus 2.42 or newer."""

from __future__ import annotations

from textwrap import indent
from typing import TYPE_CHECKING, Final

import yaml

from tools.monitoring.alerts import ALERTS, RECORDS

if TYPE_CHECKING:
    from tools.monitoring.rule import Alert, Record

RUNBOOKS: Final = "https://github.com/otel-coach/otel-coach/blob/main/docs/runbooks.md"

_HEADER: Final = (
    "# Generated from otel_coach/metrics/catalogue.py by `make rules`, which overwrites the file\n"
    "# in otel-coach's repository; a copy of `otel-coach rules` is yours to change.\n"
)


_OPERATORS_HEAD: Final = """\
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: otel-coach
spec:
"""


def text() -> str:
    """Returns the rules as a rule file for Prometheus."""
    return _HEADER + _groups()


def operators_text() -> str:
    """Returns the same rules as a PrometheusRule resource for the Prometheus operator."""
    return _HEADER + _OPERATORS_HEAD + indent(_groups(), "  ")


def _groups() -> str:
    groups = [
        # The long windows read days of samples: evaluating them more often would be wasted work.
        {
            "name": "otel-coach-records",
            "interval": "1m",
            "rules": [_record(record) for record in RECORDS],
        },
        {"name": "otel-coach-alerts", "rules": [_alert(alert) for alert in ALERTS]},
    ]
    return yaml.dump({"groups": groups}, Dumper=_Dumper, sort_keys=False, width=110)


def _record(record: Record) -> dict[str, object]:
    return {"record": record.name, "expr": record.expr}


def _alert(alert: Alert) -> dict[str, object]:
    return {
        "alert": alert.name,
        "expr": alert.expr,
        "for": alert.hold,
        "keep_firing_for": alert.keep,
        "labels": {"severity": alert.severity, **alert.labels},
        "annotations": {
            "summary": alert.summary,
            "description": alert.description,
            "runbook_url": f"{RUNBOOKS}#{alert.name.lower()}",
        },
    }


class _Dumper(yaml.SafeDumper):
    """Writes expressions of several lines as YAML block scalars."""


def _block_scalar(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _block_scalar)
