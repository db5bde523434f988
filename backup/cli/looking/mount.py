"""`nightvault mount`: everything that was saved as one read-only tree of files."""

from __future__ import annotations

import os
from typing import Any

import click

from backup.cli.options.retrieval_options import key_options, numeric_owner_option
from backup.cli.options.snapshot_arguments import job_option
from backup.cli.support.context import Cli, pass_cli
from backup.errors import ConfigError, TargetError, UsageError

EXAMPLES = {
    "mount": (
        "nightvault mount /mnt/nights --key recovery.key",
        "nightvault mount /mnt/nights --snapshot latest:/srv/www --key recovery.key",
    )
}


@click.command()
@click.argument("directory", metavar="DIR")
@click.option("--snapshot", "words", metavar="SNAPSHOT[:PATH]", help="Only this one, or a path in it.")
@job_option
@click.option("--allow-other", is_flag=True, help="Let other users in, as far as saved modes let them.")
@numeric_owner_option
@key_options
@pass_cli
def mount(
    cli: Cli,
    /,
    directory: str,
    words: str | None,
    job: str | None,
    allow_other: bool,
    numeric_owner: bool,
    **given: Any,
) -> None:
    """Mount everything that was saved at DIR, read-only, until Ctrl-C or `fusermount3 -u DIR`.

    Nothing that is read there asks a cold vault for anything: such files are refused at once, and
    DIR/.nightvault/README says how one is asked for, within --max-cost.
    """
    from backup.cli.looking.tree_of_files import opened_tree
    from backup.daemon.systemd import Systemd
    from backup.served.mount import serve_mount

    require_fuse()
    directory = os.path.abspath(directory)
    require_mount_point(directory)
    owners = {"numeric": numeric_owner, "is_shared": allow_other}
    with opened_tree(cli, words, job, given, **owners) as served:

        def mounted() -> None:
            cli.say(f"mounted at {directory}; Ctrl-C ends it")
            Systemd.of(os.environ).tell("READY=1")

        options = {"allow_other": allow_other, "default_permissions": allow_other, "ro": not served.waits}
        try:
            serve_mount(served.look, served.control, directory, mounted=mounted, options=options)
        except OSError as error:
            raise TargetError(f"{directory}: {error.strerror}") from error


def require_fuse() -> None:
    """`ConfigError` unless a directory can be mounted here."""
    import shutil

    from backup.installed import how_to_add

    try:
        import backup.served.session  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"mounting needs a package that is not installed: {error.name}", advice=how_to_add("mount")
        ) from error
    except OSError as error:
        raise ConfigError(
            f"mounting needs libfuse 3: {error}", advice="on Debian and Ubuntu: apt install fuse3"
        ) from error
    if shutil.which("fusermount3") is None:
        raise ConfigError(
            "mounting needs fusermount3, which is not installed",
            advice="on Debian and Ubuntu: apt install fuse3",
        )
    if not os.path.exists("/dev/fuse"):
        raise ConfigError(
            "there is no /dev/fuse here, as in many containers",
            advice="`nightvault serve-files` needs none; a container gets it by --device /dev/fuse",
        )


def require_mount_point(directory: str) -> None:
    """`UsageError` unless it is an empty directory; what a killed mount left there is taken away."""
    import errno
    import shlex
    import subprocess

    try:
        names = os.listdir(directory)
    except OSError as error:
        if error.errno != errno.ENOTCONN:
            raise UsageError(f"{directory}: {error.strerror}", advice="name an empty directory") from error
        if subprocess.run(["fusermount3", "-u", "-z", directory], check=False).returncode:
            raise UsageError(
                f"{directory}: a dead mount is there, and could not be taken away",
                advice=f"as root: umount -l {shlex.quote(directory)}",
            ) from error
        names = []
    if names:
        raise UsageError(f"{directory} is not empty", advice="name an empty directory")
