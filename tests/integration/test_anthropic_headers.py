"""What the anthropic package tells a provider of a user, in a process of its own."""

import io
import logging
import sys
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

from otel_coach.testing import measuring
from tests.support.processes import alone


def with_anthropic(source):
    """What the private module of an anthropic package says, while we are there and afterwards."""
    with TemporaryDirectory() as folder:
        package = Path(folder) / "anthropic"
        package.mkdir()
        (package / "__init__.py").write_text("")
        (package / "_tracing.py").write_text(source)
        sys.path.insert(0, folder)
        logged = io.StringIO()
        logging.basicConfig(stream=logged)
        with measuring():
            ask = getattr(import_module("anthropic._tracing"), "trace_headers", dict)
            during = ask()
        ask = getattr(sys.modules["anthropic._tracing"], "trace_headers", dict)
        return during, ask(), logged.getvalue()


def as_it_is():
    return with_anthropic('def trace_headers(span=None):\n    return {"baggage": "user_id=anna"}\n')


def changed():
    return with_anthropic("")


def test_the_anthropic_package_adds_nothing_while_we_are_there():
    assert alone(as_it_is)[:2] == [{}, {"baggage": "user_id=anna"}]


def test_an_anthropic_package_that_changed_is_left_alone_and_that_is_said():
    during, afterwards, logged = alone(changed)
    assert during == afterwards == {}
    assert "ANTHROPIC_OPEN_TELEMETRY_PROPAGATION=false" in logged
