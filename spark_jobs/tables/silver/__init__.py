"""One module per table, each with a pure function `transform`; see docs for how to add one."""
