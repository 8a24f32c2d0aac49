"""`otel-coach`, run as a person runs it."""

import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from unittest.mock import patch

from otel_coach import cli
from tests.support.stack import bin_path


def otel_coach(*arguments, **environment):
    return subprocess.run(
        [bin_path("otel-coach"), *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


def otel_coach_here(*arguments, **environment):
    """The same in this process, which need not import all libraries to look at them."""
    encoding = environment.get("PYTHONIOENCODING", "utf-8")
    output, errors = (io.TextIOWrapper(io.BytesIO(), encoding) for _ in range(2))
    with (
        patch.dict(os.environ, environment, clear=True),
        patch.object(sys, "argv", ["otel-coach", *arguments]),
        redirect_stdout(output),
        redirect_stderr(errors),
    ):
        try:
            code = cli.main()
        except SystemExit as ended:
            code = ended.code
    said = (read(stream) for stream in (output, errors))
    return subprocess.CompletedProcess(arguments, code, *said)


def read(stream):
    stream.seek(0)
    return stream.read()
