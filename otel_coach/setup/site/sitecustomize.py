"""Imported at the start of the service that `otel-coach run` starts, and of its workers."""

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
