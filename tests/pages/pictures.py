"""The pictures of the documentation, drawn as SVG for light and dark pages.

`python -m tests.pages.pictures` writes them to docs/pictures/; a test holds them to this file.
"""

from __future__ import annotations

import os

from tests.pages import ten_years
from tests.pages.drawing import DARK, LIGHT, Drawing, Theme
from tests.support.emulated import REPOSITORY

FOLDER = REPOSITORY / "docs" / "pictures"


def house(theme: Theme) -> Drawing:
    """Who has what: the server, AWS, the vault, and you."""
    d = Drawing(theme, 760, 410, "How a server, its vault and the recovery key belong together")
    d.box(16, 16, 280, 236, "The server", fill="server")
    d.box(30, 48, 252, 60, "files, commands, devices", "read once, then only what changed")
    d.box(30, 118, 252, 60, "inventory", "SQL: entries, and where chunks are")
    d.box(30, 188, 252, 52, "certificate and private key", "in a file, on a token, in a TPM")
    d.box(
        16,
        306,
        280,
        88,
        "You",
        "recovery key: opens every pack",
        "the CA that signs the certificate",
        fill="key",
    )
    d.box(
        500,
        16,
        244,
        84,
        "AWS, IAM Roles Anywhere",
        "trusts the CA; gives keys",
        "that end within hours",
        fill="vault",
    )
    d.box(
        500, 150, 244, 122, "The vault", "Glacier vault, bucket, directory", "packs: sealed and signed",
        "catalogs: what has changed", "enough to rebuild the inventory", fill="vault",
    )  # fmt: skip
    d.arrow((296, 214), (460, 214), (460, 58), (494, 58))
    d.text(452, 206, "signs a request", end=True)
    d.arrow((296, 78), (410, 78), (410, 178), (494, 178))
    d.text(304, 70, "packs, at night")
    d.arrow((622, 272), (622, 366), (302, 366))
    d.text(614, 358, "a restore: retrieve, then open", end=True)
    d.arrow((156, 306), (156, 258), dashed=True)
    d.text(168, 286, "its public half: it can seal, and not open")
    return d


def pack(theme: Theme) -> Drawing:
    """A pack's parts, and how a chunk gets into it."""
    d = Drawing(theme, 760, 380, "A pack: header, frames, directory, trailer")
    steps = [
        ("file", "any size"),
        ("chunks", "cut by content"),
        ("new ones", "known: dropped"),
        ("frame", "joined, zstd"),
    ]
    for number, (title, text) in enumerate(steps):
        d.box(16 + 186 * number, 16, 150, 56, title, text, fill="server")
        if number:
            d.arrow((166 + 186 * (number - 1), 44), (196 + 186 * (number - 1), 44))
    d.arrow((649, 72), (649, 106), (222, 106), (222, 140))
    d.text(436, 98, "AES-256-GCM, by the pack's own key", middle=True)
    d.box(16, 146, 150, 70, "header", "in the clear, signed", fill="key")
    for number in range(3):
        last = number == 2
        d.box(
            172 + 96 * number, 146, 90, 70, "…" if last else "frame", "" if last else "to 6 MiB", fill="vault"
        )
    d.box(460, 146, 140, 70, "directory", "sealed: which", "chunk is where", fill="vault")
    d.box(606, 146, 138, 70, "trailer", "where the", "directory is", fill="key")
    d.line(16, 216, 16, 258)
    d.line(166, 216, 316, 258)
    d.box(
        16, 258, 300, 104, "what the header holds",
        "the pack's key, sealed to each recipient", "(X-Wing: ML-KEM-768 with X25519)",
        "the signature of the inventory's signer", fill="key",
    )  # fmt: skip
    d.text(340, 280, "One archive: 224 MiB in a Glacier vault, 64 MiB in a bucket.")
    d.text(340, 304, "From a Glacier vault only wanted ranges are retrieved.")
    d.text(340, 328, "Every frame is read back and opened before it is sent.")
    d.text(340, 352, "Without the signer's key nobody can add a pack.")
    return d


