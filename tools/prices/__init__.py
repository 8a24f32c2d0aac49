"""Writes or checks the price list that comes with otel-coach."""
