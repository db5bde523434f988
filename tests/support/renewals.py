"""A server whose certificate is renewed: its authority, its config, and AWS by the same clock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from backup.app.base.vaults import Purpose, credential_source, identity_files
from backup.app.machine.renewal import Renewal, renew_if_due
from backup.config import Config, load_config
from backup.credentials.identity import load_identity
from backup.errors import IdentityError
from backup.pki.authority import create_ca, open_ca
from backup.pki.issuing import issue, sign_csr
from backup.pki.keys import KeyType
from backup.pki.roots import write_anchor
from backup.pki.subjects import Subject
from tests.support.doubles import ManualClock
from tests.support.emulated import REGION
from tests.support.timed_sessions import ANCHOR, PROFILE, ROLE, TimedSessions, timed_sessions

LIFE = 20 * 365
"""So many days is the authority's certificate valid."""
SERVER = Subject("web1", "Example", "Backup", ("web1.example",))


@dataclass
class RenewalSite:
    """The server. `ask` is the way to the authority, which may be away; `asked` counts its answers."""

    folder: Path
    clock: ManualClock
    sessions: TimedSessions
    days: int = 7
    authority_is_away: bool = False
    asked: int = 0
    renew: str = 'command = ["true"]'
    more: str = ""
    _config: Config | None = field(default=None, repr=False)

    @property
    def ca(self) -> str:
        """The authority's folder."""
        return str(self.folder / "ca")

    @property
    def config(self) -> Config:
        """The config, read once."""
        if self._config is None:
            self._config = load_config(str(self.write_config()))
        return self._config

    def write_config(self) -> Path:
        """Write config.toml."""
        path = self.folder / "config.toml"
        path.write_text(
            f'[state]\ndir = "{self.folder}/state"\n'
            f'[identity]\ncertificate = "{self.folder}/etc/web1.pem"\n'
            f'private_key = "{self.folder}/etc/web1.key"\n{self.more}\n[identity.renew]\n{self.renew}\n'
            f'[roles_anywhere]\nregion = "{REGION}"\ntrust_anchor_arn = "{ANCHOR}"\n'
            f'profile_arn = "{PROFILE}"\nendpoint = "{self.sessions.url}"\n'
            f'[[vault]]\nname = "cold"\nkind = "glacier"\nregion = "{REGION}"\nvault = "nightly"\n'
            f'role_arn = "{ROLE}"\n'
        )
        return path

    def reconfigure(self, renew: str, more: str = "") -> None:
        """Change `[identity.renew]`, and maybe lines of `[identity]`."""
        self.renew, self.more, self._config = renew, more, None

    def issue(self) -> None:
        """The first pair, or another one, made by hand."""
        where = str(self.folder / "etc")
        how = {"key_type": KeyType.P_256, "days": self.days, "now": self.clock.now()}
        issue(open_ca(self.ca), SERVER, directory=where, **how)  # type: ignore[arg-type]

    def ask(self, request: bytes) -> bytes:
        """The authority's answer to a request."""
        if self.authority_is_away:
            raise IdentityError("the authority is away")
        self.asked += 1
        now = self.clock.now()
        signed = sign_csr(open_ca(self.ca), request, days=self.days, now=now, only_for="web1")
        return signed.public_bytes(Encoding.PEM)

    def tick(self, *, force: bool = False) -> Renewal:
        """What the daemon does now and then."""
        return renew_if_due(self.config, self.clock, force=force, ask=self.ask)

    def certificate(self) -> x509.Certificate:
        """The certificate of the pair in use, which fits its key."""
        return load_identity(identity_files(self.config)).certificate

    def night(self) -> str:
        """Credentials as a backup gets them: the access key."""
        (vault,) = self.config.vaults
        source = credential_source(self.config, vault, Purpose.BACKUP, self.clock)
        return source.credentials().access_key_id


@contextmanager
def renewal_site(folder: Path, *, days: int = 7, clock: ManualClock | None = None) -> Iterator[RenewalSite]:
    """The server with its first certificate; time is a clock's of its own, if none is given."""
    clock = clock or ManualClock()
    subject = Subject("Backup CA", "Example")
    now = clock.now()
    made = create_ca(str(folder / "ca"), subject, key_type=KeyType.P_256, days=LIFE, passphrase=None, now=now)
    write_anchor(made.directory, now)
    (folder / "state").mkdir()
    with timed_sessions(folder, [folder / "ca" / "anchor.pem"], clock) as sessions:
        site = RenewalSite(folder, clock, sessions, days)
        site.issue()
        yield site
