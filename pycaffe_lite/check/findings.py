"""The errors and warnings for files, each with its place."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..errors import CaffeError, Place

MAX_LINES = 200  # of a file and the nets that it names


@dataclass
class Findings:
    """Errors and warnings without duplicates, in the order of discovery."""

    errors: dict[str, Place] = field(default_factory=dict)
    warnings: dict[str, Place] = field(default_factory=dict)

    def error(self, error: CaffeError) -> None:
        self.errors.setdefault(str(error), Place.of(error.where))

    def warning(self, message: str, where: str) -> None:
        self.warnings.setdefault(str(CaffeError(message, where)), Place.of(where))

    def lines(self) -> list[str]:
        """At most `MAX_LINES` of `error: ...` and `warning: ...`, by file in the order of first findings, and by line."""
        texts = [("error", *item) for item in self.errors.items()] + [("warning", *item) for item in self.warnings.items()]
        files = list(dict.fromkeys(place.file for _, _, place in texts))
        texts.sort(key=lambda item: (files.index(item[2].file), item[2].line))
        more = [f"... and {len(texts) - MAX_LINES} more"] if len(texts) > MAX_LINES else []
        return [f"{kind}: {text}" for kind, text, _ in texts[:MAX_LINES]] + more
