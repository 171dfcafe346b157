"""The contracts of a draft, in the layout of those that people write.

Belongs here: how a proposal is written down as YAML. Does not belong here: what is proposed
(proposal.py). No value of a row is written, but for the codes that become accepted values.
"""

from __future__ import annotations

from typing import Any

import yaml

from spark_jobs import quoting
from spark_jobs.contract.personal import words
from spark_jobs.draft.inference import Column
from spark_jobs.draft.proposal import Proposal, title


def bronze(p: Proposal) -> str:
    lines = _head(p, "bronze", f"{title(p)} as delivered")
    for c in p.columns:
        lines += [
            f"      - name: {_flow(c.name)}",
            f"        physicalType: {c.delivered}",
            *(["        required: true"] if not c.nulls else []),
            *(["        classification: pii"] if c.personal else []),
            f"        description: {_flow(_described(c.name))}",
        ]
    lines += _promises(2)
    lines += _property("source", p.source)
    lines += _property("partitioning", "daily")
    lines += _property("publish", {"mode": "replace_partition"})
    return "\n".join(lines) + "\n"


def silver(p: Proposal) -> str:
    lines = _head(p, "silver", f"{title(p)}, each column in its type")
    for c in p.columns:
        needed = not c.nulls or c.name in (*p.key, p.sequence)
        note = f" # {c.note}" if c.note else ""
        lines += [
            f"      - name: {_flow(p.names[c.name])}",
            f"        physicalType: {c.type}{note}",
            *(["        required: true"] if needed else []),
            *_key(p, c),
            *(["        classification: pii"] if c.personal else []),
            f"        description: {_flow(_described(c.name))}",
            f"        transformSourceObjects: {_flow([f'bronze.{p.name}.{c.name}'])}",
            *_codes(c),
        ]
    lines += _promises(2.5)
    lines += _property("inputs", [{"table": f"bronze.{p.name}"}])
    lines += _property("partitioning", "daily")
    lines += _property("publish", p.publish)
    return "\n".join(lines) + "\n"


def _head(p: Proposal, layer: str, purpose: str) -> list[str]:
    file = quoting.name(p.sample.path.name)
    return [
        f"# A first draft, from {p.sample.extent} in {file}. Say in each description what the",
        "# column holds; then take this comment away.",
        "apiVersion: v3.1.0",
        "kind: DataContract",
        f"id: {layer}.{p.name}",
        "version: 1.0.0",
        "status: active",
        f"domain: {_flow(p.domain)}",
        "description:",
        f"  purpose: {_flow(purpose)}",
        "team:",
        f"  name: {_flow(p.owner)}",
        "schema:",
        f"  - name: {p.name}",
        "    properties:",
    ]


def _promises(latency: float) -> list[str]:
    return [
        "slaProperties:",
        "  - {property: frequency, value: 1, unit: d}",
        f"  - {{property: latency, value: {latency}, unit: h}}",
        "customProperties:",
        "  # A column without a classification is masked wherever rows are shown. Decide for each one,",
        "  # or say it here of all that say nothing: {property: classification, value: internal}",
    ]


def _property(name: str, value: Any) -> list[str]:
    if isinstance(value, list):
        items = [f"      - {_flow(item)}" for item in value]
        return [f"  - property: {name}", "    value:", *items]
    return [f"  - property: {name}", f"    value: {_flow(value)}"]


def _key(p: Proposal, c: Column) -> list[str]:
    """A place in the key is said where it is not that of the lines."""
    if c.name not in p.key:
        return []
    in_order = [x.name for x in p.columns if x.name in p.key] == list(p.key)
    place = f"        primaryKeyPosition: {p.key.index(c.name) + 1}"
    return ["        primaryKey: true", *([] if in_order else [place])]


def _codes(c: Column) -> list[str]:
    if not c.codes:
        return []
    rule = {"rule": "accepted_values", "values": list(c.codes)}
    return [
        "        quality:",
        "          - type: custom",
        "            engine: lakehouse",
        "            severity: warn",
        f"            implementation: {_flow(rule)}",
    ]


def _described(name: str) -> str:
    return " ".join(words(name)).capitalize() or name


def _flow(value: Any) -> str:
    """A value on one line of YAML, quoted where it has to be."""
    text = yaml.safe_dump(
        value, default_flow_style=True, allow_unicode=True, sort_keys=False, width=1 << 20
    )
    return text.removesuffix("...\n").strip()
