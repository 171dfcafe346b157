"""The lake's tables in Redshift: what marts select from there, as tables or as external ones."""
