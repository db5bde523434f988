"""The questions of `begin` on a terminal: defaults, wrong answers, help, ways back, and turning away."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from backup.app.beginning.answers import Answers
from backup.cli.begin.course import COURSE, NOTHING_YET
from backup.cli.begin.walk import LeftError, Walk
from backup.format.keys import RecoveryKey
from tests.cli.begin.scripted import Scripted, facts, walked

RECIPIENT = RecoveryKey.from_seed(b"\7" * 32).recipient.to_text()
AWS = {"AWS_ACCESS_KEY_ID": "AKIA"}

WAYS: Mapping[str, Mapping[str, str]] = {
    "disk": {"where": "disk", "path": "{folder}/vault"},
    "aws": {"where": "aws", "tell": "mail", "tell_to": "root@example.org", "mail_server": "mail.example.org",
            "mail_user": "backup"},
    "set up": {"where": "2", "certificate": "{folder}/web1.pem", "set_up_by": "elsewhere"},
    "glacier": {"where": "glacier", "recovery_key": RECIPIENT},
    "s3": {"where": "4", "endpoint": "https://s3.example.net", "bucket": "example", "tell": "ntfy",
           "tell_to": "https://ntfy.example.net/topic"},
}  # fmt: skip
"""What is typed where Enter would not do, by the kind of place; together they meet every question."""

WRONG: Mapping[str, Sequence[tuple[str, str]]] = {
    "sources": (
        ("etc", "absolute"), ("-", "absolute"), ("/etc,/home", "no comma"),
        ("/no/such", "is not there"), ("'/etc", "quote"), ("-/x", "not among"),
    ),
    "where": (("tape", "none of disk, aws"), ("9", "none of"), ("0", "none of")),
    "path": (
        ("{folder}/web1.pem", "no directory"), ("{folder}/state", "one directory"), ("\0", "name a path"),
        ("{folder}/web1.pem/vault", "no directory"), ("{folder}/dead/vault", "is not there"),
        ("vault", "absolute path"), ("/proc/vault", "keeps no files"),
        ("/" + "n" * 300, "too long"),
        ("{folder}/config.toml/x", "the config is to be"),
    ),
    "endpoint": (("http://s3.example.net", "must be https://"), ("", "must be https://")),
    "bucket": (("Nope", "3 to 63"), ("", "3 to 63")),
    "path_style": (("perhaps", "none of yes, no"),),
    "crc64nvme": (("2024", "none of"),),
    "class": (("COLD!", "none of"), ("7", "none of")),
    "region": (("no region!", "no region"),),
    "vault": (("a vault", "letters, digits"),),
    "certificate": (("{folder}", "is a directory"), ("\0", "name a path")),
    "private_key": (("{folder}", "is a directory"),),
    "schedule": (("sometimes", "daily at 02:30"), ("every 0m", "at least a minute"), ("0 25 * * *", "25")),
    "keep": (
        ("forever=1", "no rule"), ("daily=many", "daily=many"), ("daily=0", "nothing"),
        ("within=3", "within=3"),
    ),
    "check": (("hourly", "none of"),),
    "recovery_key": (
        ("nvr1abc", "nvr1"), ("NVK1-AAAA", "public half"),
        ("file:/no/such", "cannot be read"), ("yes", "must be"),
    ),
    "key_file": (
        ("{folder}/web1.pem", "never written over"), ("/no/such/key", "not there"), ("\0", "name a path"),
        ("/dev/key", "keeps no files"), ("{folder}/config.toml", "is to be the config"),
    ),
    "sheet": (
        ("no", "absolute path"), ("{folder}/key", "own file"), ("{folder}/web1.pem", "never written over"),
    ),
    "tell": (("everybody", "none of"),),
    "tell_to": (("", "no default"), ("nonsense", "must be")),
    "mail_server": (("mail example", "name of a host"), ("mail.example.org:99999", "65535")),
    "mail_user": (),
    "mail_password_file": (("\0", "name a path"),),
    "set_up_by": (("{folder}/web1.pem", "no PEM file"), ("/no/such", "cannot be read")),
    "first_backup": (("maybe", "none of"),),
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of a certificate and its key."""
    made = tmp_path_factory.mktemp("walk")
    (made / "web1.pem").write_text("no certificate")
    (made / "web1.key").write_text("")
    (made / "dead").symlink_to("nowhere")
    return made


