"""Table contracts: the model, reading it, whether its parts fit together, and versions of it."""
