"""The errors of the data plane. Each tells what is wrong, where, and what to do next.

`permanent` says whether the same run on the same input would fail again; the orchestrator
never retries a permanent error.
"""

from spark_jobs import quoting


class LakehouseError(Exception):
    """Base of all errors that the platform raises on purpose. What of the message comes from data
    (names of columns and files, words of a reader) can do nothing to a terminal."""

    permanent = True

    def __init__(self, message: str = "") -> None:
        super().__init__(quoting.plain(message, lines=True))


class ContractError(LakehouseError):
    """A contract is missing or invalid; the message names file and line."""


class InputError(LakehouseError):
    """An input is missing or unreadable; the message names the table, the partition and the file."""


class SchemaError(LakehouseError):
    """Columns differ from what the contract says; the message names them."""


class StorageError(LakehouseError):
    """The lake cannot be read or written as expected (permissions, space, a damaged log). Not
    `permanent` if a store did not answer, or was not well: a later retry may succeed."""

    def __init__(self, message: str, *, permanent: bool = True) -> None:
        super().__init__(message)
        self.permanent = permanent


class EngineError(LakehouseError):
    """The engine failed while it ran a table. `permanent` if it could not make sense of what it was
    asked; otherwise a later retry may succeed."""

    def __init__(self, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.permanent = permanent


class EngineUnavailable(LakehouseError):
    """The engine cannot start on this machine; the message says what is missing."""


class ConflictError(LakehouseError):
    """Another writer committed to the same table again and again; a later retry may succeed."""

    permanent = False


class ReportMissing(LakehouseError):
    """A run elsewhere ended without a word on what became of its table: it was killed, ran out of
    memory, or its machine is gone. What it had committed stays, and the next run finds it."""

    permanent = False


# What an error is called in a report, for the platform's own errors.
KINDS = {kind.__name__: kind for kind in (LakehouseError, *LakehouseError.__subclasses__())}


def happened_in(error: Exception, step: str) -> None:
    """Remembers the step of a run that an error ended."""
    vars(error)["lakehouse_step"] = step


def step_of(error: Exception) -> str:
    return getattr(error, "lakehouse_step", "start")