def typed_for(way: Mapping[str, str], folder: Path) -> dict[str, str]:
    usual = {"key_file": "{folder}/key"}
    return {name: text.format(folder=folder) for name, text in {**usual, **way}.items()}


def asked_on(way: str, folder: Path) -> tuple[list[str], Answers]:
    """The names of the questions that this way meets, in their order, and the answers."""
    walk = Walk(Typist(typed_for(WAYS[way], folder)), facts(folder, AWS), COURSE, NOTHING_YET)
    answers = walk.run()
    return [step.question.name for step in walk.done], answers


class Typist(Scripted):
    """Types what is right for the question that is asked, `first` before that."""

    def __init__(self, texts: Mapping[str, str], first: Mapping[str, Sequence[str]] | None = None) -> None:
        super().__init__(())
        self._texts, self._first = texts, {name: list(lines) for name, lines in (first or {}).items()}
        self.asked: list[str] = []

    def ask(self, prompt: str) -> str:
        """The line for this question."""
        self.prompt(prompt)
        (name,) = [question.name for question in COURSE if prompt.partition(" [")[0] == question.title]
        self.asked.append(name)
        waiting = self._first.get(name, [])
        return waiting.pop(0) if waiting else self._texts.get(name, "")


def walk_of(screen: Scripted, folder: Path) -> Walk:
    return Walk(screen, facts(folder, AWS), COURSE, NOTHING_YET)


@pytest.mark.parametrize("way", WAYS)
def test_going_away_at_any_question_leaves_the_walk(way: str, folder: Path) -> None:
    names, _ = asked_on(way, folder)
    texts = typed_for(WAYS[way], folder)
    for place, name in enumerate(names):
        screen = Scripted([texts.get(asked, "") for asked in names[:place]])
        with pytest.raises(LeftError):
            walk_of(screen, folder).run()
        (title,) = [question.title for question in COURSE if question.name == name]
        assert screen.prompts[-1].startswith(title)


def test_these_ways_meet_every_question(folder: Path) -> None:
    met = {name for way in WAYS for name in asked_on(way, folder)[0]}
    assert met == {question.name for question in COURSE} == set(WRONG)


@pytest.mark.parametrize("way", WAYS)
def test_each_question_with_all_that_belongs_to_it_fits_a_small_terminal(way: str, folder: Path) -> None:
    screen = Typist(typed_for(WAYS[way], folder))
    walk_of(screen, folder).run()
    assert max(screen.heights) <= 23
    assert max(map(len, screen.shown.getvalue().splitlines())) <= 80


@pytest.mark.parametrize("way", WAYS)
def test_wrong_answers_are_explained_and_asked_again(way: str, folder: Path) -> None:
    """With help at each question too; no line is wider than the terminal."""
    texts = typed_for(WAYS[way], folder)
    wrong = {name: [*(line.format(folder=folder) for line, _ in lines), "?"] for name, lines in WRONG.items()}
    screen = Typist(texts, wrong)
    walk = walk_of(screen, folder)
    assert walk.run() == asked_on(way, folder)[1]
    shown = screen.shown.getvalue()
    flat = " ".join(shown.split())
    for question in COURSE:
        if question.name in screen.asked:
            assert " ".join(question.help.split()) in flat, question.name
            for line, sentence in WRONG[question.name]:
                assert sentence in flat, (question.name, line)
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize("way", WAYS)
def test_one_can_go_back_from_each_question_and_finds_ones_answer(way: str, folder: Path) -> None:
    names, answers = asked_on(way, folder)
    typed = typed_for(WAYS[way], folder)
    screen = Typist(typed, {name: ["<"] for name in names})
    walk = walk_of(screen, folder)
    assert walk.run() == answers
    there_and_back = [name for pair in pairwise(names) for name in (pair[1], *pair)]
    assert screen.asked == [names[0], names[0], *there_and_back]
    for name in names[1:-1]:
        prompts = [
            prompt for asked, prompt in zip(screen.asked, screen.prompts, strict=True) if asked == name
        ]
        assert prompts[-1].endswith(f"[{typed[name]}] (as before)") if typed.get(name) else "[" in prompts[-1]
    assert "this is the first question" in screen.shown.getvalue()


