"""What is made for a client who has left, without and with OTEL_COACH_STOP_ABANDONED."""
