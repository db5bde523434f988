"""The command `nightvault`: a table of commands, each imported only when it is used."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from backup import __version__
from backup.cli.support.context import Cli
from backup.cli.support.failures import run_to_exit_code
from backup.cli.support.grouping import LazyCommand, LazyGroup
from backup.cli.support.process_setup import secure_process

# Rows make hundreds of thousands of objects and no cycles: with Python's default thresholds, looking for
# cycles among them takes a tenth of a backup's CPU.
_GC_THRESHOLDS = (100_000, 50, 50)


def _command(target: str, summary: str) -> LazyCommand:
    """A command of `backup.cli.commands`, named as `module:function`."""
    return LazyCommand(f"backup.cli.commands.{target}", summary)


COMMANDS = {
    "init": _command("init:init", "Set up the state directory, inventory, signer and recovery key."),
    "key": _command("key:key", "Recovery keys, and enrolling this server's signer."),
    "ca": _command("ca:ca", "A small certificate authority for Roles Anywhere."),
    "identity": _command("identity:identity", "This server's certificate and private key."),
    "aws": _command("aws:aws", "Policies and settings that AWS needs for this config."),
    "credential-process": _command(
        "credential_process:credential_process",
        "Print AWS keys, for any tool's credential_process.",
    ),
    "serve": _command("serve:serve", "Hand out AWS keys as an EC2 instance's metadata does."),
    "update": _command("update:update", "Keep a profile of ~/.aws/credentials fresh."),
    "sign-string": _command("sign_string:sign_string", "Sign a test string with the identity."),
    "read-certificate-data": _command(
        "read_certificate_data:read_certificate_data", "Show a certificate, or those on tokens."
    ),
    "backup": _command("backup:backup", "Back up one job, several or all."),
    "snapshots": _command("snapshots:snapshots", "List snapshots."),
    "forget": _command("forget:forget", "Forget what policies do not keep; take it back."),
    "tag": _command("tag:tag", "Give snapshots tags."),
    "pin": _command("pin:pin", "Keep snapshots whatever the policy says."),
    "unpin": _command("unpin:unpin", "Let the policy decide on snapshots again."),
    "ls": _command("ls:ls", "List the contents of a snapshot."),
    "find": _command("find:find", "Find files over all snapshots, by name or path."),
    "versions": _command("versions:versions", "List every version of one file."),
    "diff": _command("diff:diff", "Show what differs between two snapshots."),
    "restore": _command("restore:restore", "Restore a snapshot or a path in it."),
    "dump": _command("dump:dump", "Write a file, or a tree as a tar, to standard output."),
    "restores": _command("restores:restores", "List restores and what they wait for."),
    "prices": _command("prices:prices", "Print the prices that quotes are made of."),
    "rebuild": _command("rebuild:rebuild", "Rebuild the inventory from the vault and the recovery key."),
    "check": _command("check:check", "Check that what was stored is still there, and undamaged."),
    "prune": _command("prune:prune", "Delete from a vault what no kept snapshot needs."),
    "undelete": _command("undelete:undelete", "Take back archives that a prune has condemned."),
    "compact": _command("compact:compact", "Free archives that are mostly dead; nothing is retrieved."),
    "vaults": _command("vaults:vaults", "List the vaults and their contents."),
    "archives": _command("archives:archives", "List the archives in the vaults."),
    "listing": _command("listing:listing", "Ask a vault for its own list of archives."),
    "status": _command("status:status", "Show whether all is well."),
    "runs": _command("runs:runs", "List runs and their outcomes."),
    "stats": _command("stats:stats", "Show what is stored, what it costs, and how it grows."),
    "unlock": _command("unlock:unlock", "Show who holds locks, or take that of backups away."),
    "config": _command("config:config", "Check the config file."),
    "daemon": _command("daemon:daemon", "Run the jobs by their schedules."),
    "install": _command("install:install", "Write systemd units for this machine."),
    "uninstall": _command("uninstall:uninstall", "Remove the systemd units that install wrote."),
    "emulator": _command("emulator:emulator", "A local AWS to try things on."),
    "version": _command("version:version", "Print the version."),
    "demo": _command("demo:demo", "Show a backup and restore on this machine alone."),
}


def leave_out_current_directory() -> None:
    """Import nothing more from the current directory, unless this program lies there.

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
    """The root group; the errors of every command become exit codes here and nowhere else."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = "nightvault",
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command named by the arguments, and exit with its code."""
        gc.set_threshold(*_GC_THRESHOLDS)
        if standalone_mode:
            secure_process()
            leave_out_current_directory()
        words = list(sys.argv[1:] if args is None else args)
        cli = extra.setdefault("obj", Cli())

        def run() -> object:
            return super(Main, self).main(words, prog_name, complete_var, standalone_mode=False, **extra)

        return sys.exit(run_to_exit_code(run, cli, words)) if standalone_mode else run()


@click.group("nightvault", cls=Main, table=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="nightvault")
def main() -> None:
    """Sealed, deduplicated nightly backups into cold storage.

    Begin with `nightvault init`; `nightvault COMMAND --help` tells more of each command.
    """
