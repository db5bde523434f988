"""Answers from a file go the way of typed ones; what is wrong is told by its key."""

from __future__ import annotations

from pathlib import Path

import pytest

from backup.cli.begin.course import COURSE, NOTHING_YET, answers_in
from backup.errors import NightvaultError, UsageError
from tests.cli.begin.scripted import facts, walked


def read(folder: Path, text: str) -> object:
    path = folder / "answers.toml"
    path.write_text(text)
    return answers_in(str(path), COURSE, NOTHING_YET, facts(folder))


def test_a_file_and_a_person_with_the_same_answers_get_the_same(tmp_path: Path) -> None:
    vault, key = tmp_path / "vault", tmp_path / "key"
    text = f'where = "disk"\npath = "{vault}"\nkeep = "daily=7"\nkey_file = "{key}"\nfirst_backup = false\n'
    typed = ["", "1", str(vault), "", "daily=7", "", "", "", str(key), "", "", "no"]
    assert read(tmp_path, text) == walked(facts(tmp_path), typed)[0]
    assert read(tmp_path, text + f'sources = ["{tmp_path}/source"]\n') == read(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('wehre = "disk"\n', "wehre: there is no such question; did you mean where?"),
        ('where = "tape"\n', "where: 'tape' is none of disk, aws, glacier, s3"),
        ('where = "disk"\nclass = "STANDARD"\n', "class: it is not asked after the other answers"),
        ('where = "s3"\nendpoint = "https://s3.example.net"\n', "bucket: '' must be 3 to 63"),
        ('schedule = "sometimes"\n', 'schedule: "sometimes" cannot be read'),
        ('sources = ["etc"]\n', "sources: 'etc' must be an absolute path"),
        ("where = [[[\n", "is not TOML"),
    ],
)
def test_what_is_wrong_is_told_by_its_key(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(NightvaultError, match=r"answers\.toml") as failed:
        read(tmp_path, text)
    assert told in str(failed.value)


def test_what_must_be_answered_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"tell_to: there is no default"):
        read(
            tmp_path, f'where = "disk"\npath = "{tmp_path}/vault"\nkey_file = "{tmp_path}/k"\ntell = "mail"\n'
        )
