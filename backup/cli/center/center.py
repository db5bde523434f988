"""`nightvault center`: sees in one place how many servers are, and tells it from each of them."""

from __future__ import annotations

import click

from backup.cli.center.excusing import ack, maintenance
from backup.cli.center.fetching import fetch
from backup.cli.center.keeping import export, rebuild
from backup.cli.center.servers import invite_host, list_hosts, remove, show, status
from backup.cli.center.serving import init, serve
from backup.cli.center.telling import join_here, leave, tell
from backup.cli.center.trying import try_center

EXAMPLES = {
    "center init": (
        "nightvault center init",
        "nightvault center init --database postgresql://nightvault@db/nightvault",
    ),
    "center serve": (
        "nightvault center serve --authority ca.pem --name center.example.net",
        "nightvault center serve --authority ca.pem --notify notify.toml",
    ),
    "center fetch": (
        "nightvault center fetch --authority ca.pem",
        "nightvault center fetch --authority ca.pem --crl ca.crl --vault reports",
    ),
    "center status": ("nightvault center status", "nightvault center status --json"),
    "center list": ("nightvault center list", "nightvault center list --json"),
    "center show": ("nightvault center show web1", "nightvault center show web1 --seen"),
    "center ack": (
        'nightvault center ack web1 --until 3d --why "new disk on Monday"',
        "nightvault center ack --group rack7 --end",
    ),
    "center maintenance": (
        "nightvault center maintenance web1 --to 3h",
        "nightvault center maintenance --group rack7 --from 2027-01-06T20:00 --to 3h",
    ),
    "center remove": ("nightvault center remove web1", "nightvault center remove web1 --json"),
    "center invite": (
        "nightvault center invite web1 --address https://center.example.net",
        "nightvault center invite web1 --address https://example.net --group shop",
    ),
    "center join": (
        "nightvault center join nvj1_aHR0cHM6Ly9jZW50ZXIuZXhh",
        "nightvault center join nvj1_aHR0cHM6 --recipient recipients.txt --wait 8h",
    ),
    "center leave": ("nightvault center leave", "nightvault center leave --json"),
    "center tell": (
        "nightvault center tell",
        "nightvault center tell https://center.example.net --ca-file ca.pem",
    ),
    "center export": ("nightvault center export center.json", "nightvault center export center.json --json"),
    "center rebuild": (
        "nightvault center rebuild center.json",
        "nightvault center rebuild center.json --database postgresql://nv@db/nv",
    ),
    "center try": ("nightvault center try", "nightvault center try --servers 5 --once"),
}


@click.group()
def center() -> None:
    """A center: one place that is told how many servers are; docs/center.md.

    It holds no key, reads no backup, and runs nothing on a server. Needs PostgreSQL.
    """


for _command in (
    init,
    serve,
    fetch,
    status,
    list_hosts,
    show,
    remove,
    ack,
    maintenance,
    invite_host,
    join_here,
    leave,
    tell,
    try_center,
    export,
    rebuild,
):
    center.add_command(_command)
