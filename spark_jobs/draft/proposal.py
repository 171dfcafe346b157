"""What a table of a delivered file would be: its names, columns, key, sequence and source.

Belongs here: putting what was seen and what a person said together. Does not belong here: looking
(sample.py, inference.py), and writing it down (contracts.py, code.py).
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spark_jobs import quoting
from spark_jobs.draft import inference
from spark_jobs.draft.inference import Column
from spark_jobs.draft.sample import Sample
from spark_jobs.errors import InputError

_TAKEN = {"F", "LINEAGE", "DataFrame", "text", "number", "boolean", "day", "instant", "transform"}


@dataclass(frozen=True)
class Said:
    """What a person says of the table; None where the file, or a default, is to say it."""

    domain: str
    owner: str
    system: str = "files"
    name: str | None = None
    dataset: str | None = None
    key: tuple[str, ...] | None = None
    sequence: str | None = None


@dataclass(frozen=True)
class Proposal:
    sample: Sample
    name: str
    domain: str
    owner: str
    source: Mapping[str, Any]
    columns: tuple[Column, ...]
    names: Mapping[str, str]
    key: tuple[str, ...]
    sequence: str | None

    @property
    def publish(self) -> dict[str, str]:
        """How silver lands: newest record of a key, where there is a key and something to tell by."""
        if self.key and self.sequence:
            return {"mode": "upsert", "sequence": self.names[self.sequence]}
        return {"mode": "replace_partition"}


def propose(sample: Sample, said: Said) -> Proposal:
    """The table of a file. Raises InputError for a name or a column that cannot be."""
    name = said.name or said.dataset or table_name(sample.path)
    name = name if said.name else inference.snake(name)
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name) or name in _TAKEN:
        raise InputError(
            f"{name or sample.path}: no name for a table: give one in lower snake case with --name"
        )
    dataset = said.dataset or name
    if dataset != dataset.strip() or re.search(r"[/\\]|^[._]|^$", dataset):
        raise InputError(f"--dataset {dataset}: a folder of landing does not have such a name")
    columns = tuple(inference.column(n, sample.rows[n]) for n in sample.rows.column_names)
    names = inference.snake_names([c.name for c in columns])
    sequence = _column(said.sequence, names) if said.sequence else inference.sequence(columns)
    if said.key is None:
        key = inference.key(columns, sample.rows, sequence)
    else:
        key = tuple(_column(k, names) for k in said.key)
    source = {"dataset": dataset, "format": sample.format, "system": said.system, **_layout(sample)}
    return Proposal(sample, name, said.domain, said.owner, source, columns, names, key, sequence)


def title(p: Proposal) -> str:
    """The table's name in words."""
    return p.name.replace("_", " ").capitalize()


def table_name(path: Path) -> str:
    """A table's name from that of a file, without the date or the number at its end."""
    words = inference.snake(path.stem).removeprefix("n_").split("_")
    while len(words) > 1 and words[-1].isdigit():
        words.pop()
    return inference.snake("_".join(words))


def _layout(sample: Sample) -> dict[str, Any]:
    """What a CSV file's layout has beside the defaults."""
    usual = {"delimiter": ",", "quote": '"', "encoding": "utf-8"}
    if sample.format != "csv":
        return {}
    return {k: v for k, d in usual.items() if (v := getattr(sample.layout, k)) != d}


def _column(name: str, names: Mapping[str, str]) -> str:
    """A delivered column by its own name or by its new one."""
    for delivered, new in names.items():
        if name in (delivered, new):
            return delivered
    raise InputError(f"{quoting.name(name)}: no such column; there are {quoting.names(names)}")


def doubts(p: Proposal) -> Sequence[str]:
    """What a person should look at first, in sentences without any value of a row."""
    out = [f"column {quoting.name(n)} is left to _rescued: {why}" for n, why in p.sample.left_out]
    if p.sample.malformed:
        out.append(f"{p.sample.malformed:,} records are not well formed and would be quarantined")
    if not p.key:
        out.append("no key was seen: give one with --key, or every delivered row stays")
    elif not inference.is_unique(p.sample.rows, p.key):
        out.append("the key is not unique in these rows: the newest of a key would stay")
    elif not p.sequence:
        out.append("nothing tells which record of a key is newer: give it with --sequence")
    out += [f"{p.names[c.name]}: {c.note}" for c in p.columns if c.note]
    return out
