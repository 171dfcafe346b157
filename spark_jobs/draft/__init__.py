"""The first draft of a table from a delivered file: contracts of bronze and silver, the function, its
test.

Belongs here: what a file shows. Does not belong here: what only people know, such as what a column
means and who may see it; a draft leaves that to them, and says so.
"""
