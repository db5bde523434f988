"""`nightvault update` over hours: renewed in time, and going on after failures."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from backup.cli import main
from backup.cli.keys.update import write_profile
from backup.errors import NightvaultError
from backup.model import Credentials
from tests.support.command_line import ANCHOR, PROFILE, CliAt
from tests.support.doubles import ManualClock
from tests.support.identities import ROLE, authority_in, issue_in
from tests.support.scratch_server import Answer, ScratchServer, keys_until, no


class EndingClock(ManualClock):
    """A clock at whose end somebody presses Ctrl-C."""

    def __init__(self, start: datetime, end: datetime) -> None:
        super().__init__(start)
        self.end = end

    def sleep(self, seconds: float) -> None:
        """Move on, until the end."""
        super().sleep(seconds)
        if self.now() >= self.end:
            raise KeyboardInterrupt


@pytest.fixture
def identity(tmp_path: Path, clock: ManualClock) -> list[str]:
    made = issue_in(authority_in(str(tmp_path / "ca"), clock.now()), str(tmp_path), now=clock.now())
    return ["--certificate", made.certificate_path, "--private-key", made.key_path]


def update(words: list[str], clock: EndingClock, server: ScratchServer, file: Path) -> Result:
    arns = [
        "--trust-anchor-arn",
        ANCHOR,
        "--profile-arn",
        PROFILE,
        "--role-arn",
        ROLE,
        "--endpoint",
        server.url,
    ]
    environment = {"AWS_SHARED_CREDENTIALS_FILE": str(file)}
    return CliRunner().invoke(main, ["update", *words, *arns], obj=CliAt(clock), env=environment)


def test_it_renews_in_time_and_goes_on_after_failures(
    tmp_path: Path, clock: ManualClock, identity: list[str]
) -> None:
    ticking = EndingClock(clock.now(), clock.now() + timedelta(hours=4))
    file = tmp_path / "credentials"

    def answer(number: int) -> Answer:
        hour = timedelta(hours=1)
        if 3 <= number <= 40:  # away for a while, longer than the keys live
            return no("busy", "InternalFailure", 503)
        return keys_until(ticking.now() + hour, number)

    with ScratchServer(answer).running() as server:
        result = update(identity, ticking, server, file)
        asked = len(server.seen)
    assert result.exit_code == 130, result.output
    assert asked > 41
    assert "trying again in 60 s" in result.stderr
    assert f"ASIASCRATCH{asked:09d}" in file.read_text()
    assert "Scratch" not in result.output.replace("scratch", "")


def test_the_first_failure_ends_it(tmp_path: Path, clock: ManualClock, identity: list[str]) -> None:
    ticking = EndingClock(clock.now(), clock.now() + timedelta(hours=1))
    with ScratchServer(lambda _number: no("Invalid signature")).running() as server:
        result = update(identity, ticking, server, tmp_path / "credentials")
    assert result.exit_code == 14
    assert not (tmp_path / "credentials").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a link away")
@pytest.mark.parametrize("whose", [0, 4242])
def test_a_link_of_another_user_is_not_written_through(
    tmp_path: Path, clock: ManualClock, whose: int
) -> None:
    """By hers at the place of the credentials file, the file that she chose was written over."""
    other, link = tmp_path / "other", tmp_path / "credentials"
    other.write_text("[mine]\n")
    link.symlink_to("other")
    os.lchown(link, whose, whose)
    keys = Credentials("AKIAX", "secret", "token", clock.now())
    if whose:
        with pytest.raises(NightvaultError, match="is a symlink of 4242"):
            write_profile(str(link), "default", keys)
        assert other.read_text() == "[mine]\n"
    else:
        write_profile(str(link), "default", keys)
        assert "AKIAX" in other.read_text()
    assert link.is_symlink()
