"""Two examples for each command, as its help, its manual page and `docs/commands/` show them.

Each is one command line that works as it stands on a machine with such jobs and files; a test reads its words
as the command would. What follows two spaces and a # is said to the reader.
"""

from __future__ import annotations

from collections.abc import Mapping

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "begin": (
        "nightvault begin",
        "nightvault begin --answers answers.toml --dry-run  # what would be written",
    ),
    "init": (
        "nightvault init --key-file recovery.key  # makes the recovery key, too",
        "nightvault init --recipient nvr1…  # the key was made on another machine",
    ),
    "backup": (
        "nightvault backup",
        "nightvault backup etc --dry-run --list  # what would be read, and why",
    ),
    "status": ("nightvault status", "nightvault status --overdue --notify  # in a timer"),
    "snapshots": ("nightvault snapshots", "nightvault snapshots --job etc --tag release"),
    "runs": ("nightvault runs", "nightvault runs --job etc --limit 5"),
    "notify test": ("nightvault notify test", "nightvault notify test phone"),
    "notify list": ("nightvault notify list", "nightvault notify list --limit 5 --json"),
    "notify send": ("nightvault notify send", "nightvault notify send --json"),
    "notify report": ("nightvault notify report", "nightvault notify report 17 --html > report.html"),
    "daemon": (
        "nightvault daemon",
        "nightvault --config /etc/nightvault/config.toml daemon",
    ),
    "run": ("nightvault run etc", "nightvault run etc --json"),
    "cancel": ("nightvault cancel etc", "nightvault cancel 92b43846  # the id that `status` shows"),
    "pause": (
        "nightvault pause etc --until 3h",
        "nightvault pause etc --until 2027-01-06  # to the end of that day",
    ),
    "web": ("nightvault web", "nightvault web --listen unix:/run/nightvault-web/page.sock"),
    "web user add": ("nightvault web user add ada --role operator", "nightvault web user add vi --link"),
    "web user list": ("nightvault web user list", "nightvault web user list --json"),
    "web user remove": ("nightvault web user remove vi", "nightvault web user remove vi --json"),
    "web token add": (
        "nightvault web token add grafana --user ada --scope metrics",
        "nightvault web token add script --user ada --days 30",
    ),
    "web token list": ("nightvault web token list", "nightvault web token list --json"),
    "web token remove": ("nightvault web token remove grafana", "nightvault web token remove script --json"),
    "resume": ("nightvault resume etc", "nightvault resume etc --json"),
    "install": ("nightvault install --systemd --print", "nightvault install --systemd"),
    "uninstall": ("nightvault uninstall --systemd", "nightvault uninstall --systemd --user"),
    "config check": ("nightvault config check", "nightvault --config new.toml config check"),
    "config example": (
        "nightvault config example",
        "nightvault config example > /etc/nightvault/config.toml",
    ),
    "config show": ("nightvault config show", "nightvault config show --set  # only what the file sets"),
    "ls": ("nightvault ls latest:/etc", "nightvault ls -l latest~1:/srv/www"),
    "find": ("nightvault find '*.key'", "nightvault find /etc/fstab --snapshot latest"),
    "versions": ("nightvault versions /etc/fstab", "nightvault versions /etc/fstab --json"),
    "diff": ("nightvault diff latest~1 latest", "nightvault diff latest~7 latest /etc"),
    "stats": ("nightvault stats", "nightvault stats --by month"),
    "snapshots accept": (
        "nightvault snapshots accept 9d4e6f01  # what it lost was deleted on purpose",
        "nightvault snapshots accept latest --job etc",
    ),
    "vaults": ("nightvault vaults", "nightvault vaults --json"),
    "vaults accept": (
        "nightvault vaults accept disk  # the disk was replaced on purpose",
        "nightvault vaults accept cold --json",
    ),
    "archives": ("nightvault archives", "nightvault archives --vault cold --json"),
    "listing request": ("nightvault listing request", "nightvault listing request cold"),
    "listing show": ("nightvault listing show", "nightvault listing show cold --json"),
    "prices": ("nightvault prices", "nightvault prices --region eu-central-1 --toml"),
    "prices verify": ("nightvault prices verify", "nightvault prices verify --region eu-central-1"),
    "setup aws": (
        "nightvault setup aws --plan  # what would be made, in words",
        "nightvault setup aws --apply --ca ca/ca.pem",
    ),
    "setup export": (
        "nightvault setup export --terraform terraform/nightvault",
        "nightvault setup export --cli set-up.sh --cloudformation nightvault.json",
    ),
    "restore": (
        "nightvault restore latest:/etc --target /mnt/back --key recovery.key --wait",
        "nightvault restore latest:/srv '*.conf' --target /mnt/back --dry-run",
    ),
    "restore resume": (
        "nightvault restore resume 4f6c2a10",
        "nightvault restore resume 4f6c2a10 --wait",
    ),
    "restore cancel": (
        "nightvault restore cancel 4f6c2a10",
        "nightvault restore cancel 4f6c2a10 --json",
    ),
    "dump": (
        "nightvault dump latest:/etc/fstab --key recovery.key",
        "nightvault dump latest:/etc --tar --key recovery.key -o etc.tar",
    ),
    "restores": ("nightvault restores", "nightvault restores --all"),
    "rebuild": (
        "nightvault rebuild --key recovery.key --from recovery-lines.txt",
        "nightvault rebuild --key recovery.key --wait  # by the vault's own list",
    ),
    "check": (
        "nightvault check",
        "nightvault check --read-data 1% --key recovery.key --max-cost 2",
    ),
    "drill run": ("nightvault drill run weekly --dry-run", "nightvault drill run --key recovery.key --wait"),
    "drills": ("nightvault drills", "nightvault drills --json"),
    "forget": (
        "nightvault forget --dry-run  # by the policies of all jobs",
        "nightvault forget etc --simulate 'daily at 02:30' --years 3",
    ),
    "prune": ("nightvault prune --dry-run", "nightvault prune --wait"),
    "undelete": ("nightvault undelete --all", "nightvault undelete --vault cold NkbByEejwEgg"),
    "doctor": ("nightvault doctor", "nightvault doctor --key /media/stick/recovery.key"),
    "compact": ("nightvault compact --dry-run", "nightvault compact --min-gain 0.10"),
    "tag": (
        "nightvault tag latest --add release",
        "nightvault tag 9d4e6f01 --remove release,draft",
    ),
    "pin": (
        "nightvault pin latest --note 'before the move'",
        "nightvault pin 9d4e6f01 --until 2030-12-31",
    ),
    "unpin": ("nightvault unpin latest", "nightvault unpin 9d4e6f01 3b71c85a"),
    "inventory backup": (
        "nightvault inventory backup",
        "nightvault inventory backup /mnt/usb/inventory.sqlite",
    ),
    "inventory verify": (
        "nightvault inventory verify",
        "nightvault inventory verify /mnt/usb/inventory.sqlite",
    ),
    "inventory vacuum": ("nightvault inventory vacuum", "nightvault inventory vacuum --json"),
    "unlock": ("nightvault unlock  # who holds the locks", "nightvault unlock --force"),
    "key generate": (
        "nightvault key generate --out recovery.key",
        "nightvault key generate --out recovery.key --passphrase-file words.txt",
    ),
    "key show": (
        "nightvault key show recovery.key",
        "nightvault key show recovery.key --json",
    ),
    "key request": ("nightvault key request > request.txt", "nightvault key request --json"),
    "key enroll": (
        "nightvault key enroll request.txt --key recovery.key > enrolment.txt",
        "nightvault key enroll --requests all.txt --out out.txt --key recovery.key",
    ),
    "key accept": ("nightvault key accept enrolment.txt", "nightvault key accept -"),
    "key status": ("nightvault key status", "nightvault key status --json"),
    "identity show": (
        "nightvault identity show",
        "nightvault identity show --ca ca.pem --warn-days 30",
    ),
    "identity csr": (
        "nightvault identity csr --out web1.csr --key /etc/nightvault/identity.key",
        "nightvault identity csr --name web1 --out web1.csr --key web1.key",
    ),
    "identity renew": ("nightvault identity renew", "nightvault identity renew --force"),
    "ca create": (
        "nightvault ca create --dir ca --name 'Backup CA'",
        "nightvault ca create --dir ca --name 'Backup CA' --passphrase-file prompt",
    ),
    "ca issue": (
        "nightvault ca issue web1 --dir ca --out identities",
        "nightvault ca issue web1 --dir ca --out identities --unit backup --days 90",
    ),
    "ca sign": (
        "nightvault ca sign web1.csr --dir ca --out web1.pem",
        "nightvault ca sign web1.csr --dir ca --out web1.pem --days 90",
    ),
    "ca list": ("nightvault ca list --dir ca", "nightvault ca list --dir ca --all --json"),
    "ca revoke": (
        "nightvault ca revoke web1 --dir ca",
        "nightvault ca revoke web1 --dir ca --all --reason key-compromise",
    ),
    "ca crl": ("nightvault ca crl --dir ca", "nightvault ca crl --dir ca --days 60"),
    "ca renew-root": (
        "nightvault ca renew-root --dir ca",
        "nightvault ca renew-root --dir ca --passphrase-file prompt",
    ),
    "aws policy": (
        "nightvault aws policy",
        "nightvault aws policy --only backup > backup.json",
    ),
    "credential-process": (
        "nightvault credential-process",
        "nightvault credential-process --session-duration 900",
    ),
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
    "demo": ("nightvault demo --source /usr/share/doc", "nightvault demo --vault s3"),
    "emulator": (
        "nightvault emulator --state aws --accounts accounts.toml --port 9090",
        "nightvault emulator --state aws --accounts accounts.toml --speed 10000",
    ),
    "emulator advance": (
        "nightvault emulator advance 5h --admin http://127.0.0.1:9090",
        "nightvault emulator advance 2d --admin http://127.0.0.1:9090",
    ),
    "emulator inventory": (
        "nightvault emulator inventory --admin http://127.0.0.1:9090",
        "nightvault emulator inventory --admin http://127.0.0.1:9090 --json",
    ),
    "emulator fault": (
        "nightvault emulator fault '[]' --admin http://127.0.0.1:9090",
        """nightvault emulator fault '[{"operation": "UploadArchive"}]' --admin $URL""",
    ),
    "completion": (
        "nightvault completion bash > /etc/bash_completion.d/nightvault",
        "nightvault completion zsh > ~/.zfunc/_nightvault",
    ),
    "version": ("nightvault version", "nightvault version --json"),
}


def examples_of(path: str) -> str | None:
    """Return the examples of a command, for the end of its help; None if it has none."""
    found = EXAMPLES.get(path)
    if found is None:
        return None
    return "\b\nExamples:\n" + "\n".join(f"  {example}" for example in found)
