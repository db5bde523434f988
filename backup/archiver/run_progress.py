"""How a run gets on, told from its own thread: what was seen and read, and what went up meanwhile."""

from __future__ import annotations

from backup.archiver.contents import Contents
from backup.archiver.report import Tally
from backup.protocols import Progress
from backup.transfer.upload import Uploader


class RunProgress:
    """Tells how many files and bytes are dealt with since the last time.

    A file counts once it was seen, its bytes as they are read, so that a large one moves what is told.
    """

    def __init__(self, progress: Progress, tally: Tally, uploader: Uploader) -> None:
        self._progress = progress
        self._tally = tally
        self._uploader = uploader
        self._contents: Contents | None = None
        self._files = self._bytes = 0

    def follow(self, contents: Contents) -> None:
        """Look at what is being read, too."""
        self._contents = contents

    def tell(self) -> None:
        """Tell what is new; directory by directory, as one by one would cost as much as to look."""
        left = 0 if self._contents is None else self._contents.left
        self._pass_on(self._tally.files, max(self._bytes, self._tally.bytes - left))

    def settle(self) -> None:
        """Tell what it came to: the same figures as the report's."""
        self._pass_on(self._tally.files, self._tally.bytes)

    def _pass_on(self, files: int, size: int) -> None:
        uploaded = self._uploader.sent.take()
        self._progress.advance(files=files - self._files, done=size - self._bytes, uploaded=uploaded)
        self._files, self._bytes = files, size
