"""Where tables run, and the sessions that runs share."""
