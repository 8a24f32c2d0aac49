"""Checks that otel-coach can be installed: by old and new pips, and beside services' own locks."""
