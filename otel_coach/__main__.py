"""Runs the `otel-coach` command as `python -m otel_coach`."""

import sys

from otel_coach.cli import main

if __name__ == "__main__":
    sys.exit(main())
