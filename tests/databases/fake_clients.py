"""Clients of PostgreSQL that are scripts: they answer as the real ones do, or fail as a test wants."""

from __future__ import annotations

import os
import sys
from pathlib import Path

PSQL = f"""#!{sys.executable} -IS
import os, sys
if os.environ.get("PGPASSWORD") != open(os.path.dirname(__file__) + "/password").read().strip():
    sys.exit("psql: error: password authentication failed")
for line in sys.stdin:
    said = ""
    if "pg_export_snapshot()" in line: said = "00000003-1\\0" + "17.2\\0UTF8\\0"
    if "datallowconn" in line: said = open(os.path.dirname(__file__) + "/names").read()
    if "relpersistence" in line: said = "public\\0orders\\0public.orders\\0public\\0log_1\\0public.log_1\\0"
    if "FROM ONLY" in line: said = "41\\0"
    if "WHERE datname = '" in line: said = "1\\0" if "'shop'" in line else "0\\0"
    if "pg_proc" in line: said = open(os.path.dirname(__file__) + "/holds").read() + "\\0"
    if " DATABASE " in line: open(os.path.dirname(__file__) + "/loaded", "a").write(line.split("0;")[-1])
    if "chr(1)" in line: said = "\\1end\\2\\0"
    sys.stdout.write(said)
    sys.stdout.flush()
"""
DUMP = f"""#!{sys.executable} -IS
import os, sys, time
(name,) = [word.partition("=")[2] for word in sys.argv if word.startswith("--dbname=")]
how = os.path.dirname(__file__) + "/how"
if os.path.exists(how): exec(open(how).read())
sys.stdout.write("PGDMP of " + name + "\\n" + open(os.path.dirname(__file__) + "/rows").read())
"""
ALL = f"""#!{sys.executable} -IS
print("CREATE ROLE app;\\n--\\n-- PostgreSQL database cluster dump complete\\n--\\n")
"""
RESTORE = f"""#!{sys.executable} -IS
import os, sys, time
here = os.path.dirname(__file__)
if os.path.exists(here + "/how"): exec(open(here + "/how").read())
open(here + "/loaded", "a").write(repr(sys.argv[1:]) + sys.stdin.read())
"""


class Clients:
    """A folder of clients; the databases that their server has, what is in each, and how dumps fail."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.password = f"kestrel-Umbra {os.urandom(4).hex()}"  # another test may run beside this one
        folder.mkdir()
        for name, text in (("psql", PSQL), ("pg_dump", DUMP), ("pg_dumpall", ALL), ("pg_restore", RESTORE)):
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        self.password_file = folder / "password"
        self.password_file.write_text(f"{self.password}\n")
        self.password_file.chmod(0o600)
        self.has("shop")
        (folder / "holds").write_text("0")
        self.holds("a row\n")

    def has(self, *names: str) -> None:
        """The server has these databases."""
        (self.folder / "names").write_text("".join(f"{name}\0" for name in names))

    def holds(self, rows: str) -> None:
        """Each database has this in it."""
        (self.folder / "rows").write_text(rows)

    def dumps(self, how: str) -> None:
        """`pg_dump` runs this Python first, with the database's `name`; "" for nothing."""
        (self.folder / "how").write_text(how)

    @property
    def loaded(self) -> str:
        """What was made, dropped and loaded."""
        return (self.folder / "loaded").read_text() if (self.folder / "loaded").exists() else ""

    def section(self, *lines: str) -> str:
        """The table of the config for all databases; `lines` come after, and may be tables of it."""
        known = [f'programs = "{self.folder}"', f'password_file = "{self.password_file}"']
        return "\n".join(["", "[[job.database]]", 'kind = "postgresql"', *known, *lines, ""])
