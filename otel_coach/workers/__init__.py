"""Shares the metrics of a service's worker processes through files, as opaque bytes."""
