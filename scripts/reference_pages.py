"""The part of the documentation that follows from the code and the contracts; a hook of mkdocs.

Belongs here: a page per table, the list of marts, and the tables that stand in other pages as
`<!-- generated: NAME -->`. Does not belong here: prose, which is in docs/.
"""

from __future__ import annotations

import ast
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import click
import yaml
from pydantic import BaseModel

PROJECT = Path(__file__).resolve().parents[1]
MARK = re.compile(r"^<!-- generated: ([a-z-]+) -->$", re.MULTILINE)
TABLES = "reference/tables"


def table(head: list[str], rows: list[list[Any]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(c) for c in line) + " |" for line in lines)


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def code(value: Any) -> str:
    return f"`{value}`" if value not in ("", None) else ""


# -- tables ------------------------------------------------------------------------------------


def contracts() -> Mapping[str, Any]:
    from spark_jobs.contract.reader import load_contracts

    return load_contracts(PROJECT / "contracts")


def table_pages() -> dict[str, str]:
    """The pages of all tables and marts, by path."""
    loaded = contracts()
    pages = {f"{TABLES}/index.md": _table_index(loaded), "reference/marts.md": marts_page()}
    for contract in loaded.values():
        pages[page_of(contract.table)] = table_page(contract, loaded)
    return pages


def page_of(name: str) -> str:
    return f"{TABLES}/{name.replace('.', '/')}.md"


def _link(name: str, start: str = "../") -> str:
    return f"[{name}]({start}{name.replace('.', '/')}.md)"


def _table_index(loaded: Mapping[str, Any]) -> str:
    parts = [
        "# Tables",
        "",
        "One page per contract. The marts have [a page of their own](../marts.md).",
    ]
    for layer in ("bronze", "silver", "gold"):
        rows = [
            [_link(c.table, ""), c.description, ", ".join(map(code, c.key)) or "-", c.publish.mode]
            for c in sorted(loaded.values(), key=lambda c: c.name)
            if c.layer == layer
        ]
        parts += ["", f"## {layer.capitalize()}", "", table(["table", "", "key", "publish"], rows)]
    return "\n".join(parts) + "\n"


def table_page(contract: Any, loaded: Mapping[str, Any]) -> str:
    """One table: its facts, columns, checks and neighbours."""
    from spark_jobs.batch.layout import technical_columns

    columns = [
        [
            code(c.name),
            c.type,
            "yes" if c.required else "",
            "personal data" if c.pii else c.classification,
            c.description,
            ", ".join(map(code, c.sources)),
        ]
        for c in contract.columns
    ]
    technical = ", ".join(code(n) for n, _ in technical_columns(contract))
    return "\n".join(
        [
            f"# {contract.table}",
            "",
            f"{contract.description}.",
            "",
            table(["", ""], [[k, v] for k, v in _facts(contract)]),
            "",
            "## Columns",
            "",
            table(["column", "type", "required", "class", "", "from"], columns),
            "",
            f"Beside them the [platform's columns](../../lake.md#technical-columns): {technical}.",
            "",
            "## Checks",
            "",
            table(["check", "closes the gate", "what it says"], _checks(contract)),
            "",
            "## Lineage",
            "",
            *_lineage(contract, loaded),
            "",
        ]
    )


def _facts(contract: Any) -> Iterator[tuple[str, str]]:
    yield (
        "contract",
        f"`contracts/{contract.layer}/{contract.name}.yaml`, version {contract.version}",
    )
    if contract.layer != "bronze":
        yield "transform", f"`spark_jobs/tables/{contract.layer}/{contract.name}.py`"
    yield "domain, owner", f"{contract.domain}, {contract.owner}"
    yield "key", ", ".join(map(code, contract.key)) or "none"
    mode = contract.publish.model_dump(exclude={"mode"}, exclude_none=True)
    more = "".join(f", {k.replace('_', ' ')} {code(v)}" for k, v in mode.items())
    yield "publish", f"{contract.publish.mode}{more}"
    yield "partitions", contract.partitioning or "none"
    by = contract.physical_partition
    yield "files by", "not partitioned" if by == "none" else code(by)
    if contract.source:
        s = contract.source
        yield "source", f"{s.system}: `landing/{s.dataset}/<partition>/`, {s.format}"
        if len(s.days) < 7:
            yield "delivered on", ", ".join(s.days)
    for name, (value, unit) in contract.sla.items():
        yield name, f"{value:g} {unit}"


def _checks(contract: Any) -> list[list[str]]:
    from lakehouse.assets.checks import check_specs

    return [
        [code(spec.name), "yes" if spec.blocking else "", spec.description]
        for spec in check_specs(contract)
    ]


