"""Checks the whole path with real programs: service, Collector, Jaeger, Prometheus, PostgreSQL."""
