"""Pictures of a real run: the page in a browser, the terminal, the dashboard, a trace."""
