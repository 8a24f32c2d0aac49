"""Serves the page: inside the application by ASGI, and on a port of its own."""
