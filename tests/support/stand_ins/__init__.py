"""Programs that stand in for others where the documentation's blocks are run."""
