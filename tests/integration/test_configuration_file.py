"""OTEL_CONFIG_FILE in a process of its own: the file's providers, and otel-coach beside them."""

import pytest

from tests.support.logging_script import OURS, run
from tests.support.small_service import HTTP, plain_service, server_spans
from tests.support.versions import HAS_CONFIGURATION_FILES

pytestmark = pytest.mark.skipif(not HAS_CONFIGURATION_FILES, reason="the oldest SDKs read none")
FILE = """
file_format: "1.0"
resource:
  attributes:
    - name: service.name
      value: from-the-file
tracer_provider:
  processors:
    - simple:
        exporter:
          otlp_http:
            endpoint: ${OTEL_EXPORTER_OTLP_ENDPOINT}/v1/traces
"""


@pytest.mark.parametrize("variable", ["OTEL_CONFIG_FILE", "OTEL_EXPERIMENTAL_CONFIG_FILE"])
def test_spans_leave_by_the_files_processors_and_figures_are_on_the_page(tmp_path, variable):
    path = tmp_path / "otel.yaml"
    path.write_text(FILE)
    ignored = {"OTEL_SERVICE_NAME": "from-a-variable", "OTEL_TRACES_EXPORTER": "console"}
    with plain_service(tmp_path, **{variable: str(path)}, **ignored) as service:
        service.client.get("/hello/x")
        assert service.page().sum(HTTP, endpoint="/hello/{name}") == 1
        service.stop()
        names = [span.name for span in server_spans(service)]
        assert names.count("GET /hello/{name}") == 1
        bodies = b"".join(body for _, body in service.receiver.requests)
        assert b"from-the-file" in bodies
        assert b"from-a-variable" not in bodies
        assert '"name":' not in service.log  # the console exporter was not asked
        said = [line for line in service.log.splitlines() if "OTEL_CONFIG_FILE=" in line]
        assert len(said) == 1


def test_the_stock_configurator_reads_the_file_once(tmp_path):
    path = tmp_path / "otel.yaml"
    path.write_text("file_format: '1.0'\ntracer_provider:\n  processors: []\n")
    stock = {**OURS, "OTEL_PYTHON_CONFIGURATOR": "configurator", "OTEL_CONFIG_FILE": str(path)}
    assert "Overriding" not in run(**stock).stderr
