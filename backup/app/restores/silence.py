"""A `Progress` that shows nothing."""

from __future__ import annotations


class Silent:
    """A `Progress` that shows nothing."""

    def start(self, title: str, total: int | None = None, *, counts: str = "file") -> None:
        """Do nothing."""

    def expect(self, total: int | None, *, sends: bool = False) -> None:
        """Do nothing."""

    def advance(
        self, *, files: int = 0, done: int = 0, packed: int = 0, uploaded: int = 0, stored: int = 0
    ) -> None:
        """Do nothing."""

    def note(self, text: str) -> None:
        """Do nothing."""

    def finish(self, *, is_done: bool = True) -> None:
        """Do nothing."""
