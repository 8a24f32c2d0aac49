"""The one-way arrows of docs/architecture.md, read from the code's own imports."""

from functools import cache

import pytest

from tests.support.paths import ROOT
from tools import rooms
from tools.rooms import circle, modules, room_of

arrows = cache(rooms.arrows)


@cache
def imports(path, *, for_types):
    return tuple(rooms.imports(path, for_types=for_types))


INSTRUMENTORS = {
    f"instrumentors.{name}"
    for name in (
        *("anthropic", "asgi", "contrib", "dependencies", "genai", "langchain", "openai"),
        "provider_headers",
    )
}
# What each room may import. Each line knows only lines above it.
ALLOWED = {
    "core": set(),
    "pricing": set(),
    "metrics": {"core"},
    "configuration": {"core", "metrics"},
    "settings": {"configuration"},
    "views": {"metrics"},
    "workers": {"core"},
    "instrumentors": set(),
    "instrumentors.asgi": {"core", "instrumentors", "metrics"},
    "instrumentors.contrib": {"core", "instrumentors", "metrics"},
    "instrumentors.dependencies": {"core", "instrumentors", "metrics"},
    "instrumentors.genai": {"core", "instrumentors", "metrics", "pricing"},
    "instrumentors.anthropic": {"core", "instrumentors.genai"},
    "instrumentors.openai": {"core", "instrumentors.genai"},
    "instrumentors.langchain": {
        *{"core", "instrumentors", "instrumentors.genai", "metrics", "pricing"},
    },
    "instrumentors.provider_headers": {"core"},
    "sdk": {"core", "metrics", "settings", "views", "workers"},
    "prometheus": {"core", "metrics", "sdk", "workers"},
    "setup": {
        *{"configuration", "core", "metrics", "pricing", "prometheus", "sdk", "settings"},
        *{"workers", "instrumentors"},
        *INSTRUMENTORS,
    },
    "testing": {"configuration", "metrics", "settings", "setup"},
    "pytest_plugin": {"testing"},
    # `doctor` looks at what the others would do: probes, routes, the folder of the workers.
    "cli": {
        *{"configuration", "core", "instrumentors", "instrumentors.asgi"},
        *{"instrumentors.dependencies", "metrics", "pricing", "prometheus", "settings", "workers"},
        "setup",  # `run` starts a service
    },
    "__main__": {"cli", "setup"},
    "": {"configuration", "core", "instrumentors.dependencies", "metrics", "settings", "setup"},
}
# Only these import the SDK. `setup` names its types in annotations.
MAY_IMPORT_SDK = {"sdk", "views", "testing"}
SDK = ("opentelemetry.sdk", "opentelemetry.exporter")
READ_THE_ENVIRONMENT = {"configuration", "settings"}


def test_each_room_imports_only_what_it_may():
    assert arrows() == ALLOWED


def test_the_page_counts_rooms_and_arrows_as_they_are():
    graph = arrows()
    counted = f"{len(graph)} rooms, {sum(map(len, graph.values()))} arrows, no circle"
    assert counted in " ".join((ROOT / "docs" / "architecture.md").read_text().split())


def test_rooms_and_modules_form_no_circle():
    assert not circle(arrows())
    names = {name for name, _ in modules()}
    graph = {}
    for name, path in modules():
        found = set()
        for one in imports(path, for_types=True):
            one_and_parents = [one, one.rpartition(".")[0]]
            found.update(other for other in one_and_parents if other in names)
        # A package's own __init__ runs before its modules do; that is no import of theirs.
        graph[name] = {other for other in found if not f"{name}.".startswith(f"{other}.")}
    assert not circle(graph)


@pytest.mark.parametrize(("module", "path"), list(modules()))
def test_only_these_rooms_know_the_sdk(module, path):
    room = room_of(module)
    if room in MAY_IMPORT_SDK:
        return
    for name in imports(path, for_types=room != "setup"):
        assert not name.startswith(SDK), f"{module} imports {name}"


@pytest.mark.parametrize(("module", "path"), list(modules()))
def test_only_configuration_reads_the_environment(module, path):
    if room_of(module) in READ_THE_ENVIRONMENT:
        return
    text = path.read_text("utf-8")
    assert "os.environ" not in text
    assert "getenv" not in text


def test_files_are_short_enough_to_read_in_one_sitting():
    for path in (*(path for _, path in modules()), *(ROOT / "tests").rglob("*.py")):
        assert len(path.read_text("utf-8").splitlines()) < 400, path
