"""Who may see what: masking."""
