"""What a server logs leaves when it ends."""

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from tests.support.logging_script import OTLP
from tests.support.small_service import small_service


def test_a_server_sends_what_it_logged_at_its_end_and_nothing_of_fastapis_own_telemetry(tmp_path):
    slow = {"OTEL_BLRP_SCHEDULE_DELAY": "60000", "SMALL_APP": "logs"}
    with small_service(tmp_path, **OTLP, **slow) as service:
        assert service.client.get("/broken").status_code == 500
        service.stop()
        requests = [
            ExportLogsServiceRequest.FromString(body)
            for path, body in service.receiver.requests
            if path == "/v1/logs"
        ]
        scopes = {
            scope.scope.name
            for request in requests
            for resource in request.resource_logs
            for scope in resource.scope_logs
        }
        assert "small" in scopes
        assert "fastapi" not in scopes
        # FastAPI's telemetry would send a stack trace with the message of each exception.
        assert b"a secret in a message" not in b"".join(
            body for path, body in service.receiver.requests if path == "/v1/logs"
        )
