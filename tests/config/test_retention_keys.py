"""Policies in the config: of one job or shared, when to forget, each mistake named by its key."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import fields

from backup.config import PROPOSED, Config, ForgetWhen, RetentionSettings, load_config
from backup.config.retention import COUNTS, SPANS
from backup.errors import ConfigError
from backup.retention.policy import ALL, Policy
from backup.retention.spans import Span, parse_span
from backup.schedule import Schedule

EXAMPLE = Path(__file__).parents[2] / "config.example.toml"
JOB = """
[[vault]]
name = "disk"
kind = "directory"
path = "disk"
[[job]]
name = "etc"
vault = "disk"
sources = ["/etc"]
timezone = "Europe/Berlin"
"""
POLICY = "[job.retention]\nkeep_daily = 7\n"


def load(folder: Path, text: str) -> Config:
    path = folder / "config.toml"
    path.write_text(text)
    return load_config(str(path))


def test_every_rule_is_read(tmp_path: Path) -> None:
    lines = [
        'keep_last = "all"', "keep_hourly = 24", "keep_daily = 7", "keep_weekly = 8", "keep_monthly = 12",
        "keep_yearly = 0", 'keep_within = "30d"', 'keep_within_hourly = "12h"', 'keep_within_daily = "90d"',
        'keep_within_weekly = "13w"', 'keep_within_monthly = "1y6m"', 'keep_within_yearly = "2y"',
        'keep_tags = ["release", "db,monthly"]',
    ]  # fmt: skip
    assert load(tmp_path, JOB + "\n".join(["[job.retention]", *lines])).job("etc").policy == Policy(
        last=ALL,
        hourly=24,
        daily=7,
        weekly=8,
        monthly=12,
        within=parse_span("30d"),
        within_hourly=parse_span("12h"),
        within_daily=parse_span("90d"),
        within_weekly=parse_span("13w"),
        within_monthly=Span(years=1, months=6),
        within_yearly=parse_span("2y"),
        tags=(frozenset({"release"}), frozenset({"db", "monthly"})),
    )


def test_each_rule_of_a_policy_has_its_key() -> None:
    rules = {f"keep_{field.name}" for field in fields(Policy)}
    assert rules == set(RetentionSettings.__struct_fields__) == COUNTS | SPANS | {"keep_tags"}


def test_jobs_share_a_named_policy(tmp_path: Path) -> None:
    text = JOB + 'retention = "long"\n' + JOB[JOB.index("[[job]]") :].replace("etc", "home")
    config = load(
        tmp_path,
        text + 'retention = "short"\n[retention.long]\nkeep_yearly = 9\n[retention.short]\nkeep_last = 1',
    )
    assert config.job("etc").policy == Policy(yearly=9)
    assert config.job("home").policy == Policy(last=1)


def test_a_job_without_a_policy_keeps_everything(tmp_path: Path) -> None:
    job = load(tmp_path, JOB).job("etc")
    assert (job.policy, job.forget_when) == (None, ForgetWhen.NEVER)


@pytest.mark.parametrize(
    ("line", "when"),
    [
        ("", ForgetWhen.AFTER_BACKUP),
        ('forget = "After  backup"\n', ForgetWhen.AFTER_BACKUP),
        ('forget = "never"\n', ForgetWhen.NEVER),
    ],
)
def test_when_a_job_forgets(tmp_path: Path, line: str, when: ForgetWhen) -> None:
    assert load(tmp_path, JOB + line + POLICY).job("etc").forget_when is when


def test_a_job_forgets_by_a_schedule_in_its_time_zone(tmp_path: Path) -> None:
    when = load(tmp_path, JOB + 'forget = "30 4 * * 1"\n' + POLICY).job("etc").forget_when
    assert isinstance(when, Schedule)
    assert (when.text, when.timezone) == ("30 4 * * 1", "Europe/Berlin")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[job.retention]\nkeep_dayly = 7", "job[1].retention.keep_dayly: unknown key; did you mean keep_d"),
        ("[job.retention]\nkeep_daily = -1", "job[1].retention.keep_daily: must be a number such as 7"),
        ('[job.retention]\nkeep_daily = "7"', "job[1].retention.keep_daily: must be a number such as 7"),
        ("[job.retention]\nkeep_daily = true", "job[1].retention.keep_daily: must be a number such as 7"),
        ('[job.retention]\nkeep_within = "30"', 'job[1].retention.keep_within: "30" is no length of time'),
        ('[job.retention]\nkeep_within = "0d"', 'job[1].retention.keep_within: "0d" must be longer than 0'),
        ("[job.retention]\nkeep_within = 30", 'job[1].retention.keep_within: must be a text such as "30d"'),
        ('[job.retention]\nkeep_tags = ["a", ""]', "job[1].retention.keep_tags[2]: must be a tag"),
        ('[job.retention]\nkeep_tags = ["a, b"]', "job[1].retention.keep_tags[1]: must be a tag"),
        ('[job.retention]\nkeep_tags = "a"', "job[1].retention.keep_tags: must be a list, not a text"),
        (
            "[job.retention]",
            'job[1].retention: would keep nothing; a policy for most is keep_within = "30d", keep_weekly = 8',
        ),
        ("[job.retention]\nkeep_daily = 0", "job[1].retention: would keep nothing"),
        ("[[job.retention]]\nkeep_daily = 7", "job[1].retention: must be a table"),
        ("retention = 7", "job[1].retention: must be a table"),
        (
            'retention = "lng"\n[retention.long]\nkeep_last = 1',
            "job[1].retention: there is no [retention.lng]; did you mean long?",
        ),
        ('retention = "long"', "job[1].retention: there is no [retention.long]"),
        ('retention = "long"\n[retention.long]\nkeep_lst = 1', "retention.long.keep_lst: unknown key"),
        ("[retention.long]", "retention.long: would keep nothing"),
        ("[retention]\nkeep_last = 1", "retention: must be written as [retention.NAME]"),
        ('[retention."a b"]\nkeep_last = 1', "retention.a b: must be of letters"),
        (
            'forget = "sometimes"\n' + POLICY,
            'job[1].forget: must be "after backup", "never" or a schedule: "sometimes" cannot be read',
        ),
        ('forget = "after backup"', "job[1].forget: needs a policy: [job.retention]"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_by_its_key(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, JOB + text)
    assert sentence in str(caught.value)


def test_the_example_has_the_proposed_policy() -> None:
    proposed = RetentionSettings(**PROPOSED).policy  # type: ignore[arg-type]  # a mapping of the right keys
    assert proposed == Policy(within=parse_span("30d"), weekly=8, monthly=12, yearly=3)
    assert {job.policy for job in load_config(str(EXAMPLE)).jobs} == {proposed}
