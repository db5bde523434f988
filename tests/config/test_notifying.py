"""`[notify]` in the config: what can be written, and each mistake by its key."""

from __future__ import annotations

from pathlib import Path

import pytest

from backup.config import Config, load_config
from backup.config.notifying import KINDS, TOLD
from backup.errors import ConfigError
from backup.inventory.store.states import MessageKind

BASE = '[state]\ndir = "/tmp/s"\n[[vault]]\nname = "d"\nkind = "directory"\npath = "/tmp/v"\n'
JOB = '[[job]]\nname = "j"\nvault = "d"\nsources = ["/etc"]\n'
MAIL = (
    'name = "m"\nkind = "smtp"\nhost = "mail.example.org"\n'
    'from = "A <a@example.org>"\nto = ["b@example.org"]\n'
)


def load(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "config.toml"
    path.write_text(BASE + text)
    return load_config(str(path))


def channel(text: str) -> str:
    return f"[[notify.channel]]\n{text}\n"


def test_all_kinds_are_told_of_but_the_ends_of_runs() -> None:
    assert set(TOLD) == set(map(str, MessageKind)) - {"run"}
    assert len(KINDS) == 6


def test_what_can_be_written(tmp_path: Path) -> None:
    text = (
        '[notify]\nquiet_hours = "22:00-07:00"\ntimezone = "Europe/Berlin"\n'
        + channel(
            MAIL + 'user = "u"\npassword_file = "secrets/smtp"\nquiet_hours = "none"\ntold = ["failed"]'
        )
        + channel('name = "p"\nkind = "ping"\nurl_file = "credential:hc"\nall_jobs = false')
        + JOB
        + 'notify = ["m", "p"]\nalarm_on_unusual = true\n'
    )
    config = load(tmp_path, text)
    mail, ping = config.notify.channel
    assert mail.password_file == str(tmp_path / "secrets/smtp"), "beside the config"
    assert ping.url_file == "credential:hc"
    assert config.jobs[0].notify == ("m", "p")
    assert "a@example.org" not in repr(mail)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (channel('name = "x"\nkind = "telegram"'), "notify.channel[1].kind: must be one of smtp, ntfy"),
        (channel('name = "x"\nkind = "smtp"'), "notify.channel[1].host: is missing"),
        (channel(MAIL + 'url = "https://x"'), "notify.channel[1].url: is for channels of kind ntfy or"),
        (channel(MAIL) * 2, "notify.channel[2].name: another channel is named m"),
        (channel(MAIL + 'security = "none"'), "notify.channel[1].security: may be none for a mail server on"),
        (channel(MAIL + 'user = "u"'), "notify.channel[1].user: user and password_file go together"),
        (channel(MAIL + 'told = ["done"]'), "notify.channel[1].told[1]: must be of failed, recovered"),
        (channel(MAIL + 'quiet_hours = "22-7"'), "notify.channel[1].quiet_hours: must be such as"),
        (channel(MAIL.replace("b@example.org", "nobody")), "notify.channel[1].to[1]: must be addresses"),
        (
            channel(MAIL.replace("b@example.org", "b@x\\nBcc: c@x")),
            "notify.channel[1].to[1]: must be addresses",
        ),
        (
            channel('name = "x"\nkind = "ping"\nurl = "https://h:99999/x"'),
            "notify.channel[1].url: is no address",
        ),
        (
            channel('name = "x"\nkind = "webhook"\nurl = "https://:80/x"'),
            "notify.channel[1].url: names no host",
        ),
        (channel('name = "x"\nkind = "ntfy"\nurl = "https://h/"'), "notify.channel[1].url: names no topic"),
        (channel('name = "x"\nkind = "ntfy"'), "notify.channel[1].url: give either url or"),
        (
            channel('name = "x"\nkind = "ntfy"\nurl = "https://a/b"\nurl_file = "c"'),
            "notify.channel[1].url: give either url or",
        ),
        (
            channel('name = "x"\nkind = "webhook"\nurl = "http://example.org/in"'),
            "notify.channel[1].url: must be https://HOST/",
        ),
        (
            channel('name = "x"\nkind = "webhook"\nurl = "https://user:pass@example.org/in"'),
            "notify.channel[1].url: must be https://HOST/",
        ),
        (
            channel('name = "x"\nkind = "gotify"\nurl = "https://a/"'),
            "notify.channel[1].token_file: is missing",
        ),
        (
            channel('name = "x"\nkind = "ping"\nurl = "https://a/"\ntold = ["failed"]'),
            "notify.channel[1].told: is not for pings",
        ),
        (channel(MAIL + 'password = "hunter2"'), "notify.channel[1].password: unknown key"),
        ('[notify]\ntimezone = "Berlin"\n', "notify.timezone: there is no time zone Berlin"),
        ("[notify]\nchannel = 3\n", "notify.channel:"),
        (JOB + 'notify = ["mail"]\n', "job[1].notify[1]: there is no [[notify.channel]] named mail"),
        ('[monitoring]\ncheck_age = "soon"\n', "monitoring.check_age: must be a text such as"),
    ],
)
def test_a_mistake_is_named_by_its_key(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert sentence in str(caught.value)
    assert "hunter2" not in str(caught.value)
