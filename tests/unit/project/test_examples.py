"""The reference service, as its code has it."""

import ast

from tests.support.paths import COACHING


def test_the_reference_service_knows_nothing_of_us():
    for path in COACHING.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not any(n.startswith(("otel_coach", "opentelemetry")) for n in names), path
