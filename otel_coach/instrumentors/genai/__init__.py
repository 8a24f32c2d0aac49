"""What all instrumentors of model libraries share: runs, calls of models, usage and content."""
