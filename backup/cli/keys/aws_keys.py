"""`nightvault aws-keys`: the group of commands that give AWS keys to other programs or test an identity."""

from __future__ import annotations

from copy import copy

import click

from backup.cli.keys.read_certificate_data import read_certificate_data
from backup.cli.keys.serve import serve
from backup.cli.keys.sign_string import sign_string
from backup.cli.keys.update import update

EXAMPLES = {
    "aws-keys serve": (
        "nightvault aws-keys serve --port 9911",
        "nightvault aws-keys serve --token-file /run/nightvault/token",
    ),
    "aws-keys update": (
        "nightvault aws-keys update --profile backup --once",
        "nightvault aws-keys update --profile backup",
    ),
    "aws-keys sign-string": (
        "nightvault aws-keys sign-string --certificate a.pem --private-key a.key",
        "nightvault aws-keys sign-string --format text",
    ),
    "aws-keys read-certificate-data": (
        "nightvault aws-keys read-certificate-data --certificate web1.pem",
        "nightvault aws-keys read-certificate-data --cert-selector file://one.json",
    ),
}


@click.group("aws-keys")
def aws_keys() -> None:
    """Serve AWS keys to other programs, keep a profile fresh, try an identity.

    `nightvault serve`, `update`, `sign-string` and `read-certificate-data` are the same, and go on working.
    """


for _one in (serve, update, sign_string, read_certificate_data):
    aws_keys.add_command(copy(_one))  # with examples of its own: by its old name it is another command
