"""Whether otel-coach installs: by old pips and new, and beside services' own locks."""
