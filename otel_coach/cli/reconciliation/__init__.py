"""Compares what a provider says it billed with what otel-coach counted.

`exports` reads the provider's files into an `Invoice`; `pages` or `prometheus_api` read
otel-coach's counters into `Counted`; `comparison` puts the two together by model; `report` writes
the result.
"""
