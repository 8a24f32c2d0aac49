"""Kills, stops and reloads the workers of real servers while their pages are scraped."""
