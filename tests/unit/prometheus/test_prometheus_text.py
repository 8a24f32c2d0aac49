"""Which texts are a page, as Prometheus reads it."""

import pytest

from otel_coach.prometheus.application_page import ApplicationPage, NotPrometheusError


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a 1",
        "a 1\n",
        "a{} 1 1712345678000\n",
        'a{b="c"} +Inf\n',
        '# HELP a A\n# TYPE a counter\na_total{b="c d"} 1e9 # {trace_id="f"} 0.5 1.5\n# EOF\n',
        '{"shop.orders","kind.of"="a"} 1\n',
        '# TYPE "shop.orders" gauge\n{"shop.orders"} NaN\n',
        "# a comment\n\n\na 0x1p-3\n",
        "a 1\r\nb 2\r\n",
    ],
)
def test_what_prometheus_reads_is_read(text):
    kept, left_out = ApplicationPage("text/plain", text.encode()).without(set())
    lines = [line for line in text.replace("\r", "").split("\n") if line and line != "# EOF"]
    assert (kept.decode().split("\n")[:-1], left_out) == (lines, [])


@pytest.mark.parametrize("body", [b"a", b"a b", b"<html>", b'a{b="c} 1', b"\xff\xfe 1", b"1 a"])
def test_what_prometheus_does_not_read_is_refused(body):
    with pytest.raises(NotPrometheusError) as refused:
        ApplicationPage("text/plain", body)
    # It is logged, so it has nothing of the page in it.
    assert str(refused.value) in {"a line is neither a comment nor a sample", "byte 0 is not UTF-8"}
