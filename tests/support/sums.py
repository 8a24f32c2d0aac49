"""Metrics that left by OTLP, added up."""

from collections import Counter

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest


def sums(receiver):
    """{(metric, status): sum} of the last metrics that left each process."""
    last = {}
    for path, body in receiver.requests:
        if path == "/v1/metrics":
            for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                about = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
                last[about["service.instance.id"]] = resource
    found = Counter()
    for resource in last.values():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                points = metric.sum.data_points or metric.histogram.data_points
                for point in points:
                    labels = {pair.key: pair.value.string_value for pair in point.attributes}
                    value = (
                        point.as_double or point.as_int if metric.HasField("sum") else point.count
                    )
                    found[metric.name, labels.get("status")] += value
    return found
