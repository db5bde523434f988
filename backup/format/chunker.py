"""Content-defined chunking (FastCDC 2020): the cuts do not depend on the sizes of the windows fed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from backup.model import KIB, MIB

MINIMUM = 256 * KIB
AVERAGE = 1 * MIB
MAXIMUM = 4 * MIB
_NORMALISATION: Final = 2  # with 0, repetitive text is cut badly: one inserted byte moved every cut


class Chunker:
    """Cuts windows of a file into chunk lengths.

    A cut depends on its chunk's bytes and the one after them, and on nothing before. Not safe for concurrent
    use: one Chunker a thread. `window` is the best size to give; `seed` is 0 to 2**63 - 1 (0: the paper's own
    gear table).
    """

    def __init__(
        self, seed: int, *, minimum: int = MINIMUM, average: int = AVERAGE, maximum: int = MAXIMUM
    ) -> None:
        from pyfastcdc import FastCDC  # it takes a while, and a night without a change cuts nothing

        self.maximum = maximum
        self.window = maximum
        self._fastcdc = FastCDC(
            average, min_size=minimum, max_size=maximum, normalized_chunking=_NORMALISATION, seed=seed
        )

    def cuts(self, window: memoryview | bytes, *, final: bool) -> Iterator[int]:
        """The lengths of the chunks at the window's start that are certain, each as it is found.

        A chunk is certain when its end was found before the window's, when it has `maximum` bytes, or when
        `final` says that the file ends with the window: then the lengths cover it. Else the caller moves what
        is not covered to the front of the next window; a window of `maximum` bytes gives at least one chunk.
        """
        left = len(window)
        for chunk in self._fastcdc.cut_buf(window):
            left -= chunk.length
            if not left and not final and chunk.length < self.maximum:
                return
            yield chunk.length
