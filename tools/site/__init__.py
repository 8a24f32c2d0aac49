"""Finishes the documentation's site, and checks it: `make docs-site`."""
