"""Commands of the Makefile, run as a person runs them."""

import os
import subprocess
import sys

import pytest

from tests.support.paths import ROOT


@pytest.mark.parametrize("module", ["verification.end_to_end", "verification.end_to_end.up"])
def test_without_its_tools_it_says_so_in_one_line_and_ends(module, tmp_path):
    environment = {**os.environ, "PATH": str(tmp_path), "OTELCOL": "/no/such/program"}
    command = [sys.executable, "-m", module]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "OTELCOL=/no/such/program is no program" in done.stdout
    assert not done.stderr
