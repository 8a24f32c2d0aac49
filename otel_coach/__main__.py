"""`python -m otel_coach`: the same as the command `otel-coach`."""

import sys

from otel_coach.cli import main

if __name__ == "__main__":
    sys.exit(main())
