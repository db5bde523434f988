"""Locales that are not UTF-8: config, names and output are what they are in every other locale."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from backup.workers.process import isolated_words
from tests.support.program_forks import run_command
from tests.support.real_daemons import SCRIPT, running
from tests.support.trees import assert_same_tree

CHARSETS = {"de_DE": "ISO-8859-1", "ja_JP": "EUC-JP"}
EXTRACT = Path(__file__).parents[2] / "deploy" / "nightvault-extract.py"
UTF8 = {"LC_ALL": "C.UTF-8"}


@pytest.fixture(scope="session")
def locales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of these locales, as `LOCPATH` names it."""
    made = tmp_path_factory.mktemp("locales")
    if shutil.which("localedef") is None:
        pytest.skip("localedef is not here")
    for name, charset in CHARSETS.items():
        words = ["localedef", "-i", name, "-f", charset, str(made / f"{name}.{charset}")]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if not (made / f"{name}.{charset}" / "LC_CTYPE").exists():
            pytest.skip(f"localedef cannot make {name}.{charset} (package `locales`): {done.stderr}")
    return made


@pytest.fixture(params=list(CHARSETS.items()), ids=list(CHARSETS.values()))
def locale(request: pytest.FixtureRequest, locales: Path) -> Mapping[str, str]:
    """The variables of a locale that is not UTF-8."""
    return {"LOCPATH": str(locales), "LC_ALL": ".".join(request.param)}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    source = tmp_path / "größe ✓"
    source.mkdir()
    for number in range(600):  # so many that helper processes read them
        (source / f"klein {number}").write_text(f"{number}")
    (source / "häkchen ✓.txt").write_text("ja")
    (source / "日本").mkdir()
    (source / "日本" / "語").write_text("go")
    (source / os.fsdecode(b"latin \xf6")).write_text("no UTF-8")
    (source / "weg ✓").write_text("left out")
    path = tmp_path / "config.toml"
    path.write_text(
        '[state]\ndir = "stand ✓"\n[[vault]]\nname = "disk"\nkind = "directory"\npath = "tresor ö"\n'
        f'[[job]]\nname = "main"\nvault = "disk"\nsources = ["{source}"]\nexclude = ["weg ✓"]\n'
        'schedule = "every 1h"\n[job.hooks]\nbefore = ["sh", "-c", "echo ✓ >&2"]\n'
        '[[job.command]]\nname = "said"\nrun = ["printf", "größe ✓ 日本"]\n'
    )
    path.chmod(0o600)
    return path


def nightvault(config: Path, environ: Mapping[str, str], *words: str | bytes, code: int = 0) -> bytes:
    """Standard output of a command in that environment; in UTF-8, in which the tests are, a fork says it."""
    given = {
        name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHON"))
    }
    flags, environment = ("--config", str(config)), {**given, **environ}
    if environ is UTF8:
        assert sys.getfilesystemencoding() == "utf-8"
        done = run_command([*flags, *map(os.fsdecode, words)], environment)
    else:
        done = subprocess.run([SCRIPT, *flags, *words], env=environment, capture_output=True, check=False)
    assert done.returncode == code, done.stderr.decode("utf-8", "backslashreplace")
    return done.stdout


LOOKS: list[tuple[str | bytes, ...]] = [
    ("config", "check"),
    ("ls", "latest", "--recursive"),
    ("ls", "latest", "--recursive", "--json"),
    ("find", "häkchen*"),
    ("find", b"latin \xf6"),
    ("diff", "latest~1", "latest"),
    ("snapshots",),
]


