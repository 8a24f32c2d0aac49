"""A service that is fed junk: how many series, bytes and how much memory that makes."""
