"""Installs otel-coach in a process: the distro, the installation, the start of serving."""
