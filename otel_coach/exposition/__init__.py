"""The page that Prometheus reads: its families, its ASGI endpoint, its own port."""
