"""A service that probes: real servers, silent ones and none."""

import socket
import ssl
import threading
import time
from contextlib import contextmanager, nullcontext

import pytest
from fastapi import FastAPI

from otel_coach.instrumentors.dependencies.probes import probe_of
from otel_coach.settings import Settings
from otel_coach.testing import measuring
from tests.support.dependencies import http_server, port, say, up
from tests.support.paths import PEM
from tests.support.programs import free_port
from tests.support.serving import by_tls, serving, tcp_server
from tests.support.waiting import eventually


@contextmanager
def probing(interval=0.1, timeout=0.5, **addresses):
    """Probes begin with the service."""
    settings = Settings(
        dependencies=addresses, dependency_interval=interval, dependency_timeout=timeout
    )
    app = FastAPI()

    @app.get("/health")
    async def health():
        return "ok"

    with measuring(settings) as measured, serving(app) as client:
        measured.client = client
        yield measured


def silent(connection):
    time.sleep(30)


def test_a_real_postgresql_is_up_and_its_probes_are_no_spans(database_url):
    with probing(db=database_url) as measured:
        eventually(lambda: measured.page().sum("dependency_latency_seconds_count") >= 3)
        assert up(measured) == 1
        page = measured.page()
        assert page.sum("dependency_latency_seconds_count", dependency_name="db", status="ok") >= 3
        assert page.sum("dependency_latency_seconds_count", status="error") == 0
        assert not measured.spans


def test_sqlalchemys_spelling_is_understood(database_url):
    spelled = database_url.replace("postgresql://", "postgresql+psycopg://")
    with probing(db=spelled) as measured:
        eventually(lambda: measured.page().samples("dependency_up"))
        assert up(measured) == 1


def test_a_socket_in_a_folder_and_sqlalchemys_own_parameters_are_understood(database_url):
    import psycopg

    with psycopg.connect(database_url) as connection:
        info = connection.info
        folder = info.parameter_status("unix_socket_directories") or info.host
        user, database = info.user, info.dbname
    if folder.startswith("/"):
        with probing(db=f"postgresql:///{database}?host={folder}&user={user}") as measured:
            eventually(lambda: measured.page().samples("dependency_up"))
            assert up(measured) == 1
    joint = "&" if "?" in database_url else "?"
    spelled = database_url.replace("postgresql://", "postgresql+asyncpg://")
    with probing(db=f"{spelled}{joint}prepared_statement_cache_size=0") as measured:
        eventually(lambda: measured.page().samples("dependency_up"))
        assert up(measured) == 1


def test_nobody_there_is_down(caplog):
    with probing(db=f"postgresql://127.0.0.1:{free_port()}/x?password=hunter2") as measured:
        eventually(lambda: measured.page().sum("dependency_latency_seconds_count") >= 2)
        assert up(measured) == 0
        assert measured.page().sum("dependency_latency_seconds_count", status="ok") == 0
    assert caplog.text.count("dependency db is down") == 1
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize("scheme", ["postgresql", "redis", "http"])
def test_a_server_that_hangs_is_down_at_its_timeout_and_probes_do_not_pile_up(scheme):
    with tcp_server(silent) as server:
        address = f"{scheme}://127.0.0.1:{port(server)}"
        with probing(timeout=0.3, db=address) as measured:
            eventually(lambda: measured.page().samples("dependency_up"))
            assert up(measured) == 0
            eventually(lambda: measured.page().sum("dependency_latency_seconds_count") >= 4)
            probes = [t for t in threading.enumerate() if t.name == "otel-coach-probe"]
            assert len(probes) <= 1


def test_a_probe_that_waits_does_not_keep_the_event_loop():
    with tcp_server(silent) as server:
        address = f"redis://127.0.0.1:{port(server)}"
        with probing(timeout=10, db=address) as measured:
            eventually(lambda: "otel-coach-probe" in {t.name for t in threading.enumerate()})
            for _ in range(20):
                assert measured.client.get("/health").status_code == 200
            assert not measured.page().samples("dependency_up")  # it waits still
            assert measured.page().sum("dependency_latency_seconds_count", status="ok") == 0


