"""Writes the AWS set-up as Terraform, CloudFormation or a script of AWS CLI commands."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from backup.app.aws_setup.export import cloudformation as template_of
from backup.app.aws_setup.export import script as script_of
from backup.app.aws_setup.export import terraform as module_of
from backup.cli.keys.aws_setup import read_set_up
from backup.cli.support.context import Cli
from backup.errors import UsageError
from backup.files import write_durably


def write_exports(
    cli: Cli,
    told: Mapping[str, object],
    *,
    terraform: str | None,
    cloudformation: str | None,
    script: str | None,
) -> None:
    """Write the exports that the options ask for. `UsageError` if one cannot be written."""
    parts = [part.wanted for part in read_set_up(cli, "export", told).parts]
    written: dict[str, str] = {}
    if terraform is not None:
        written |= {os.path.join(terraform, name): text for name, text in module_of(*parts).items()}
    if cloudformation is not None:
        written[cloudformation] = json.dumps(template_of(*parts), indent=2) + "\n"
        if any(part.bucket is None for part in parts):
            cli.say("CloudFormation makes no Glacier vaults: `nightvault init` makes it")
    if script is not None:
        written[script] = script_of(*parts)
    for path, text in written.items():
        _write(path, text, mode=0o755 if path == script else 0o644)
    cli.report({"files": sorted(written)}, "\n".join(sorted(written)))


def _write(path: str, text: str, *, mode: int) -> None:
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        write_durably(path, text.encode(), mode=mode)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
