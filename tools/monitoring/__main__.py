"""Writes or checks the generated files below deploy/."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from tools.monitoring import dashboard, rules

ROOT: Final = Path(__file__).parents[2]
FILES: Final = {
    "dashboards": {ROOT / "deploy/grafana/dashboards/otel-coach.json": dashboard.text},
    "rules": {
        ROOT / "deploy/prometheus/rules.yml": rules.text,
        ROOT / "deploy/kubernetes/prometheus-rule.yaml": rules.operators_text,
    },
}


def main() -> int:
    """Returns the exit code: 0 if the files were written or are up to date, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tools.monitoring", description=__doc__)
    parser.add_argument("what", choices=FILES)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", action="store_true", help="write the files")
    action.add_argument("--check", action="store_true", help="exit 1 if one is out of date")
    arguments = parser.parse_args()
    stale = 0
    for path, text in FILES[arguments.what].items():
        if arguments.write:
            path.write_text(text(), encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text():
            where = path.relative_to(ROOT)
            sys.stderr.write(
                f"{where} is out of date; write it again with: make dashboards rules\n"
            )
            stale = 1
    return stale


if __name__ == "__main__":
    sys.exit(main())
