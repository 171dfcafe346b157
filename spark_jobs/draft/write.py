"""Puts a draft into the project: all of its files, or none.

Belongs here: which files there are, what is refused, and what is taken back. Does not belong here:
what is in them (contracts.py, code.py).
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from spark_jobs.contract.reader import load_contracts
from spark_jobs.draft import code, contracts
from spark_jobs.draft.proposal import Proposal
from spark_jobs.errors import InputError


def files(p: Proposal) -> dict[str, str]:
    """The files of a draft, by their path in the project."""
    return {
        f"contracts/bronze/{p.name}.yaml": contracts.bronze(p),
        f"contracts/silver/{p.name}.yaml": contracts.silver(p),
        f"spark_jobs/tables/silver/{p.name}.py": code.transform(p),
        f"tests/unit/test_{p.name}.py": code.unit_test(p),
    }


def write(files: Mapping[str, str], project: Path) -> list[Path]:
    """Writes files by their path in the project, once their contracts have been read back.

    Raises InputError if one of them is there already, or cannot be written; then none is.
    """
    there = [name for name in files if (project / name).exists()]
    if there:
        raise InputError(
            f"{project / there[0]} is there already, and a draft overwrites nothing: choose another"
            " name with --name, or move the file away"
        )
    _ensure_valid(files)
    written: list[Path] = []
    try:
        for name, text in files.items():
            path = project / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                written.append(path)
                file.write(text)
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        raise InputError(
            f"{project / name}: cannot be written ({error.strerror}); no file was"
        ) from error
    return written


def _ensure_valid(files: Mapping[str, str]) -> None:
    """Reads the contracts as every command will, before anybody else does."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            if name.startswith("contracts/"):
                path = Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
        load_contracts(Path(folder, "contracts"))
