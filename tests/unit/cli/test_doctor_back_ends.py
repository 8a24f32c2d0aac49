"""Mistakes on the way to an OTLP back end, planted: real exports over real sockets."""

from contextlib import suppress

import pytest

from otel_coach.cli.doctor import examined as examined_module
from otel_coach.cli.doctor import tracing
from otel_coach.cli.doctor.examined import Fact
from otel_coach.core.traps import Finding
from tests.support.back_ends import (
    ENDPOINT,
    PEM,
    PROTOCOL,
    Export,
    back_end,
    grpc_receiver,
    https,
    only,
)
from tests.support.dependencies import port
from tests.support.doctor import diagnosis, examined, hostile
from tests.support.otlp import Receiver
from tests.support.programs import free_port
from tests.support.serving import tcp_server

# What is right

TRACES = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"


def test_a_receiver_that_takes_an_empty_export_is_right():
    with Receiver() as receiver:
        assert back_end(receiver.endpoint, OTEL_METRICS_EXPORTER="prometheus,otlp") == {}
        assert receiver.requests == [("/v1/traces", b""), ("/v1/metrics", b"")]


def test_a_receiver_by_grpc_is_right_and_gets_the_headers():
    service = Export()
    with grpc_receiver(service) as port:
        headers = {"OTEL_EXPORTER_OTLP_HEADERS": "X-Tenant=acme%20inc"}
        assert back_end(f"http://127.0.0.1:{port}", **{PROTOCOL: "grpc"}, **headers) == {}
    ((request, metadata),) = service.calls
    assert not request.resource_spans
    assert metadata["x-tenant"] == "acme inc"


def test_https_with_its_certificate_is_right():
    with https(200) as port:
        certificate = {"OTEL_EXPORTER_OTLP_CERTIFICATE": str(PEM)}
        assert back_end(f"https://localhost:{port}", **certificate) == {}


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize("part", ["CERTIFICATE", "CLIENT_CERTIFICATE"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "No such file or directory"), ("no PEM", "no certificate")],
)
def test_a_file_for_tls_that_cannot_be_used_is_named(tmp_path, protocol, part, content, reason):
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    variable = f"OTEL_EXPORTER_OTLP_{part}"
    found = back_end("https://127.0.0.1:1", **{PROTOCOL: protocol, variable: str(path)})
    told = only(found, "otlp-certificate-file")
    assert f"{variable}={path} cannot be used" in told
    assert reason in told
    assert f"export {variable}=" in told


@pytest.mark.parametrize("address", ["unix:///run/no-such.sock", "dns:///127.0.0.1:1"])
def test_names_of_grpcs_own_are_asked_as_they_are(address):
    more = {PROTOCOL: "grpc", "OTEL_EXPORTER_OTLP_INSECURE": "true"}
    assert back_end(address, **more).keys() == {"otlp-unreachable"}


def test_a_back_end_gets_the_credentials_of_its_address(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    asked = []

    def answer(connection):
        asked.append(connection.recv(4096))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with tcp_server(answer) as server:
        endpoint = f"http://u:p%40ss@127.0.0.1:{port(server)}"
        assert back_end(endpoint, OTEL_EXPORTER_OTLP_HEADERS="Authorization=Bearer%20x") == {}
    assert b"authorization: Basic dTpwQHNz\r\n" in asked[0]  # u:p@ss
    assert b"Bearer" not in asked[0]


@pytest.mark.parametrize(("is_installed", "asked"), [(True, False), (False, True)])
def test_of_a_configuration_file_no_variables_endpoint_is_asked(monkeypatch, is_installed, asked):
    monkeypatch.setattr(examined_module, "is_installed", lambda _: is_installed)
    endpoint = f"http://127.0.0.1:{free_port()}"
    found = back_end(endpoint, OTEL_CONFIG_FILE="otel.yaml")
    assert ("otlp-unreachable" in found) == asked


@pytest.mark.parametrize(
    ("environ", "where"),
    [
        ({}, "nowhere (no OTLP endpoint is set)"),
        ({ENDPOINT: "http://127.0.0.1:1"}, "otlp"),
        (
            {ENDPOINT: "http://h:1", "OTEL_TRACES_EXPORTER": "none"},
            "nowhere (OTEL_TRACES_EXPORTER says so)",
        ),
    ],
)
def test_the_doctor_says_where_traces_go(environ, where):
    looked = tracing.look(examined(**environ))
    assert f"traces: {where}" in [str(one) for one in looked]


@pytest.mark.parametrize("is_installed", [True, False])
def test_variables_count_where_a_configuration_file_is_not_read(monkeypatch, is_installed):
    monkeypatch.setattr(examined_module, "is_installed", lambda _: is_installed)
    variables = {ENDPOINT: "http://127.0.0.1:1", "OTEL_TRACES_SAMPLER": "always_off"}
    looked = [*tracing.look(examined(OTEL_CONFIG_FILE="otel.yaml", **variables))]
    found = {one.trap.name for one in looked if isinstance(one, Finding)}
    facts = [str(one) for one in looked if isinstance(one, Fact)]
    if is_installed:
        assert (facts, found) == (["traces: as OTEL_CONFIG_FILE says"], set())
    else:
        assert facts == ["traces: otlp"]
        assert found == {"sampled-out", "no-service-name"}


def test_a_proxy_gets_the_credentials_of_its_address(monkeypatch):
    asked = []

    def answer(connection):
        asked.append(connection.recv(65536))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with tcp_server(answer) as proxy:
        monkeypatch.setenv("http_proxy", f"http://u:p%40ss@127.0.0.1:{port(proxy)}")
        assert back_end("http://collector.example:4318") == {}
    assert b"Proxy-Authorization: Basic dTpwQHNz\r\n" in asked[0]  # u:p@ss


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("proxy", "reason"),
    [
        ("http://u:secret@127.0.0.1:1", "127.0.0.1:1: connection refused"),
        ("proxy.invalid", "proxy.invalid: the host proxy.invalid is not known"),
    ],
)
def test_a_proxy_that_fails_is_named(monkeypatch, proxy, reason, scheme):
    monkeypatch.setenv(f"{scheme}_proxy", proxy)
    monkeypatch.delenv("no_proxy", raising=False)
    told = only(back_end(f"{scheme}://collector.example:4318"), "otlp-proxy")
    assert f"through the proxy {reason}" in told
    assert "export no_proxy=collector.example #" in told
    assert "secret" not in told


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY"])
@pytest.mark.parametrize("spared", ["127.0.0.0/8", ""])
def test_proxies_are_taken_as_requests_takes_them(monkeypatch, variable, spared):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", spared)
    with Receiver() as proxy, Receiver() as receiver:
        monkeypatch.setenv(variable, proxy.endpoint)
        assert back_end(receiver.endpoint) == {}
        assert bool(proxy.requests) is not bool(spared)
        assert bool(receiver.requests) is bool(spared)


