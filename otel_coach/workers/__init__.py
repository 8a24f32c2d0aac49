"""The worker processes of one service: who they are, and how they know of each other."""
