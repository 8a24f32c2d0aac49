"""Programs for those who work on otel-coach; nobody installs them."""
