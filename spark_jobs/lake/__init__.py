"""The lake as files: storage, the Delta log, and the ledger of what was done."""
