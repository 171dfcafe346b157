"""Reading the settings of one environment: one validated file, chosen by LAKEHOUSE_ENV.

Belongs here: finding the project and the file, and the errors that name file, key and remedy. Does
not belong here: which settings there are (model.py).

A value is written in the file, or `{env: NAME}` or `{env: NAME, default: VALUE}` (taken from that
environment variable at load), or `{secret: NAME}` (must exist at load, is read again only where it
is used, and is never kept).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from lakehouse.settings.model import Settings
from lakehouse.settings.references import Secret, SettingsError, resolve

ENVIRONMENTS = ("local", "dev", "staging", "prod")
SETTINGS, SOURCES = "LAKEHOUSE_SETTINGS", "LAKEHOUSE_SOURCES"
FILES = Path(__file__).parent / "environments"
_TARGETS = ("duckdb", "redshift", "sns", "file", "sqlite", "postgres", "dynamodb")


def project_root() -> Path:
    """The current project: the nearest folder from here upwards with contracts in it, or else the
    source tree that this package lies in."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "contracts").is_dir() and (folder / "pyproject.toml").is_file():
            return folder
    return Path(__file__).resolve().parents[3]


def load_settings(
    environment: str | None = None,
    *,
    home: str | Path | None = None,
    project: str | Path | None = None,
    folder: str | Path | None = None,
) -> Settings:
    """Reads and checks the settings of an environment (default: LAKEHOUSE_ENV, else `local`).

    `home` defaults to LAKEHOUSE_HOME, else `.lakehouse` in the project; `folder` holds the files, by
    default that of LAKEHOUSE_SETTINGS, else those of this package.
    The part `sources` is read from the file that LAKEHOUSE_SOURCES names, if it names one.
    Raises SettingsError that lists everything that is wrong at once.
    """
    environment = environment or os.environ.get("LAKEHOUSE_ENV") or "local"
    if environment not in ENVIRONMENTS:
        raise SettingsError(
            f"LAKEHOUSE_ENV is {environment!r}: no such environment. Use one of"
            f" {', '.join(ENVIRONMENTS)}."
        )
    project = Path(project) if project else project_root()
    home = Path(home or os.environ.get("LAKEHOUSE_HOME") or project / ".lakehouse")
    if home.exists() and not home.is_dir():
        raise SettingsError(f"LAKEHOUSE_HOME is {home}: a file. Set it to a folder.")
    path = Path(folder or os.environ.get(SETTINGS) or FILES) / f"{environment}.yaml"
    data = _read(path)
    if elsewhere := os.environ.get(SOURCES):
        data["sources"] = _read(Path(elsewhere))
    problems: list[str] = []
    resolved = resolve(data, (), problems)
    if data.get("environment") != environment:
        problems.append(f"environment: is another one, must be {environment!r}")
    for given in ("home", "project"):
        if given in data:
            problems.append(f"{given}: unknown key (set LAKEHOUSE_HOME instead)")
    if not problems:
        try:
            return Settings(**resolved, home=home.absolute(), project=project.absolute())
        except ValidationError as error:
            problems = list(_explain(error))
    raise SettingsError("\n".join(f"{path}: {p}" for p in problems))


def _read(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"{path}: settings file not found; create it") from None
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: not UTF-8 text ({error.reason})") from None
    except yaml.YAMLError as error:
        # Its own text quotes the line, which may be a secret that somebody wrote there.
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "unexpected characters"
        raise SettingsError(f"{path}{line}: not valid YAML: {problem}") from None
    if not isinstance(data, dict):
        raise SettingsError(f"{path}: settings are a mapping")
    return data


def _explain(error: ValidationError) -> Iterator[str]:
    for e in error.errors():
        key = ".".join(str(part) for part in e["loc"] if part not in _TARGETS)
        if e["type"] == "extra_forbidden":
            yield f"{key}: unknown key; remove it or correct its spelling"
        elif e["type"] == "missing":
            yield f"{key}: missing; add it"
        elif isinstance(e.get("input"), Secret):
            yield f"{key}: a secret does not belong here"
        elif e["type"] == "union_tag_invalid":  # its own text repeats the value
            chosen = e["ctx"]["discriminator"].strip("'")
            yield f"{key}: {chosen} is one of {e['ctx']['expected_tags']}"
        elif key.endswith("password"):
            yield f"{key}: write a reference such as {{secret: NAME}}, never the value itself"
        else:
            yield f"{key}: {e['msg'].removeprefix('Value error, ')}"
