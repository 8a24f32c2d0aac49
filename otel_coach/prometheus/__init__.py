"""The page that Prometheus scrapes: metric families, their merge over workers, and their text."""
