"""What is wrong with a folder, counted by kind, with examples."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

EXAMPLES = 20
"""So many cases of a kind are kept, the others are counted."""


class Case(NamedTuple):
    """All cases of one kind."""

    total: int
    examples: tuple[str, ...]


class Findings:
    """Problems, which make a check fail, and notes, which do not.

    Args:
        root: what was asked to be checked; places are named from there.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.problems: dict[str, Case] = {}
        self.notes: dict[str, Case] = {}
        self.checked: dict[str, int] = {}

    def problem(self, kind: str, where: Path | str, detail: str = "") -> None:
        """One case: a kind in a few words, the file it is in and what is there."""
        _add(self.problems, kind, self._place(where, detail))

    def note(self, kind: str, where: Path | str, detail: str = "") -> None:
        """One thing worth knowing that is not wrong."""
        _add(self.notes, kind, self._place(where, detail))

    def looked_at(self, what: str, count: int) -> None:
        """So many pictures, masks, objects, ... were checked."""
        self.checked[what] = self.checked.get(what, 0) + count

    def summary(self) -> dict[str, Any]:  # Any: what json holds
        """Everything, as `--json` prints it."""
        return {
            "ok": not self.problems,
            "checked": self.checked,
            "problems": _plain(self.problems),
            "notes": _plain(self.notes),
        }

    def _place(self, where: Path | str, detail: str) -> str:
        if isinstance(where, Path):
            where = str(where.relative_to(self.root)) if where.is_relative_to(self.root) else str(where)
        return f"{where}: {detail}" if detail else where


def compare_splits(splits: Mapping[str, Mapping[str, bytes]], findings: Findings, kind: str = "picture") -> None:
    """Finds what two splits share: the same id, or another id with the same content.

    Args:
        splits: of each split, the digests of its files by id; an empty digest is not compared.
        findings: is told.
        kind: of file, for the messages.
    """
    first_with_id: dict[str, str] = {}
    first_with_digest: dict[bytes, tuple[str, str]] = {}
    for split, digests in splits.items():
        for name, digest in digests.items():
            earlier = first_with_id.setdefault(name, split)
            if earlier != split:
                findings.problem("same id in two splits", f"{name} in {earlier} and {split}")
                continue
            if not digest:
                continue
            other_split, other_name = first_with_digest.setdefault(digest, (split, name))
            if other_split != split:
                where = f"{other_name} in {other_split} and {name} in {split}"
                findings.problem(f"same {kind} in two splits", where)
            elif other_name != name:
                findings.note(f"same {kind} twice in a split", f"{other_name} and {name} in {split}")


def _plain(cases: dict[str, Case]) -> dict[str, Any]:
    return {kind: {"count": case.total, "examples": list(case.examples)} for kind, case in cases.items()}


def _add(cases: dict[str, Case], kind: str, example: str) -> None:
    total, examples = cases.get(kind, Case(0, ()))
    cases[kind] = Case(total + 1, examples if len(examples) == EXAMPLES else (*examples, example))
