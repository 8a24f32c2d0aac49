"""README's walk, from nothing to a figure that can be believed, with the time of each step."""
