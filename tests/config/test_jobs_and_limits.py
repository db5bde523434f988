"""What jobs choose and run, limits of rate and memory, times and checks as the config has them."""

from __future__ import annotations

import inspect
import os
from pathlib import Path

import pytest

from backup.config import (
    minute_of,
    part_size_within,
    warnings_of_limits,
)
from backup.config.limits import PARTS_AT_ONCE
from backup.model import MIB
from backup.transfer.upload import Uploader
from tests.config.config_texts import (
    BUCKET,
    DIRECTORY,
    GLACIER,
    JOB,
    load,
    mistakes,
)


def test_sources_may_have_settings_of_their_own(tmp_path: Path) -> None:
    own = '[[job.source]]\npath = "/srv"\nexclude = ["*.iso"]\none_file_system = true\nexclude_file = ["x"]\n'
    job = load(
        tmp_path, DIRECTORY + JOB + 'iexclude_file = ["~/y"]\nexclude_larger_than = "1GiB"\n' + own
    ).jobs[0]
    assert job.paths == ("/etc", "/srv")
    assert job.iexclude_file == (os.path.expanduser("~/y"),)
    assert job.exclude_larger_than == 1024 * MIB
    assert (job.source[0].exclude, job.source[0].one_file_system) == (("*.iso",), True)
    assert job.source[0].exclude_file == (str(tmp_path / "x"),)
    assert job.source[0].exclude_caches is None


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('exclude = ["fine", "!"]', "job[1].exclude[2]: Invalid"),
        ('exclude_if_present = ["a/b"]', "job[1].exclude_if_present[1]: must be the name of a file"),
        ('exclude_larger_than = "9 tons"', "job[1].exclude_larger_than: must be a number of bytes"),
        ('[[job.source]]\npath = "/etc"', "job[1].source[1].path: /etc is a source of this job already"),
        ('[[job.source]]\npath = "etc"', "job[1].source[1].path: must be an absolute path"),
        ('[[job.source]]\npath = "/a"\nexlude = []', "job[1].source[1].exlude: unknown key; did you mean"),
        ("[[job.source]]\nexclude = []", "job[1].source[1].path: is missing"),
        ('[[job.source]]\npath = "/a"\niexclude = ["!"]', "job[1].source[1].iexclude[1]: Invalid"),
        ('[job.hooks]\nbefore = "/bin/true"', "job[1].hooks.before: must be a command such as"),
        ("[job.hooks]\nbefore = [[]]", "job[1].hooks.before[1].run: must name a program"),
        ('[job.hooks]\nafter = [{ runs = ["x"] }]', "job[1].hooks.after[1].runs: unknown key; did you"),
        ('[job.hooks]\nfinally = [["x"], "y"]', "job[1].hooks.finally[2]: must be a table"),
        ('[job.hooks]\ntimeout = "9 days"', "job[1].hooks.timeout: must be a number of seconds"),
    ],
)  # fmt: skip
def test_a_mistake_in_choosing_or_hooks_is_named_by_its_key(tmp_path: Path, line: str, sentence: str) -> None:
    assert sentence in mistakes(tmp_path, DIRECTORY + JOB + line)


def test_hooks_are_one_command_or_several_each_with_its_time(tmp_path: Path) -> None:
    written = """
[job.hooks]
timeout = "10m"
before = ["/bin/one", "word"]
after = [["/bin/one"], { run = ["/bin/two"], timeout = "2h" }]
finally = []
"""
    hooks = load(tmp_path, DIRECTORY + JOB + written).jobs[0].hooks
    assert [(hook.run, hook.timeout) for hook in hooks.before] == [(("/bin/one", "word"), None)]
    assert [(hook.run, hook.timeout) for hook in hooks.after] == [
        (("/bin/one",), None),
        (("/bin/two",), 7200),
    ]
    assert (hooks.finally_, hooks.on_failure, hooks.timeout) == ((), (), 600)


# Limits.


