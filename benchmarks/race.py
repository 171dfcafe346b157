"""Lets contenders take turns at the same work, each in a process of its own.

Belongs here: the order of the turns, what is prepared before each, and that all outputs agree.
Does not belong here: which contenders meet, and what ratio is asked of them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import measure
from benchmarks.compare import Fingerprint, differences, fingerprints
from benchmarks.measure import ContenderFailed, Cost

Prepare = Callable[[Path], None]
Inspect = Callable[[Path], None]


@dataclass(frozen=True)
class Contender:
    """A module that is run with arguments; `{out}` in them is a folder of its own for each turn.

    `prepare` fills that folder beforehand, `inspect` looks at it afterwards; neither is measured.
    `output` is where the tables are that are compared with those of the others, if any are;
    `variables` are of its environment.
    """

    name: str
    module: str
    arguments: tuple[str, ...]
    output: str | None = None
    prepare: Prepare | None = None
    inspect: Inspect | None = None
    variables: Mapping[str, str] = field(default_factory=dict)


def race(
    contenders: Sequence[Contender],
    runs: int,
    work: Path,
    tell: Callable[[str], None],
) -> dict[str, Cost]:
    """Every contender runs `runs` times, in turns; returns the medians by name.

    Raises ContenderFailed if one fails, or if its tables differ from those of the first.
    """
    costs: dict[str, list[Cost]] = {c.name: [] for c in contenders}
    first: tuple[str, dict[str, Fingerprint]] | None = None
    for turn in range(runs):
        for contender in contenders:
            out = work / "out"
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir(parents=True)
            if contender.prepare:
                contender.prepare(out)
            arguments = [a.format(out=out) for a in contender.arguments]
            log = work / "logs" / f"{contender.name.replace(' ', '-')}.log"
            cost = measure.run(contender.module, arguments, log, **contender.variables)
            tell(f"{contender.name}, turn {turn + 1} of {runs}: {cost.wall:.1f} s")
            costs[contender.name].append(cost)
            if contender.inspect:
                contender.inspect(out)
            if contender.output is not None and turn == 0:
                found = fingerprints(out / contender.output)
                first = first or (contender.name, found)
                _ensure_equal(first, (contender.name, found))
            shutil.rmtree(out, ignore_errors=True)
    return {name: Cost.median_of(several) for name, several in costs.items()}


def _ensure_equal(
    first: tuple[str, dict[str, Fingerprint]], second: tuple[str, dict[str, Fingerprint]]
) -> None:
    different = differences(first[1], second[1])
    if different:
        raise ContenderFailed(
            f"{second[0]} leaves other tables than {first[0]}, so their times say nothing:\n  "
            + "\n  ".join(different)
        )
