"""Doubles of paid providers, each under its own address, by its own protocol."""
