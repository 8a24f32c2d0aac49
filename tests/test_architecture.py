"""The one-way arrows of docs/architecture.md, read from the code's own imports."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "otel_coach"

# What each room may know of the others. A room stands for all that is below it.
ALLOWED = {
    "vocabulary": set(),
    "catalogue": {"vocabulary"},
    "cardinality": {"budgets", "catalogue", "vocabulary"},
    "views": {"vocabulary"},
    "request": {"tracing", "vocabulary"},
    "otel_variables": set(),
    "log_settings": set(),
    "setting_values": set(),
    "settings": {
        *{"admitted", "environment_variables", "log_settings", "otel_variables", "trust"},
        *{"setting_values", "vocabulary"},
    },
    "admitted": {"environment_variables", "setting_values", "vocabulary"},
    "trust": {"environment_variables"},
    "declarative": {"settings"},
    "pricing": set(),
    "sql": {"sql_quotes"},
    "sql_quotes": set(),
    "interrupts": set(),
    "guards": {"interrupts"},
    "compatibility": {"guards"},
    "alarm": {"guards"},
    "forks": set(),
    "patches": set(),
    "logs": {"patches"},
    "batches": {"compatibility"},
    "tracing": set(),
    "spans": {"guards", "tracing"},
    "known_scopes": set(),
    "provider_spans": {"tracing"},
    "redaction": {
        "guards",
        "known_scopes",
        "provider_spans",
        "recorder",
        "resource",
        "spans",
        "sql",
        "started_spans",
        "tracing",
        "vocabulary",
    },
    "started_spans": {"compatibility"},
    "components": set(),
    "budgets": {"vocabulary"},
    "aggregation": {"catalogue", "tracing"},
    "recorder": {
        *{"aggregation", "alarm", "budgets", "catalogue", "forks", "garbage"},
        *{"guards", "tracing", "vocabulary"},
    },
    "garbage": set(),
    "resource": {"patches", "workers"},
    "forked": {"compatibility"},
    "foreign": {"budgets", "cardinality", "catalogue", "guards", "recorder", "vocabulary"},
    "losses": {"forks", "catalogue", "recorder"},
    "queues": {"losses", "vocabulary"},
    "log_queue": {"logs", "losses", "queues", "vocabulary"},
    "exporting": {"guards", "log_queue", "losses", "otlp", "patches", "queues", "settings"},
    "otlp": {"compatibility", "guards", "patches"},
    "sdk": {
        "forks",
        "batches",
        "budgets",
        "catalogue",
        "compatibility",
        "components",
        "exporting",
        "exposition.reader",
        "foreign",
        "forked",
        "guards",
        "logs",
        "patches",
        "recorder",
        "redaction",
        "resource",
        "settings",
        "views",
        "vocabulary",
    },
    "workers": {"guards"},
    "exposition": {
        *{"aggregation", "catalogue", "compatibility", "exposition.changes", "forks"},
        *{"guards", "recorder", "workers"},
    },
    "exposition.changes": {"catalogue"},
    "exposition.reader": {"catalogue", "exposition.changes", "exposition.scopes"},
    "exposition.scopes": {"catalogue"},
    "serving": {"exposition", "guards", "recorder", "settings", "workers"},
    "instrumentors.asgi": {
        "aggregation",
        "catalogue",
        "compatibility",
        "guards",
        "patches",
        "recorder",
        "request",
        "tracing",
        "vocabulary",
    },
    "instrumentors.langchain": {
        "aggregation",
        "catalogue",
        "compatibility",
        "guards",
        "patches",
        "pricing",
        "recorder",
        "request",
        "tracing",
        "vocabulary",
    },
    "instrumentors.dependencies": {"catalogue", "guards", "recorder", "vocabulary"},
    "instrumentors.provider_headers": {"guards", "known_scopes", "patches", "tracing"},
    "instrumentors.stock": {"guards", "recorder", "request", "tracing"},
    "installation": {
        "forks",
        "environment_variables",
        "exporting",
        "declarative",
        "exposition",
        "instrumentors.asgi",
        "instrumentors.dependencies",
        "instrumentors.langchain",
        "instrumentors.provider_headers",
        "instrumentors.stock",
        "pricing",
        "guards",
        "recorder",
        "sdk",
        "serving",
        "settings",
    },
    "distro": {"environment_variables", "installation", "instrumentors", "instrumentors.stock"},
    "environment_variables": set(),
    "testing": {"installation", "settings"},
    "__main__": {"cli"},
    "cli": {
        "cardinality",
        "catalogue",
        "compatibility",
        "guards",
        "instrumentors.dependencies",
        "settings",
        "vocabulary",
    },
    "": {"installation", "instrumentors.dependencies", "request", "settings"},
}

# Third parties that only these rooms may import.
SDK = {"opentelemetry.sdk", "opentelemetry.exporter"}
MAY_IMPORT_SDK = {
    "batches",
    "components",
    "exporting",
    "forked",
    "log_queue",
    "otlp",
    "queues",
    "exposition.changes",
    "exposition.reader",
    "exposition.scopes",
    "logs",
    "redaction",
    "resource",
    "sdk",
    "spans",
    "started_spans",
    "testing",
    "views",
}


def room_of(module):
    name = module.removeprefix("otel_coach").removeprefix(".")
    return max((room for room in ALLOWED if f"{name}.".startswith(f"{room}.") or not room), key=len)


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports(path, *, for_types=False):
    """Modules imported when the code runs; with `for_types` also those for annotations."""
    tree = ast.parse(path.read_text("utf-8"))
    skipped = set()
    for node in ast.walk(tree):
        is_check = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if is_check and not for_types:
            skipped.update(id(inner) for inner in ast.walk(node))
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize(("module", "path"), list(modules()))
def test_arrows_run_one_way(module, path):
    room = room_of(module)
    for name in imports(path, for_types=True):
        if name.startswith("otel_coach.") and (target := room_of(name)) not in {room, ""}:
            assert target in ALLOWED[room], f"{module} must not know {name}"


@pytest.mark.parametrize(("module", "path"), list(modules()))
def test_only_these_rooms_know_the_sdk(module, path):
    if room_of(module) in MAY_IMPORT_SDK:
        return
    for name in imports(path, for_types=room_of(module) != "installation"):
        assert not name.startswith(tuple(SDK)), f"{module} imports {name}"


@pytest.mark.parametrize(("module", "path"), list(modules()))
def test_only_settings_reads_the_environment(module, path):
    if room_of(module) in {"settings", "environment_variables"}:  # which writes it
        return
    text = path.read_text("utf-8")
    assert "os.environ" not in text
    assert "getenv" not in text


def test_every_room_is_there():
    assert {room_of(module) for module, _ in modules()} == {*ALLOWED, "instrumentors"} - {
        "instrumentors"
    }


def test_frameworks_are_never_imported_unless_the_host_does():
    script = """
import sys
import otel_coach
from otel_coach.distro import OtelCoachConfigurator, OtelCoachDistro, asgi, dependencies, langchain
OtelCoachDistro().configure()
OtelCoachConfigurator().configure()
for instrumentor in (asgi, langchain, dependencies):
    instrumentor().instrument()
frameworks = {"fastapi", "starlette", "langchain_core", "langgraph", "slowapi", "psycopg"}
heavy = {"genai_prices", "grpc", "httpx", "pydantic"}
print(sorted((frameworks | heavy) & set(sys.modules)))
"""
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert found.stdout.strip() == "[]"


def test_importing_the_package_imports_no_sdk():
    script = "import otel_coach, sys; print('opentelemetry.sdk' in sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert found.stdout.strip() == "False"


def test_files_are_short_enough_to_read_in_one_sitting():
    for _, path in modules():
        assert len(path.read_text("utf-8").splitlines()) < 400, path