def test_all_that_is_seen_is_what_utf8_shows(config: Path, locale: Mapping[str, str], tmp_path: Path) -> None:
    nightvault(config, locale, "init", "--non-interactive", "--key-file", str(tmp_path / "key"))
    nightvault(config, locale, "backup")
    (tmp_path / "größe ✓" / "neu ✓").write_text("new")
    nightvault(config, locale, "backup")
    for words in LOOKS:
        assert nightvault(config, locale, *words) == nightvault(config, UTF8, *words), words
    nightvault(config, locale, "status", code=1)  # no daemon runs
    key, target = str(tmp_path / "key"), tmp_path / "zurück ✓"
    assert (
        nightvault(config, locale, "dump", "latest:/.streams/said", "--key", key).decode() == "größe ✓ 日本"
    )
    dump = ("dump", "--tar", "latest", "--key", key)
    assert nightvault(config, locale, *dump) == nightvault(config, UTF8, *dump)
    nightvault(config, locale, "restore", "latest", "--target", str(target), "--key", key)
    (back,) = target.rglob("größe ✓")
    (tmp_path / "größe ✓" / "weg ✓").unlink()
    assert_same_tree(tmp_path / "größe ✓", back)


def test_the_daemon_does_so_too(config: Path, locale: Mapping[str, str], tmp_path: Path) -> None:
    nightvault(config, UTF8, "init", "--non-interactive", "--key-file", str(tmp_path / "key"))
    with running(config, environ={"LANG": "", "PYTHONUTF8": "0", **locale}) as daemon:
        said = daemon.wait_for("job main: done in")
        daemon.stop()
    assert "604 files of" in said
    assert "✓" in said


def test_helper_processes_are_in_utf8_too(locale: Mapping[str, str]) -> None:
    interpreter = isolated_words("any")[: isolated_words("any").index("-c")]
    asked = [*interpreter, "-c", "import sys; print(sys.getfilesystemencoding())"]
    assert subprocess.run(asked, env=dict(locale), capture_output=True, check=True).stdout == b"utf-8\n"


def test_packs_are_opened_without_the_program(
    config: Path, locale: Mapping[str, str], tmp_path: Path
) -> None:
    nightvault(config, UTF8, "init", "--non-interactive", "--key-file", str(tmp_path / "key"))
    nightvault(config, UTF8, "backup")
    target = tmp_path / "zurück ✓"
    words = ["--key", tmp_path / "key", "--target", target, tmp_path / "tresor ö" / "archives"]
    command = [sys.executable, str(EXTRACT), *map(str, words)]
    given = {"PATH": os.environ["PATH"], **locale}
    done = subprocess.run(command, env=given, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in target.rglob("*")} >= {"häkchen ✓.txt", "語", os.fsdecode(b"latin \xf6")}


def test_a_terminal_gets_what_its_charset_has(
    config: Path, locale: Mapping[str, str], tmp_path: Path
) -> None:
    nightvault(config, UTF8, "init", "--non-interactive", "--key-file", str(tmp_path / "key"))
    nightvault(config, UTF8, "backup")
    child, terminal = pty.fork()
    if child == 0:
        os.execve(
            SCRIPT, [SCRIPT, "--config", str(config), "ls", "latest", "--recursive"], {**os.environ, **locale}
        )
    said = b""
    try:
        while more := os.read(terminal, 4096):
            said += more
    except OSError:
        pass  # its end
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    charset = locale["LC_ALL"].partition(".")[2]
    text = said.decode(charset)
    assert "häkchen \\u2713.txt" in text if charset == "ISO-8859-1" else "日本" in text


def test_a_hidden_answer_that_is_no_utf8_is_refused_in_a_sentence(config: Path, tmp_path: Path) -> None:
    nightvault(config, UTF8, "init", "--non-interactive", "--key-file", str(tmp_path / "key"))
    nightvault(config, UTF8, "backup")
    words = [SCRIPT, "--config", str(config), "restore", "latest", "--target", str(tmp_path / "back")]
    child, terminal = pty.fork()
    if child == 0:
        os.execve(SCRIPT, words, {**os.environ, **UTF8})
    said = b""
    while b"recovery key" not in said:
        said += os.read(terminal, 4096)
    os.write(terminal, "größe\n".encode("latin-1"))
    with suppress(OSError):  # its end
        while more := os.read(terminal, 4096):
            said += more
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    assert b"what was typed is no UTF-8 text" in said
