"""`otel-coach`, run as a person runs it."""

import subprocess

from tests.support.stack import bin_path


def otel_coach(*arguments, **environment):
    return subprocess.run(
        [bin_path("otel-coach"), *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
