"""The metrics: labels, catalogue, cardinality budgets, recorder; by the OpenTelemetry API only."""
