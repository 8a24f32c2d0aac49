"""Real servers with several workers, which are killed, stopped and reloaded while they are read."""
