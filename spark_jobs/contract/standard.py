"""Whether a document meets the Open Data Contract Standard, by the standard's own JSON schema.

Belongs here: that schema, and asking it in a time that suits every start of a process. Does not
belong here: what this project asks of a contract beyond it (model.py, validity.py).
"""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
import json
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata
from typing import TYPE_CHECKING, Any

from spark_jobs import cache

if TYPE_CHECKING:
    from jsonschema import ValidationError


def first_unmet(document: Any) -> ValidationError | None:
    """The first demand of the standard that a document does not meet.

    To ask takes a third of a second for forty contracts, at each start of a process. So those that meet
    all are remembered on this machine, by a digest of the document and of what has judged it.
    """
    note = None
    with suppress(OSError, RuntimeError):  # no home, or one that cannot be read or written
        judged = (_schema(), _library(), _code(), repr(document).encode())
        note = cache.folder("standard") / hashlib.sha256(b"\0".join(judged)).hexdigest()
        if note.exists():
            return None
    unmet: ValidationError | None = next(iter(validator().iter_errors(document)), None)
    if unmet is None and note is not None:
        with suppress(OSError):
            note.parent.mkdir(parents=True, exist_ok=True)
            note.touch()
    return unmet


@functools.cache
def _schema() -> bytes:
    return (
        importlib.resources.files("open_data_contract_standard")
        .joinpath("schema.json")
        .read_bytes()
    )


@functools.cache
def _library() -> bytes:
    return metadata.version("jsonschema").encode()


@functools.cache
def _code() -> bytes:
    """This module, which has an opinion of its own (`validator`)."""
    return importlib.resources.files(__package__).joinpath("standard.py").read_bytes()


@functools.cache
def validator() -> Any:
    """A jsonschema validator of the standard; importing that library takes a while."""
    import jsonschema

    schema = json.loads(_schema())
    by_keyword = jsonschema.validators.validator_for(schema)
    unevaluated = by_keyword.VALIDATORS["unevaluatedProperties"]

    def unless_declared(of: Any, allowed: Any, instance: Any, schema: Any) -> Iterator[Any]:
        """Most objects have no property but those that the schema declares whatever else holds.
        To find what its conditions allow besides, the library evaluates all of them again."""
        if not of.is_type(instance, "object") or instance.keys() <= _declared(of, schema):
            return
        yield from unevaluated(of, allowed, instance, schema)

    fast = {"unevaluatedProperties": unless_declared}
    # The library has no types for this one.
    extended = jsonschema.validators.extend(by_keyword, fast)  # type: ignore[no-untyped-call]
    return extended(schema)


def _declared(of: Any, schema: Any) -> set[str]:
    """The properties that a schema declares without a condition. Those of a part that the object
    breaks are among them: that part says so."""
    if not isinstance(schema, dict):
        return set()
    names = set(schema.get("properties", ()))
    parts = [p for p in schema.get("allOf", ()) if isinstance(p, dict) and p.keys() == {"$ref"}]
    for reference in [p["$ref"] for p in (*parts, schema) if "$ref" in p]:
        found = of._resolver.lookup(reference)  # as the library's own keywords do
        part = of.evolve(schema=found.contents, _resolver=found.resolver)
        names |= _declared(part, found.contents)
    return names
