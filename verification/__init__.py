"""Long-running programs that compare otel-coach with an independent truth; see README.md."""