def test_a_limit_holds_all_day_or_in_windows(tmp_path: Path) -> None:
    vault = load(
        tmp_path,
        DIRECTORY
        + 'upload_limit = "2MiB/s"\ndownload_limit = [{ from = "22:00", to = "06:30", limit = "64KiB/s" },'
        + ' { from = "08:00", to = "24:00", limit = 100000 }]',
    ).vault("disk")
    assert [(limit.from_, limit.to, limit.limit) for limit in vault.upload_limit] == [
        ("00:00", "24:00", 2 * MIB)
    ]
    assert [(minute_of(limit.from_), minute_of(limit.to), limit.limit) for limit in vault.download_limit] == [
        (1320, 390, 65536),
        (480, 1440, 100_000),
    ]


def test_parts_are_so_small_that_what_is_under_way_takes_ten_minutes_at_most(tmp_path: Path) -> None:
    slow = [{"limit": rate} for rate in ("1GiB/s", "100KiB/s", "64KiB/s", "16KiB/s")]
    sizes = []
    for row in slow:
        text = GLACIER + f'upload_limit = "{row["limit"]}"'
        vault = load(tmp_path, text).vault("cold")
        assert list(warnings_of_limits(vault)) == []
        sizes.append(part_size_within(vault) // MIB)
        assert part_size_within(vault) * 3 <= 600 * vault.upload_limit[0].limit
    assert sizes == [32, 16, 8, 2]


def test_parts_of_s3_have_a_smallest_size_and_that_is_told(tmp_path: Path) -> None:
    vault = load(tmp_path, BUCKET + 'upload_limit = "16KiB/s"').vault("frozen")
    assert part_size_within(vault) == 8 * MIB
    (warning,) = warnings_of_limits(vault)
    assert warning.startswith(
        "vault frozen: at 16 KiB/s its smallest parts (8 MiB, 3 at once) take 25 minutes"
    )


def test_as_many_parts_are_reckoned_with_as_are_sent_at_once() -> None:
    assert inspect.signature(Uploader).parameters["parts_at_once"].default == PARTS_AT_ONCE


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ('schedule = "every 1h"\njitter = "1h"', "job[1].jitter: must be shorter than the time between"),
        ('jitter = "25h"', 'job[1].jitter: must be at most "24h"'),
        ('jitter = "soon"', "job[1].jitter: must be a number of seconds or a text"),
        ('catch_up = "twice"', "job[1].catch_up: must be one of once, skip"),
        ('retry = "10m"', 'job[1].retry: must be a list such as ["10m", "1h", "3h"]'),
        ('retry = ["0s"]', 'job[1].retry: must be times from "1s" to "168h"'),
    ],
)  # fmt: skip
def test_times_of_a_job_that_cannot_be(tmp_path: Path, keys: str, complaint: str) -> None:
    assert complaint in mistakes(tmp_path, DIRECTORY + JOB + keys + "\n")


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ('check = "often"', 'vault[1].check: "often" cannot be read'),
        ('check_sample = "1%"', 'vault[1].check_sample: needs a schedule: check = "weekly"'),
        ('check = "weekly"\ncheck_sample = "0%"', "vault[1].check_sample: must be above 0, and at most 100%"),
        ('check = "weekly"\ncheck_sample = "101%"', "vault[1].check_sample: must be above 0"),
        ('check = "weekly"\ncheck_sample = "some"', "vault[1].check_sample: must be a share or a size"),
    ],
)  # fmt: skip
def test_checks_that_cannot_be(tmp_path: Path, keys: str, complaint: str) -> None:
    assert complaint in mistakes(tmp_path, DIRECTORY + keys + "\n" + JOB)


def test_times_and_checks_as_they_are_written(tmp_path: Path) -> None:
    times = 'schedule = "daily"\njitter = "30m"\ncatch_up = "skip"\nretry = ["10m", 3600]\n'
    config = load(tmp_path, DIRECTORY + 'check = "weekly"\ncheck_sample = "5GiB"\n' + JOB + times)
    job, vault = config.job("etc"), config.vault("disk")
    assert (job.jitter, job.catch_up, job.retry) == (1800, "skip", (600, 3600))
    assert vault.when("check") is not None
    assert vault.check_sample == "5GiB"
