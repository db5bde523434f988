"""A server that tells: a webhook and a mail server for all jobs, and a ping."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from backup.protocols import Clock
from tests.support import receivers
from tests.support.doubles import ManualClock
from tests.support.receivers import MailServer, Receiver, mail_server, receiving
from tests.support.servers import Server, directory_server

TOKEN = "tk_AgQdq7mVBoFD37zQVN29RhuMzNIz2"
CHECK = "5bf66975-d4c7-4bf5-bcc8-b8d8a82ea278"


@dataclass
class NotifiedServer:
    """A server, and those who are told."""

    server: Server
    hook: Receiver
    ping: Receiver
    mail: MailServer

    def titles(self) -> list[str]:
        """The titles that the webhook took, without the host."""
        return [request.json["title"].partition(": ")[2] for request in self.hook.taken]

    def kinds(self) -> list[str]:
        """The kinds that it took."""
        return [request.json["kind"] for request in self.hook.taken]

    def pings(self) -> list[str]:
        """The suffixes of pings."""
        return [request.path.partition("?")[0].removeprefix(f"/ping/{CHECK}") for request in self.ping.taken]

    def later(self, span: timedelta) -> None:
        """Let time go by."""
        assert isinstance(self.server.clock, ManualClock)
        self.server.clock.advance(span)

    def configure(self, old: str, new: str) -> None:
        """Replace something in the config."""
        text = self.server.config.read_text()
        assert old in text
        self.server.config.write_text(text.replace(old, new, 1))

    def back_up_and_die(self) -> None:
        """Make a backup in a process that is killed once the snapshot is recorded: nobody was told of it."""
        text = self.server.config.read_text()
        hook = '[job.hooks]\nafter = ["/bin/sh", "-c", "kill -9 $PPID"]\n'
        self.server.config.write_text(text + hook)
        with self.server.process("backup") as process:
            assert process.wait(60) == -signal.SIGKILL
        self.server.config.write_text(text)

    def break_vault(self) -> None:
        """Let the vault be gone."""
        (self.server.folder / "vault").rename(self.server.folder / "gone")

    def mend_vault(self) -> None:
        """Let it come back."""
        (self.server.folder / "gone").rename(self.server.folder / "vault")


def secret_file(path: Path, text: str) -> Path:
    """A file with a secret."""
    path.write_text(text + "\n")
    path.chmod(0o600)
    return path


@contextmanager
def notified_server(folder: Path, clock: Clock) -> Iterator[NotifiedServer]:
    """A server that was set up; the mail server is told of failures alone."""
    server = directory_server(folder, clock=clock)
    token = secret_file(folder / "token", TOKEN)
    with (
        receiving(receivers.webhook) as hook,
        receiving(receivers.healthchecks(CHECK)) as ping,
        mail_server(MailServer()) as mail,
    ):
        url = secret_file(folder / "url", f"{ping.url}/ping/{CHECK}")
        server.write_config(
            f'[[vault]]\nname = "cold"\nkind = "directory"\npath = "{folder / "vault"}"\n'
            '[notify]\ntimezone = "UTC"\n'
            f'[[notify.channel]]\nname = "hook"\nkind = "webhook"\nurl = "{hook.url}/in"\n'
            f'token_file = "{token}"\n'
            f'[[notify.channel]]\nname = "mail"\nkind = "smtp"\nhost = "127.0.0.1"\nport = {mail.port}\n'
            'security = "none"\nfrom = "night@example.org"\nto = ["root@example.org"]\ntold = ["failed"]\n'
            f'[[notify.channel]]\nname = "hc"\nkind = "ping"\nurl_file = "{url}"\n'
        )
        server.init()
        yield NotifiedServer(server, hook, ping, mail)
