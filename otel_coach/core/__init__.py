"""Code that every package may import: guards, patches, request context, OpenTelemetry spans."""
