"""The OTEL_* variables that the installed packages name."""

import ast
import functools
import re
from importlib.metadata import distributions, entry_points
from pathlib import Path

_VARIABLE = re.compile(r"OTEL_[A-Z0-9_]*[A-Z0-9]")


def constants(path):
    """The strings of a module that are names of variables and nothing else."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text and _VARIABLE.fullmatch(node.value):
            yield node.value


@functools.cache
def documented():
    """What the installed packages of OpenTelemetry name, by the file that does."""
    found = {}
    for distribution in distributions():
        if not distribution.metadata["Name"].startswith("opentelemetry-"):
            continue
        for file in distribution.files or ():
            if file.suffix == ".py":
                path = Path(distribution.locate_file(file))
                found.update({name: str(file) for name in constants(path)})
    for entry_point in entry_points(group="opentelemetry_environment_variables"):
        if entry_point.name != "otel_coach":
            for value in vars(entry_point.load()).values():
                if isinstance(value, str) and _VARIABLE.fullmatch(value):
                    found.setdefault(value, entry_point.value)
    return found
