"""Environment variables: their names, how their values are parsed, and what they mean."""
