"""Exporters of OTLP that have their protocol in their name: `otel-coach doctor` tries them, too."""

import pytest

from otel_coach.cli.doctor import otlp_http, otlp_targets
from otel_coach.cli.doctor.examined import Examined
from otel_coach.settings import Settings
from tests.support.back_ends import ENDPOINT, PROTOCOL, Export, back_end, grpc_receiver
from tests.support.otlp import Receiver


@pytest.mark.parametrize("name", ["otlp_proto_http", "otlp_proto_grpc"])
def test_an_exporter_that_has_its_protocol_in_its_name_is_tried_by_it(name):
    environ = {
        "OTEL_TRACES_EXPORTER": name,
        PROTOCOL: "grpc" if "http" in name else "http/protobuf",
    }
    service = Export()
    with Receiver() as receiver, grpc_receiver(service) as port:
        by_http = back_end(receiver.endpoint, **environ)
        by_grpc = back_end(f"http://127.0.0.1:{port}", **environ)
    is_http = "http" in name
    assert (by_http == {}, by_grpc == {}) == (is_http, not is_http)
    assert receiver.requests == ([("/v1/traces", b"")] if is_http else [])
    assert len(service.calls) == (0 if is_http else 1)


def test_an_exporter_of_json_is_tried_with_json(monkeypatch):
    monkeypatch.setattr(otlp_targets, "has_exporter", lambda *_: True)
    variables = {ENDPOINT: "", "OTEL_TRACES_EXPORTER": "console"}
    with Receiver() as receiver:
        variables[ENDPOINT] = receiver.endpoint
        settings = Settings.from_env(variables)
        object.__setattr__(settings, "trace_exporters", ("otlp_json_http",))
        (target,) = otlp_targets.targets(Examined(settings, variables))
        assert otlp_http.send(target).failure is None
    assert receiver.requests == [("/v1/traces", b"{}")]
