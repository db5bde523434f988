"""runs: what partial backups could not save, named below the table in a few lines, and all of it as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.servers import Server


def missing(server: Server, *names: str) -> None:
    """Sources of the job that are not there, as in TOML; each is a problem of every backup."""
    with server.config.open("a") as file:
        for name in names:
            file.write(f'[[job.source]]\npath = "{server.folder}/{name}"\n')


def partial(server: Server) -> dict[str, Any]:
    report: dict[str, Any] = server.json("backup", "main", exit_code=3)[0]
    return report


def below(server: Server, *words: str) -> list[str]:
    """The lines below the table, without its title and rows."""
    lines = server.done("runs", *words).stdout.splitlines()
    return lines[1 + len(server.json("runs", *words)) :]


def test_a_partial_run_says_what_it_lacks(server: Server) -> None:
    server.backup()
    assert below(server) == []
    missing(server, "gone", "odd\\u001b[2J")
    run = partial(server)["run"]
    first, second = below(server)
    assert first.startswith(f"run {run}: unreadable: {server.folder}/gone: ")
    assert second.startswith(f"run {run}: unreadable: {server.folder}/odd\\x1b[2J: ")
    assert below(server, "--job", "main") == [first, second]
    newest, oldest = server.json("runs")
    assert newest["problems"] == server.json("snapshots")[1]["problems"]
    assert {Path(problem["path"]).name for problem in newest["problems"]} == {"gone", "odd\x1b[2J"}
    assert oldest["problems"] == []


def test_many_problems_of_one_cause_are_one_line(server: Server) -> None:
    missing(server, *(f"gone {number}" for number in range(9)))
    run = partial(server)["run"]
    (line,) = below(server)
    assert line.startswith(f"run {run}: unreadable: ")
    assert "9 entries" in line
    assert line.endswith(" and 6 more")
    assert len(server.json("runs")[0]["problems"]) == 9


def test_a_long_list_stays_readable(server: Server) -> None:
    missing(server, "gone")
    numbers = [partial(server)["run"] for _ in range(12)]
    lines = below(server)
    assert [line.split(":")[0] for line in lines[:-1]] == [f"run {number}" for number in numbers[:1:-1]]
    assert lines[-1] == "… and 2 older partial backups; --json has what they could not save"
    assert [len(run["problems"]) for run in server.json("runs")] == [1] * 12


def test_a_partial_run_whose_snapshot_lacks_nothing(server: Server) -> None:
    """A hook that fails afterwards is a warning, and no file is unsaved."""
    with server.config.open("a") as file:
        file.write('[job.hooks]\nafter = [["false"]]\n')
    run = partial(server)["run"]
    (line,) = below(server)
    assert line.startswith(f"run {run}: warning: ")
    assert server.json("runs")[0]["problems"] == []
