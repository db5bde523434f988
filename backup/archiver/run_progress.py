"""Progress of a run, reported from its own thread: entries seen, bytes read and bytes uploaded."""

from __future__ import annotations

from backup.archiver.contents import Contents
from backup.catalogs.report import Tally
from backup.protocols import Progress
from backup.transfer.upload import Uploader


class RunProgress:
    """Reports how many files and bytes were dealt with since the last report.

    A file counts once it was seen, its bytes as they are read, so that a large one moves the display.
    """

    def __init__(self, progress: Progress, tally: Tally, uploader: Uploader) -> None:
        self._progress = progress
        self._tally = tally
        self._uploader = uploader
        self._contents: Contents | None = None
        self._files = self._bytes = 0

    def follow(self, contents: Contents) -> None:
        """Include the file that `contents` is reading."""
        self._contents = contents

    def tell(self) -> None:
        """Report what is new; once a directory, as once a file would cost as much as a stat."""
        left = 0 if self._contents is None else self._contents.left
        self._pass_on(self._tally.files, max(self._bytes, self._tally.bytes - left))

    def settle(self) -> None:
        """Report the final figures, equal to the report's."""
        self._pass_on(self._tally.files, self._tally.bytes)

    def _pass_on(self, files: int, size: int) -> None:
        uploaded = self._uploader.sent.take()
        self._progress.advance(files=files - self._files, done=size - self._bytes, uploaded=uploaded)
        self._files, self._bytes = files, size
