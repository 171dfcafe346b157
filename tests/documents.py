"""The project's documents as tests see them: pages, their code blocks, links and commands.

Belongs here: taking Markdown apart. Does not belong here: what must be true of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
README = PROJECT / "README.md"
RUNBOOK = PROJECT / "docs/runbook.md"
# Sections of the runbook that are rehearsed step by step, with a look at the lake in between.
DRILLS = ("A bad day", "Restore a version")

# The title of a block whose lines are servers (test_deployment.py).
A_PROCESS_EACH = "a process each"

_FENCE = re.compile(r"^```(?P<language>\w*)(?: title=\"(?P<title>[^\"]*)\")?$")
_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
# A command ends where the shell's own syntax begins.
_COMMAND = re.compile(r"(?:^|[\s(`])lakehouse((?: [^\s|;&)>`]+)*)")
_TARGET = re.compile(r"(?:^|[\s`(])make ([a-z-]+)")


@dataclass(frozen=True)
class Block:
    """A fenced block of code: its language and title as written, and where it begins."""

    page: Path
    line: int
    language: str
    title: str
    text: str

    @property
    def expected_exit_code(self) -> int:
        found = re.fullmatch(r"exit code (\d)", self.title)
        return int(found[1]) if found else 0

    def __str__(self) -> str:
        return f"{self.page.relative_to(PROJECT)}:{self.line}"


def pages() -> list[Path]:
    """Every document that people read, README first."""
    return [README, *sorted((PROJECT / "docs").rglob("*.md"))]


def blocks(page: Path) -> list[Block]:
    out, opened, body = [], None, []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fence = _FENCE.match(line.strip())
        if opened is None and fence:
            opened, body = (number, fence["language"], fence["title"] or ""), []
        elif opened is not None and line.strip() == "```":
            out.append(Block(page, *opened, "\n".join(body) + "\n"))
            opened = None
        elif opened is not None:
            body.append(line)
    assert opened is None, f"{page}:{opened and opened[0]}: block never ends"
    return out


def section(page: Path, heading: str) -> list[Block]:
    """The blocks below a heading of the second level, up to the next one."""
    lines = page.read_text(encoding="utf-8").splitlines()
    first = lines.index(f"## {heading}") + 1
    ends = [n for n, line in enumerate(lines, 1) if line.startswith("## ") and n > first]
    last = ends[0] if ends else len(lines) + 1
    return [b for b in blocks(page) if first < b.line < last]


def prose(page: Path) -> str:
    """The page without its blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def inline_code(page: Path) -> list[str]:
    return _CODE.findall(prose(page))


def links(page: Path) -> list[str]:
    """Link and image targets."""
    return _LINK.findall(_CODE.sub("", prose(page)))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as both GitHub and the site make them."""
    plain = (re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", h) for h in _HEADING.findall(prose(page)))
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", h.lower()).strip()) for h in plain}


def commands(page: Path) -> Iterator[list[str]]:
    """The words after `lakehouse`, wherever the page shows a command."""
    shown = [b.text for b in blocks(page) if b.language in ("sh", "text")]
    shown += [f"`{code}`" for code in inline_code(page)]
    for text in shown:
        for line in text.splitlines():
            for found in _COMMAND.finditer(line):
                yield found[1].split()


def make_targets(page: Path) -> set[str]:
    shown = [b.text for b in blocks(page) if b.language == "sh"]
    shown += [f"`{code}`" for code in inline_code(page)]
    return {t for text in shown for line in text.splitlines() for t in _TARGET.findall(line)}
