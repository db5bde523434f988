"""Smaller frames than a backup usually makes, so that little data has many of them.

frames_of_at_most(monkeypatch, 8 * KIB)
"""

from __future__ import annotations

import pytest

from backup.archiver import pipeline


def frames_of_at_most(patch: pytest.MonkeyPatch, size: int) -> None:
    """From now on a frame has at most so many bytes, or one chunk; no more if it has small files."""
    patch.setattr(pipeline, "FRAME_SIZE", size)
    patch.setattr(pipeline, "FRAMES_OF_A_PACK", 2**62)