def test_a_key_that_is_missing_is_not_the_certificates_fault(tmp_path):
    files = {
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": str(PEM),
        "OTEL_EXPORTER_OTLP_CLIENT_KEY": str(tmp_path / "missing.pem"),
    }
    told = only(back_end("https://127.0.0.1:1", **files), "otlp-certificate-file")
    assert "OTEL_EXPORTER_OTLP_CLIENT_KEY=" in told


def test_certificates_of_requests_are_trusted_as_the_exporter_trusts_them(monkeypatch):
    with https(200) as port_number:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(PEM))
        assert back_end(f"https://localhost:{port_number}") == {}


# Where it is


def test_nothing_listens_there():
    port = free_port()
    told = only(back_end(f"http://127.0.0.1:{port}"), "otlp-unreachable")
    assert f"{ENDPOINT}=http://127.0.0.1:{port}" in told
    assert "connection refused" in told
    assert f"export {ENDPOINT}=http://COLLECTOR:4318" in told


def test_nothing_listens_there_by_grpc():
    told = only(
        back_end(f"http://127.0.0.1:{free_port()}", **{PROTOCOL: "grpc"}), "otlp-unreachable"
    )
    assert "refused" in told
    assert f"export {ENDPOINT}=http://COLLECTOR:4317" in told


def test_several_signals_to_one_place_are_one_finding():
    environ = {"OTEL_METRICS_EXPORTER": "prometheus,otlp", "OTEL_LOGS_EXPORTER": "otlp"}
    told = only(back_end(f"http://127.0.0.1:{free_port()}", **environ), "otlp-unreachable")
    assert "traces and metrics and logs" in told


@pytest.mark.parametrize(
    ("variable", "path", "protocol", "cure"),
    [
        (ENDPOINT, "", "http/protobuf", "http://COLLECTOR:4318 "),
        (ENDPOINT, "", "grpc", "http://COLLECTOR:4317 "),
        (TRACES, "/v1/traces", "http/protobuf", "http://COLLECTOR:4318/v1/traces "),
        (TRACES, "", "grpc", "http://COLLECTOR:4317 "),
    ],
)
def test_the_cure_has_the_path_that_the_variable_needs(variable, path, protocol, cure):
    environ = {variable: f"http://127.0.0.1:{free_port()}{path}", PROTOCOL: protocol}
    told = only(diagnosis(**environ, OTEL_SERVICE_NAME="coach"), "otlp-unreachable")
    assert f"export {variable}={cure}" in told


def test_a_host_that_is_not_known():
    told = only(back_end("http://no-such-host.invalid:4318"), "otlp-unreachable")
    assert "no-such-host.invalid is not known" in told


def test_no_endpoint_is_set_but_an_exporter_is():
    found = diagnosis(OTEL_TRACES_EXPORTER="otlp", OTEL_SERVICE_NAME="coach")
    told = only(found, "otlp-unreachable")
    assert f"{ENDPOINT}=http://localhost:4318" in told