def night(theme: Theme) -> Drawing:
    """A backup from its start to the commit."""
    d = Drawing(theme, 760, 390, "A night: from the schedule to the snapshot")
    steps = [
        ("1 lock, recognise", "the right vault?", "settle a dead run", "plain"),
        ("2 walk", "compare with the", "inventory", "server"),
        ("3 read, cut, name", "changed files only;", "drop known chunks", "server"),
        ("4 seal", "compress, encrypt;", "read back, open", "server"),
        ("5 upload", "in parts; resumed;", "then it is stored", "vault"),
        ("6 catalog", "what has changed:", "the commit point", "vault"),
        ("7 snapshot", "one transaction in", "the inventory", "plain"),
    ]
    for number, (title, first, second, fill) in enumerate(steps):
        row, column = divmod(number, 4)
        x, y = 16 + 187 * column, 16 + 140 * row
        d.box(x, y, 160, 76, title, first, second, fill=fill)
        if column:
            d.arrow((x - 27, y + 38), (x - 4, y + 38))
    d.arrow((657, 92), (657, 122), (96, 122), (96, 150))
    d.text(16, 272, "Wherever the power fails:", bold=True)
    d.text(
        16, 296, "before 5, time is lost and nothing else: an unfinished pack in the spool is thrown away;"
    )
    d.text(16, 320, "in 5, the next run finishes the upload, and sends no finished part twice;")
    d.text(16, 344, "before the catalog is stored there is no snapshot, but what is stored is built upon;")
    d.text(16, 368, "after it the snapshot exists: the next start records it.")
    return d


def restore(theme: Theme) -> Drawing:
    """The states of a restore and of its retrievals."""
    d = Drawing(theme, 760, 380, "A restore: its states, and what moves it on")
    d.box(16, 30, 150, 76, "--dry-run", "a quote: money and", "hours of each tier", fill="key")
    d.box(212, 30, 150, 76, "planned", "ranges recorded;", "packs' keys kept")
    d.box(408, 30, 150, 76, "waiting", "the vault makes it", "readable: hours", fill="vault")
    d.box(604, 30, 140, 76, "ready", "for a day or more;", "then it expires", fill="vault")
    d.arrow((166, 68), (206, 68))
    d.arrow((362, 68), (402, 68))
    d.arrow((558, 68), (598, 68))
    d.text(188, 20, "with the key", middle=True, faint=True)
    d.text(385, 20, "requested", middle=True, faint=True)
    d.arrow((700, 106), (700, 196))
    d.box(604, 202, 140, 76, "fetched", "frames verified,", "chunks named", fill="server")
    d.box(388, 202, 170, 76, "written", "by a temporary name,", "synced, then named", fill="server")
    d.box(182, 202, 160, 76, "done", "metadata is set;", "--verify reads back", fill="server")
    d.arrow((604, 240), (564, 240))
    d.arrow((388, 240), (348, 240))
    d.arrow((640, 106), (640, 138), (520, 138), (520, 112), dashed=True)
    d.text(580, 154, "expired: requested again", middle=True, faint=True)
    d.box(
        182, 306, 376, 58, "exit code 17: it waits", "the same command, or the daemon, goes on", fill="stop"
    )
    d.arrow((440, 106), (440, 172), (96, 172), (96, 335), (176, 335), dashed=True)
    d.text(106, 164, "without --wait", faint=True)
    d.text(580, 330, "restore resume ID", bold=True)
    d.text(580, 352, "restore cancel ID", bold=True)
    return d


PICTURES = {"house": house, "pack": pack, "night": night, "restore": restore, **ten_years.PICTURES}


def files() -> dict[str, str]:
    """Every picture by its file name."""
    return {
        f"{name}-{theme.name}.svg": draw(theme).svg()
        for name, draw in PICTURES.items()
        for theme in (LIGHT, DARK)
    }


if __name__ == "__main__":
    os.makedirs(FOLDER, exist_ok=True)
    for name, text in files().items():
        (FOLDER / name).write_text(text)
