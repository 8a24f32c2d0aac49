"""Applications and scripts that tests run as programs, with this folder as their own."""
