"""Whether a document meets the Open Data Contract Standard, by the standard's own JSON schema.

Belongs here: that schema, and asking it in a time that suits every start of a process. Does not
belong here: what this project asks of a contract beyond it (model.py, validity.py).
"""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Iterator
from functools import cache
from typing import Any


@cache
def validator() -> Any:
    """A jsonschema validator of the standard; importing that library takes a while."""
    import jsonschema

    text = importlib.resources.files("open_data_contract_standard").joinpath("schema.json")
    schema = json.loads(text.read_text(encoding="utf-8"))
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
