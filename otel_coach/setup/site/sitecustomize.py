"""Imported by Python at the start of each process that `otel-coach run` starts, or its workers."""

import sys

if __name__ == "sitecustomize":  # not where somebody imports all modules of the package
    try:
        from otel_coach.setup.launch import initialize

        initialize()
    except ImportError as error:
        sys.stderr.write(
            f"otel-coach run: {sys.executable} is not instrumented: {error}. Install otel-coach "
            "into the environment of that Python\n"
        )
