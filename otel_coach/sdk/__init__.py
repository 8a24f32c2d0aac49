"""Code that depends on the OpenTelemetry SDK: providers, readers, exporters, redaction."""
