"""The ranges of an archive of seven MiB that have a tree hash, as AWS documents them."""

from __future__ import annotations

SEVEN = {
    *((0, 1), (0, 2), (0, 4), (0, 7), (1, 2), (2, 3), (2, 4)),
    *((3, 4), (4, 5), (4, 6), (4, 7), (5, 6), (6, 7)),
}
