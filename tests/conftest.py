"""What the tests share: measuring in this process, a real PostgreSQL, a provider, folders."""

from __future__ import annotations

import gc
import os
import sys
import tempfile
from pathlib import Path

import hypothesis
import pytest

from otel_coach.settings import Settings
from otel_coach.testing import measuring
from tests.support.interpreter import settings
from tests.support.paths import SUPPORT
from tests.support.programs import postgres
from tests.support.stack import Provider

# Hundreds of processes import the same modules: they shall be compiled once.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A client of httpx reads all authorities that it trusts when it is made, for 60 ms of a processor.
# The tests make thousands, and none of them speaks TLS to anybody outside: there are none here.
os.environ.pop("SSL_CERT_FILE", None)
os.environ["SSL_CERT_DIR"] = str(SUPPORT)

# How many examples are tried: `make test-fast` tries few, `HYPOTHESIS_PROFILE=fuzz` very many,
# others each time.
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "default")
hypothesis.settings.register_profile("default", derandomize=True, deadline=None, database=None)
hypothesis.settings.register_profile(
    "fast", max_examples=20, derandomize=True, deadline=None, database=None
)
hypothesis.settings.register_profile(
    "fuzz", max_examples=20_000, deadline=None, database=None, print_blob=True
)
hypothesis.settings.load_profile(PROFILE)
# Its caches shall not lie in the repository.
hypothesis.configuration.set_hypothesis_home_dir(
    Path(tempfile.gettempdir()) / "otel-coach-hypothesis"
)


def pytest_collection_modifyitems(items):
    if PROFILE == "fuzz":
        for item in items:
            item.add_marker(pytest.mark.timeout(0))


# While modules are imported, a quarter of the time would go into looking for garbage.
gc.disable()


class LongLived:
    """Keeps the garbage collector away from what lives as long as the tests do.

    Many tests have the garbage collected, 0.2 s each time if it looks at all that was imported, and
    tests import some modules late.
    """

    full_collections = 0

    def leave_alone(self):
        gc.collect()
        gc.freeze()
        self.full_collections = self._count()

    def pytest_collection_finish(self):
        gc.enable()
        self.leave_alone()

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_teardown(self):
        if self._count() > self.full_collections:
            self.full_collections = self._count()
            if len(gc.get_objects()) > 50_000:
                self.leave_alone()

    @staticmethod
    def _count():
        return gc.get_stats()[-1]["collections"]


def pytest_configure(config):
    config.pluginmanager.register(LongLived())


@pytest.fixture
def measured():
    from tests.support.conservation import conserved  # it imports LangChain

    # The double is OpenAI, as far as prices are concerned.
    settings = Settings(gateways={"127.0.0.1": "openai"})
    with measuring(settings) as measurements, conserved(measurements):
        yield measurements


@pytest.fixture
def read_entry_points_again():
    """Makes OpenTelemetry's API, which keeps the entry points that it has read, read them again."""
    from opentelemetry.util._importlib_metadata import _original_entry_points_cached as kept

    kept.cache_clear()
    yield kept.cache_clear
    kept.cache_clear()


@pytest.fixture
def host_settings():
    """The interpreter's settings as they are before the test, and again after it."""
    before = settings()
    yield before
    sys.setswitchinterval(before[0])
    gc.enable()


@pytest.fixture(scope="session")
def database_url():
    with postgres() as url:
        yield url


@pytest.fixture
def provider():
    with Provider() as running:
        yield running
    # Another test may get the same port: it must not get clients whose event loop is closed.
    clients = sys.modules.get("langchain_openai.chat_models._client_utils")
    for name in ("_cached_httpx_client", "_cached_async_httpx_client"):
        if hasattr(clients, name):
            getattr(clients, name).cache_clear()


@pytest.fixture
def default_registry():
    """prometheus_client's own, put back as it was."""
    from prometheus_client import REGISTRY

    made = []

    def make(cls, *args, **kwargs):
        made.append(cls(*args, **kwargs))
        return made[-1]

    yield make
    for collector in made:
        REGISTRY.unregister(collector)


@pytest.fixture
def groups():
    """Makes a group of which this process is a worker."""
    from tests.support.scarcity import groups_of_this_process  # systems without fcntl have none

    with groups_of_this_process() as make:
        yield make


@pytest.fixture
def place():
    """A folder that other users can look into, which pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="otel-coach-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def temporary(place, monkeypatch):
    """The only folders for everybody, as /tmp is."""
    from otel_coach.workers import shared_dir

    folders = [place / name for name in ("tmp", "var-tmp", "shm")]
    for folder in folders:
        folder.mkdir()
        folder.chmod(0o1777)
    monkeypatch.setattr(tempfile, "tempdir", str(folders[0]))
    monkeypatch.setattr(shared_dir, "_TEMPORARY", tuple(map(str, folders)))
    return folders