def test_a_dependency_that_comes_back_is_up_again(caplog):
    free = free_port()
    with probing(db=f"tcp://127.0.0.1:{free}") as measured:
        eventually(lambda: measured.page().samples("dependency_up"))
        assert up(measured) == 0
        with socket.create_server(("127.0.0.1", free)):
            eventually(lambda: up(measured) == 1)
        eventually(lambda: up(measured) == 0)
    assert "dependency db is up again" in caplog.text


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        *((b"+PONG\r\n", 1), (b"-NOAUTH Authentication required.\r\n", 1)),
        *((b"-LOADING Redis is loading the dataset in memory\r\n", 0), (b"HTTP/1.1", 0)),
    ],
)
def test_redis_by_its_own_ping(answer, value):
    with (
        tcp_server(say(answer)) as server,
        probing(db=f"redis://127.0.0.1:{port(server)}/0") as measured,
    ):
        eventually(lambda: measured.page().samples("dependency_up"))
        assert up(measured) == value


def test_redis_with_user_password_and_tls():
    """The commands are those of the Redis protocol (RESP): AUTH, then PING, each answered."""
    asked = []

    def answer(connection):
        for reply in (b"+OK\r\n", b"+PONG\r\n"):
            asked.append(connection.recv(100))
            connection.sendall(reply)

    with pytest.MonkeyPatch.context() as patch, tcp_server(by_tls(answer)) as server:
        patch.setenv("SSL_CERT_FILE", str(PEM))
        probe_of(f"rediss://anna:geh%20eim@localhost:{port(server)}/0")(2.0)
    assert asked == [
        b"*3\r\n$4\r\nAUTH\r\n$4\r\nanna\r\n$7\r\ngeh eim\r\n",
        b"*1\r\n$4\r\nPING\r\n",
    ]


@pytest.mark.parametrize(
    ("host", "parameters", "reaches_it"),
    [
        ("localhost", "", False),
        ("localhost", "?ssl_cert_reqs=none", True),
        ("localhost", f"?ssl_ca_certs={PEM}", True),
        ("127.0.0.2", f"?ssl_ca_certs={PEM}", False),
        ("127.0.0.2", f"?ssl_ca_certs={PEM}&ssl_check_hostname=False", True),
        ("localhost", f"?ssl_ca_certs={PEM}&ssl_certfile={PEM}", True),
    ],
)
def test_redis_by_tls_as_the_url_of_redis_py_says(host, parameters, reaches_it):
    def answer(connection):
        connection.recv(100)
        connection.sendall(b"+PONG\r\n")

    with tcp_server(by_tls(answer), "0.0.0.0") as server:
        probe = probe_of(f"rediss://{host}:{port(server)}/0{parameters}")
        if reaches_it:
            probe(2.0)
        else:
            with pytest.raises(ssl.SSLCertVerificationError):
                probe(2.0)


@pytest.mark.parametrize(("status", "value"), [(200, 1), (204, 1), (404, 0), (503, 0)])
def test_http_by_its_status(status, value):
    with (
        http_server(status) as (port_number, _),
        probing(db=f"http://127.0.0.1:{port_number}/health") as measured,
    ):
        eventually(lambda: measured.page().samples("dependency_up"))
        assert up(measured) == value


def test_a_wrong_address_costs_only_itself(caplog):
    with probing(db="mysql://root:hunter2@h/db") as measured:
        assert measured.client.get("/health").status_code == 200
        assert measured.page().samples("dependency_up") == []
    assert "OTEL_COACH_DEPENDENCIES: db has the unknown scheme" in caplog.text
    assert "hunter2" not in caplog.text


def test_a_session_that_a_pooler_gives_to_the_application_next_is_as_it_was(
    database_url, monkeypatch
):
    import psycopg

    with psycopg.connect(database_url, autocommit=True) as shared:
        # As a pooler does: the session outlives the probe's connection.
        monkeypatch.setattr(psycopg, "connect", lambda *_, **__: nullcontext(shared))
        before = shared.execute("SHOW ALL").fetchall()
        probe_of(database_url)(1.5)
        assert shared.execute("SHOW ALL").fetchall() == before
        # The probe's own statement is limited all the same.
        monkeypatch.setattr(shared, "execute", slowed(shared.execute))
        with pytest.raises(psycopg.errors.QueryCanceled):
            probe_of(database_url)(0.2)


def slowed(execute):
    return lambda statement: execute(statement.replace(b"SELECT 1", b"SELECT pg_sleep(30)"))


def test_options_in_sqlalchemys_spelling_reach_libpq(database_url):
    spelled = database_url.replace("postgresql://", "postgresql+psycopg://")
    joint = "&" if "?" in spelled else "?"
    probe_of(f"{spelled}{joint}options=-c%20search_path%3Dpublic")(5.0)
