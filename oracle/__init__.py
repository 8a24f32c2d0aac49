"""A random oracle: every way of calling an LLM times every way of ending, against the ledger."""
