"""Tables as Dagster assets: what they are, their checks, and what their runs say."""
