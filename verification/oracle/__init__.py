"""A randomised oracle: each way of calling an LLM with each way of ending, against the ledger."""
