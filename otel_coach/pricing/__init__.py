"""Computes what LLM calls cost, in US dollars."""