def test_another_policy_is_drawn_before_it_is_taken(tmp_path: Path) -> None:
    typed = [
        "",
        "disk",
        str(tmp_path / "vault"),
        "",
        "daily=7 weekly=4",
        "",
        "",
        "",
        str(tmp_path / "k"),
        "",
        "",
        "",
    ]
    answers, screen = walked(facts(tmp_path), typed)
    assert answers.keep == {"keep_daily": 7, "keep_weekly": 4}
    assert "7 daily, 4 weekly" in screen.shown.getvalue()
    pictures = screen.shown.getvalue().count("#: all nights of that time are kept")
    assert pictures == 2


def test_after_the_last_question_one_goes_back_and_changes_another_answer(tmp_path: Path) -> None:
    typed = [
        "",
        "disk",
        str(tmp_path / "vault"),
        *[""] * 4,
        str(tmp_path / "k"),
        "",
        "",
        "",
        "<",
        "<",
        "none",
        "",
        "",
    ]
    screen = Scripted(typed)
    walk = Walk(screen, facts(tmp_path), COURSE, NOTHING_YET)
    assert walk.run().sheet == str(tmp_path / "k-sheet.txt")
    assert walk.back().sheet is None


def test_who_goes_back_several_questions_finds_all_that_was_typed(tmp_path: Path) -> None:
    """But for an answer that does not go with what is answered now."""
    vault, key = str(tmp_path / "vault"), str(tmp_path / "vault.key")
    typed = ["", "disk", vault, "weekly", "", "weekly", "", key, *["<"] * 6, vault, *[""] * 4]
    screen = Scripted(typed)
    with pytest.raises(LeftError):
        Walk(screen, facts(tmp_path), COURSE, NOTHING_YET).run()
    assert "When? [weekly] (as before)" in screen.prompts[-5:]
    assert screen.prompts[-1] == f"Into which file? [{key}] (as before)"
    (tmp_path / "vault").mkdir()
    inside = str(tmp_path / "vault" / "key")
    typed = ["", "disk", str(tmp_path / "other"), *[""] * 4, inside, *["<"] * 6, vault, *[""] * 4]
    screen = Scripted(typed)
    with pytest.raises(LeftError):
        Walk(screen, facts(tmp_path), COURSE, NOTHING_YET).run()
    assert screen.prompts[-1] == f"Into which file? [{tmp_path}/nightvault-recovery.key]"


def test_the_key_goes_neither_into_the_vault_nor_over_another(tmp_path: Path) -> None:
    (tmp_path / "vault").mkdir()
    (tmp_path / "nightvault-recovery-sheet.txt").touch()
    typed = ["", "disk", str(tmp_path / "vault"), *[""] * 4, str(tmp_path / "vault" / "key"), *[""] * 4]
    answers, screen = walked(facts(tmp_path), typed)
    assert "lies in the vault" in screen.shown.getvalue()
    assert answers.key_file == str(tmp_path / "nightvault-recovery-2.key")


def test_an_address_that_nothing_can_be_sent_to_is_asked_again(tmp_path: Path) -> None:
    wrong = [
        "https://ntfy.example.net",
        "https://:80/t",
        "https://ntfy.example.net:99999/t",
        "https://[::1/t",
    ]
    typed = ["", "disk", str(tmp_path / "v"), *[""] * 6, "ntfy", *wrong, "https://ntfy.example.net/t", ""]
    answers, screen = walked(facts(tmp_path), typed)
    for sentence in ("names no topic", "names no host", "Port out of range", "Invalid IPv6"):
        assert sentence in screen.shown.getvalue()
    assert answers.tell_to == "https://ntfy.example.net/t"


def test_what_a_month_costs_is_shown_for_what_was_found(tmp_path: Path) -> None:
    """The cheapest restore and a quicker one, with the hours of both."""
    known = facts(tmp_path, AWS)
    (tmp_path / "source" / "large").touch()
    os.truncate(tmp_path / "source" / "large", 500 << 30)
    screen = Scripted(["", "aws", "eu-central-1"])
    with pytest.raises(LeftError):
        Walk(screen, known, COURSE, NOTHING_YET).run()
    lines = screen.shown.getvalue().splitlines()
    (deep,) = [n for n, line in enumerate(lines) if "DEEP_ARCHIVE" in line and "180 days" in line]
    assert lines[deep].split()[:6] == ["1", "DEEP_ARCHIVE", "0.90*", "49.74", "up", "to"]
    assert "48 hours" in lines[deep]
    assert "12 hours" in lines[deep + 1]
