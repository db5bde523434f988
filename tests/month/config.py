"""The config of the month: three vaults, a job each; sections take further lines of a story."""

from __future__ import annotations

SECTIONS = ("state", "monitoring", "restore", "disk", "cold", "bucket", "home", "etc", "mail", "drills")

CONFIG = """\
[state]
dir = "{folder}/state"
recovery_file = "{folder}/lines.txt"
{more[state]}
[monitoring]
metrics_file = "{folder}/metrics.prom"
{more[monitoring]}
[restore]
link = "1MiB"
{more[restore]}
[notify]
timezone = "UTC"
[[notify.channel]]
name = "hook"
kind = "webhook"
url = "{hook}/in"
[[notify.channel]]
name = "mail"
kind = "smtp"
host = "127.0.0.1"
port = {port}
security = "none"
from = "night@example.org"
to = ["root@example.org"]
[[vault]]
name = "disk"
kind = "directory"
path = "{folder}/vault"
pack_size = "4MiB"
{more[disk]}
[[vault]]
name = "cold"
kind = "glacier"
region = "{region}"
account_id = "{account}"
vault = "nightly"
endpoint = "{glacier}"
part_size = "1MiB"
pack_size = "4MiB"
deletes = "here"
{more[cold]}
[[vault]]
name = "bucket"
kind = "s3"
region = "{region}"
bucket = "nightly"
storage_class = "GLACIER"
path_style = true
endpoint = "{s3}"
part_size = "8MiB"
pack_size = "8MiB"
deletes = "here"
{more[bucket]}
[retention.few]
keep_last = 3
[[job]]
name = "home"
vault = "disk"
sources = ["{folder}/home"]
timezone = "UTC"
retention = "few"
{more[home]}
[[job]]
name = "etc"
vault = "cold"
sources = ["{folder}/etc"]
timezone = "UTC"
retention = "few"
{more[etc]}
[[job]]
name = "mail"
vault = "bucket"
sources = ["{folder}/mail"]
timezone = "UTC"
retention = "few"
{more[mail]}
{more[drills]}
"""

HELD = """
[job.hooks]
before = ["/bin/sh", "-c", "touch {folder}/held; while [ -e {folder}/held ]; do sleep 0.02; done"]
"""
