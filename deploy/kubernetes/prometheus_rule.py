"""`prometheus_rule.py --write|--check`: our rules as the Prometheus operator takes them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from textwrap import indent
from typing import Final

_HERE: Final = Path(__file__).parent
SOURCE: Final = _HERE.parent / "prometheus" / "rules.yml"
TARGET: Final = _HERE / "prometheus-rule.yaml"
_HEAD: Final = """\
# Generated from deploy/prometheus/rules.yml by deploy/kubernetes/prometheus_rule.py; do not edit.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: otel-coach
spec:
"""


def text() -> str:
    """The same rules, one step further in."""
    lines = SOURCE.read_text(encoding="utf-8").splitlines(keepends=True)
    return _HEAD + indent("".join(line for line in lines if not line.startswith("#")), "  ")


def main() -> int:
    """Exit code 0 if the file is written, or as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", action="store_true", help="write the file")
    action.add_argument("--check", action="store_true", help="exit 1 if it is out of date")
    if parser.parse_args().write:
        TARGET.write_text(text(), encoding="utf-8")
    elif not TARGET.exists() or TARGET.read_text(encoding="utf-8") != text():
        sys.stderr.write(f"{TARGET.name} is out of date; write it again with --write\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
