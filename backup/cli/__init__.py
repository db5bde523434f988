"""The command `nightvault`: a table of commands, each imported only when it is used."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from backup import __version__
from backup.cli.support.completing import COMPLETE_VARIABLE
from backup.cli.support.context import Cli
from backup.cli.support.failures import run_to_exit_code
from backup.cli.support.grouping import HIDDEN, LazyCommand, LazyGroup
from backup.cli.support.process_setup import know_the_zone, secure_process, speak_utf8

# Rows make hundreds of thousands of objects and no cycles: with Python's default thresholds, looking for
# cycles among them takes a tenth of a backup's CPU. The first is more than all imports make (100,000), else
# looking at these takes a tenth of a small command's.
GC_THRESHOLDS = (250_000, 20, 50)


# Every command, with its line of help, in the groups that `nightvault --help` shows; each group has a folder.
# The command `a-b` is the function `a_b` of `a_b.py` there; `EXAMPLES` there are two for each of its paths.
SECTIONS = {
    "Every day": {
        "begin": "Write the first config by questions, and begin.",
        "init": "Set up the state directory, inventory and keys.",
        "backup": "Back up one job, several or all.",
        "status": "Show whether all is well.",
        "snapshots": "List snapshots.",
        "runs": "List runs and their outcomes.",
        "notify": "Test notification channels; list and send messages.",
        "daemon": "Run the scheduled tasks until stopped.",
        "run": "Ask the daemon to back up a job now.",
        "cancel": "Ask the daemon to end a run.",
        "pause": "Pause a job's schedules until a given time.",
        "resume": "End the pause of a job.",
        "web": "Serve the web page: status, runs, snapshots.",
        "install": "Write systemd units for this machine.",
        "uninstall": "Remove the systemd units that install wrote.",
        "config": "Check the config file, and show what is in force.",
    },
    "Looking": {
        "ls": "List the contents of a snapshot.",
        "find": "Find files over all snapshots, by name or path.",
        "versions": "List every version of one file.",
        "diff": "Show what differs between two snapshots.",
        "mount": "Mount everything that was saved as files.",
        "serve-files": "Serve everything that was saved over WebDAV.",
        "stats": "Show what is stored, what it costs, and how it grows.",
        "vaults": "List the vaults and their contents.",
        "archives": "List the archives in the vaults.",
        "listing": "Ask a vault for its own list of archives.",
        "prices": "Print the prices that quotes are made of.",
    },
    "Restoring": {
        "restore": "Restore a snapshot or a path in it.",
        "dump": "Write a file, or a tree as a tar, to standard output.",
        "restores": "List restores and what they wait for.",
        "rebuild": "Rebuild the inventory from the vault.",
    },
    "Keeping house": {
        "check": "Check that what was stored is still there.",
        "drill": "Rehearse a restore now: read back, or open.",
        "drills": "List drills, and what was read back and opened.",
        "forget": "Forget what policies do not keep; take it back.",
        "prune": "Delete from a vault what no kept snapshot needs.",
        "undelete": "Take back archives that a prune has condemned.",
        "compact": "Free archives that are mostly dead.",
        "copy": "Copy snapshots into another vault, still sealed.",
        "object-lock": "Renew locks of what is stored.",
        "vault-lock": "Lock a Glacier vault: begin, try, complete.",
        "tag": "Give snapshots tags.",
        "pin": "Keep snapshots whatever the policy says.",
        "unpin": "Let the policy decide on snapshots again.",
        "doctor": "Check the set-up for common omissions.",
        "unlock": "Show who holds locks, or take that of backups away.",
        "inventory": "Copy, check and shrink the inventory's file.",
    },
    "Keys and certificates": {
        "key": "Recovery keys, and enrolling this server's signer.",
        "identity": "This server's certificate and private key.",
        "ca": "A small certificate authority for Roles Anywhere.",
        "setup": "Set up AWS for this config, shown first; undo it.",
        "aws": "Policies and settings that AWS needs for this config.",
    },
    "Many servers": {
        "center": "One place that is told how many servers are.",
    },
    "AWS keys for other programs": {
        "credential-process": "Print AWS keys, for any tool's credential_process.",
        "aws-keys": "Serve AWS keys, keep a profile fresh, try an identity.",
    },
    "Trying out": {
        "demo": "Show a backup and restore on this machine alone.",
        "emulator": "A local AWS to try things on.",
    },
    "This program": {
        "completion": "Let a shell complete jobs, snapshots, paths.",
        "version": "Print the version.",
    },
}

OLD_NAMES = {
    "serve": "aws-keys serve",
    "update": "aws-keys update",
    "sign-string": "aws-keys sign-string",
    "read-certificate-data": "aws-keys read-certificate-data",
}
"""Names by which scripts and units may call a command, and its name by now; no help shows them."""


FOLDERS = {
    "Every day": "daily",
    "Looking": "looking",
    "Restoring": "restoring",
    "Keeping house": "maintenance",
    "Keys and certificates": "keys",
    "Many servers": "center",
    "AWS keys for other programs": "keys",
    "Trying out": "trying",
    "This program": "program",
    HIDDEN: "keys",
}
"""The folder of each group's commands, with the screens that only they use."""


def _command(name: str, summary: str, section: str) -> LazyCommand:
    """A command: the function of its name, in the file of its name, in the folder of its group."""
    word = name.replace("-", "_")
    return LazyCommand(f"backup.cli.{FOLDERS[section]}.{word}:{word}", summary, section)


COMMANDS = {
    name: _command(name, summary, section)
    for section, commands in SECTIONS.items()
    for name, summary in commands.items()
} | {name: _command(name, f"The same as `nightvault {now}`.", HIDDEN) for name, now in OLD_NAMES.items()}


def leave_out_current_directory() -> None:
    """Remove the current directory from the module search path, unless this program is in it.

    It is in the search path with `python -c`, and by an empty entry in `PYTHONPATH`. A module that a command
    imports late would otherwise be taken from the directory in which an admin happens to work.
    """
    try:
        here = os.path.realpath(os.getcwd())
    except OSError:  # it was removed: nothing can lie there
        return
    ours = os.path.realpath(os.path.dirname(os.path.dirname(os.path.dirname(__file__))))
    if here != ours:
        sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry) != here]


class Main(LazyGroup):
    """The root group; only here are errors of commands turned into exit codes."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = "nightvault",
        complete_var: str | None = COMPLETE_VARIABLE,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command that the arguments name, and exit with its exit code."""
        gc.set_threshold(*GC_THRESHOLDS)
        if standalone_mode:
            # Else Python looks for cycles at its end, among all that was imported: a quarter of its time.
            atexit.register(gc.freeze)
            speak_utf8()
            secure_process()
            if told := know_the_zone():
                click.echo(f"warning: {told}", err=True)
            leave_out_current_directory()
        words = list(sys.argv[1:] if args is None else args)
        if COMPLETE_VARIABLE in os.environ:
            from backup.cli.support import shells  # noqa: F401  makes the shells known to click
        cli = extra.setdefault("obj", Cli())

        def run() -> object:
            return super(Main, self).main(words, prog_name, complete_var, standalone_mode=False, **extra)

        return sys.exit(run_to_exit_code(run, cli, words)) if standalone_mode else run()


@click.group("nightvault", cls=Main, table=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="nightvault")
def main() -> None:
    """Sealed, deduplicated nightly backups into cold storage.

    Begin with `nightvault begin`; `nightvault COMMAND --help` tells more of each command.
    """