def test_no_scheme():
    told = only(back_end("collector:4318"), "otlp-scheme")
    assert f"export {ENDPOINT}=http://collector:4318" in told


def test_a_scheme_that_is_none_of_http():
    told = only(back_end("grpc://collector:4317", **{PROTOCOL: "grpc"}), "otlp-scheme")
    assert f"export {ENDPOINT}=http://collector:4317" in told


def test_the_path_twice():
    with Receiver() as receiver:
        told = only(back_end(f"{receiver.endpoint}/v1/traces"), "otlp-path-twice")
        assert receiver.requests == []
    assert f"{receiver.endpoint}/v1/traces/v1/traces" in told
    assert told.endswith(f"export {ENDPOINT}={receiver.endpoint}")


def test_no_path_where_one_is_needed():
    def only_its_path(path, _body):
        return 200 if path == "/v1/traces" else 404

    with Receiver(only_its_path) as receiver:
        environ = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": receiver.endpoint}
        told = only(diagnosis(OTEL_SERVICE_NAME="coach", **environ), "otlp-path-missing")
        variable = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
        assert f"export {variable}={receiver.endpoint}/v1/traces" in told
        environ = {variable: f"{receiver.endpoint}/v1/traces"}
        assert diagnosis(OTEL_SERVICE_NAME="coach", **environ) == {}


# The protocol


def test_4317_is_not_the_port_of_http():
    told = only(back_end("http://127.0.0.1:4317"), "otlp-grpc-port")
    assert f"export {ENDPOINT}=http://127.0.0.1:4318 # " in told
    assert f"export {PROTOCOL}=grpc" in told


def test_the_port_of_one_signal_comes_with_the_path_of_http():
    told = only(
        diagnosis(**{TRACES: "http://127.0.0.1:4317"}, OTEL_SERVICE_NAME="coach"), "otlp-grpc-port"
    )
    assert f"export {TRACES}=http://127.0.0.1:4318/v1/traces # " in told


def test_4318_is_not_the_port_of_grpc():
    told = only(back_end("http://127.0.0.1:4318", **{PROTOCOL: "grpc"}), "otlp-http-port")
    assert f"export {ENDPOINT}=http://127.0.0.1:4317 # " in told
    assert f"export {PROTOCOL}=http/protobuf" in told


def test_http_to_a_server_of_grpc_on_any_port():
    with grpc_receiver(Export()) as port:
        told = only(back_end(f"http://127.0.0.1:{port}"), "otlp-other-protocol")
    assert f"export {PROTOCOL}=grpc" in told


def test_grpc_to_a_server_of_http_on_any_port():
    with Receiver() as receiver:
        told = only(back_end(receiver.endpoint, **{PROTOCOL: "grpc"}), "otlp-other-protocol")
    assert f"export {PROTOCOL}=http/protobuf" in told


def test_a_server_that_speaks_neither():
    with hostile([b"220 mail ESMTP\r\n"]) as (url, _):
        told = only(back_end(url.removesuffix("/metrics")), "otlp-other-protocol")
    assert "does not answer by HTTP" in told


# TLS


def test_https_to_a_port_of_http():
    with Receiver() as receiver:
        endpoint = receiver.endpoint.replace("http://", "https://")
        told = only(back_end(endpoint), "otlp-https-to-http")
    assert f"export {ENDPOINT}={receiver.endpoint}" in told


def test_https_to_a_port_that_closes_the_connection():
    seen = []

    def answer(connection):
        with connection, suppress(OSError):
            begin = connection.recv(4096)
            seen.append(begin)
            if begin.startswith(b"OPTIONS "):
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    headers = {"OTEL_EXPORTER_OTLP_HEADERS": "authorization=hunter2"}
    with tcp_server(answer) as server:
        found = back_end(f"https://127.0.0.1:{server.getsockname()[1]}", **headers)
    assert f"export {ENDPOINT}=http://" in only(found, "otlp-https-to-http")
    assert len(seen) == 2
    assert b"hunter2" not in b"".join(seen)


def test_tls_by_grpc_to_a_port_without():
    with grpc_receiver(Export()) as port:
        found = back_end(f"https://127.0.0.1:{port}", **{PROTOCOL: "grpc"})
    told = only(found, "otlp-https-to-http")
    assert f"export {ENDPOINT}=http://127.0.0.1:{port}" in told


def test_http_to_a_port_of_https():
    """What Go's servers, and so a Collector, answer."""
    refusal = b"Client sent an HTTP request to an HTTPS server.\n"
    with https(400, refusal, "text/plain", tls=False) as port:
        told = only(back_end(f"http://127.0.0.1:{port}"), "otlp-http-to-https")
    assert f"export {ENDPOINT}=https://127.0.0.1:{port}" in told


def test_a_certificate_that_is_not_accepted():
    with https(200) as port:
        told = only(back_end(f"https://localhost:{port}"), "otlp-certificate")
    assert "export OTEL_EXPORTER_OTLP_CERTIFICATE=" in told