def _lineage(contract: Any, loaded: Mapping[str, Any]) -> Iterator[str]:
    if contract.source:
        yield f"- reads landing files of `{contract.source.dataset}`"
    for source in contract.inputs:
        by = f" by `{source.by}`" if source.by else ""
        yield f"- reads {_link(source.table)} ({source.read}{by})"
    for name in contract.references:
        yield f"- refers to {_link(name)}"
    readers = [c.table for c in loaded.values() if contract.table in c.upstream]
    for name in readers:
        yield f"- is read by {_link(name)}"
    for mart in sorted(m for m, sources in mart_sources().items() if contract.table in sources):
        yield f"- is read by the mart [{mart}](../../marts.md#{mart.replace('.', '')})"


# -- marts -------------------------------------------------------------------------------------


def _models() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every mart of dbt with its schema, from the files that declare them."""
    for schema in ("sales", "analytics", "finance"):
        for path in sorted((PROJECT / "dbt_project/models" / schema).glob("*.yml")):
            for model in yaml.safe_load(path.read_text()).get("models") or ():
                yield schema, model


def mart_sources() -> dict[str, set[str]]:
    """The lake tables that each mart selects from, directly or through other models."""
    references: dict[str, set[str]] = {}
    for path in (PROJECT / "dbt_project/models").rglob("*.sql"):
        text = path.read_text()
        found = {f"{a}.{b}" for a, b in re.findall(r"source\('(\w+)',\s*'(\w+)'\)", text)}
        references[path.stem] = found | set(re.findall(r"ref\('(\w+)'\)", text))

    def lake_tables(model: str, seen: frozenset[str] = frozenset()) -> set[str]:
        out: set[str] = set()
        for name in references.get(model, set()) - seen:
            out |= {name} if "." in name else lake_tables(name, seen | {model})
        return out

    return {f"{schema}.{model['name']}": lake_tables(model["name"]) for schema, model in _models()}


def marts_page() -> str:
    """Every mart with its columns."""
    parts = [
        "# Marts",
        "",
        "What dbt builds from silver and gold, in the DuckDB file of the lake.",
        "",
    ]
    sources = mart_sources()
    for schema, model in _models():
        name = f"{schema}.{model['name']}"
        rows = [
            [code(c["name"]), c.get("data_type", ""), " ".join(c.get("description", "").split())]
            for c in model.get("columns") or ()
        ]
        tables = ", ".join(_link(t, "tables/") for t in sorted(sources[name])) or "-"
        description = " ".join(model.get("description", "").split())
        parts += [f"## {name}", "", description, "", f"Selects from {tables}.", ""]
        parts += [table(["column", "type", ""], rows), ""]
    return "\n".join(parts)


# -- tables within pages -----------------------------------------------------------------------


def cli() -> str:
    """Every command with its options, as its own help tells."""
    from lakehouse.cli import main

    return "\n".join(_commands(main, "lakehouse"))


def _commands(command: click.Command, path: str) -> Iterator[str]:
    context = click.Context(command, info_name=path)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None and not found.hidden:
                yield from _commands(found, f"{path} {name}")
        return
    yield f"## {path}"
    yield ""
    yield _plain(command.help or command.short_help or "")
    yield ""
    words = [path, "[OPTIONS]"] if _options(command) else [path]
    words += [p.make_metavar(context) for p in command.params if isinstance(p, click.Argument)]
    yield f"```text\n{' '.join(words)}\n```"
    yield ""
    if rows := [_option(o, context) for o in _options(command)]:
        yield table(["option", "", "default"], rows)
        yield ""


def _plain(text: str) -> str:
    return re.sub(r"\n(?!\n)\s*", " ", text.replace("\b", "").strip()).replace("\n ", "\n\n")


def _options(command: click.Command) -> list[click.Option]:
    return [p for p in command.params if isinstance(p, click.Option) and not p.hidden]


def _option(option: click.Option, context: click.Context) -> list[str]:
    names = ", ".join([*option.opts, *option.secondary_opts])
    taken = "" if option.is_flag or option.count else f" {option.make_metavar(context)}"
    default = option.default
    if option.required:
        shown = "required"
    elif (
        callable(default)
        or default is None
        or default is False
        or "Sentinel" in type(default).__name__
    ):
        shown = ""
    else:
        shown = code(default.value if isinstance(default, Enum) else default)
    return [code(names + taken), option.help or "", shown]


def settings_keys() -> str:
    """Every key that a settings file may have, from the model that checks it."""
    from lakehouse.settings.model import Settings

    given = ("home", "project")
    rows = [row for row in _keys(Settings, "") if row[0].strip("`").split(".")[0] not in given]
    return table(["key", "value", "default"], rows)


def _keys(model: type[BaseModel], prefix: str) -> Iterator[list[str]]:
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        models = [a for a in _alternatives(field.annotation) if _is_model(a)]
        for inner in models:
            chosen = field.discriminator and inner.model_fields[field.discriminator].annotation
            for row in _keys(inner, f"{key}."):
                # One of several models: its keys are those of one choice.
                of = f", for {_type(chosen)}" if chosen and not row[0].endswith(".target`") else ""
                optional = type(None) in _alternatives(field.annotation)
                within = f" in `{key}`" if optional and row[2] == "required" else ""
                yield [row[0], row[1] + of, row[2] + within]
        if not models:
            given = field.get_default(call_default_factory=True)
            default = "required" if field.is_required() else code(_yaml(given))
            yield [code(key), _type(field.annotation), default]


def _yaml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else str(value)


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    if typing.get_origin(annotation) is typing.Annotated:
        return _alternatives(typing.get_args(annotation)[0])
    return (annotation,)


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _type(annotation: Any) -> str:
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " or ".join(map(code, args))
    if origin is dict:
        return f"{_type(args[0])}, each: {_type(args[1])}"
    if len(_alternatives(annotation)) > 1:
        return " or ".join(_type(a) for a in _alternatives(annotation) if a is not type(None))
    words = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false"}
    name = getattr(annotation, "__name__", str(annotation))
    return {"Secret": "`{secret: NAME}`", "date": "date"}.get(name) or words.get(name, name)


def environments() -> str:
    """Every setting that a settings file gives, side by side."""
    folder = PROJECT / "platform/lakehouse/settings/environments"
    given = {
        name: dict(_leaves(yaml.safe_load((folder / f"{name}.yaml").read_text()), ""))
        for name in ("local", "dev", "staging", "prod")
    }
    every = dict.fromkeys(key for values in given.values() for key in values)
    rows = [
        [code(key), *(code(values.get(key, "")) for values in given.values())]
        for key in every
        if key != "environment"
    ]
    return table(["key", *given], rows)


def _leaves(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and not {"env", "secret"} & value.keys():
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}.{name}" if key else name)
    elif isinstance(value, dict):
        name = f"secret {value['secret']}" if "secret" in value else f"${value['env']}"
        yield key, name + (f", else {value['default']}" if "default" in value else "")
    else:
        yield key, _yaml(value)


def layer_gates() -> str:
    """The thresholds of each layer."""
    from spark_jobs.contract.model import LAYER_GATES

    names = list(next(iter(LAYER_GATES.values())).model_dump())
    rows = [[code(n), *(f"{getattr(gates, n):g}" for gates in LAYER_GATES.values())] for n in names]
    return table(["threshold", *LAYER_GATES], rows)


def errors() -> str:
    """Every error that the platform raises on purpose."""
    sources = [
        *(PROJECT / "spark_jobs").glob("*.py"),
        *(PROJECT / "platform/lakehouse").glob("*.py"),
    ]
    classes = [
        node
        for path in sources
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef) and "LakehouseError" in map(ast.unparse, node.bases)
    ]
    rows = [
        [code(c.name), " ".join((ast.get_docstring(c) or "").split()), _retried(ast.unparse(c))]
        for c in sorted(classes, key=lambda c: c.name)
    ]
    return table(["error", "", "retried"], rows)


def _retried(source: str) -> str:
    if "self.permanent" in source:
        return "unless permanent"
    return "yes" if "permanent = False" in source else "no"


GENERATORS: dict[str, Callable[[], str]] = {
    "cli": cli,
    "environments": environments,
    "errors": errors,
    "layer-gates": layer_gates,
    "settings": settings_keys,
}


def filled(markdown: str) -> str:
    """A page with its generated tables. Raises KeyError for a mark that nothing generates."""
    return MARK.sub(lambda found: GENERATORS[found[1]](), markdown)


# -- mkdocs ------------------------------------------------------------------------------------


def on_config(config: Any) -> Any:
    reference = next(item["Reference"] for item in config.nav if "Reference" in item)
    by_layer = [
        {layer.capitalize(): [page_of(t) for t in sorted(contracts()) if t.startswith(f"{layer}.")]}
        for layer in ("bronze", "silver", "gold")
    ]
    reference += [{"Tables": [f"{TABLES}/index.md", *by_layer]}, {"Marts": "reference/marts.md"}]
    return config


def on_files(files: Any, config: Any) -> Any:
    from mkdocs.structure.files import File

    for path, text in table_pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    return filled(markdown)
