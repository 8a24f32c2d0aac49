"""The whole way with real programs: service, Collector, Jaeger, Prometheus, PostgreSQL."""
