"""A job's name that nobody knows is a mistake wherever it is given; config or inventory alone may know it."""

from __future__ import annotations

import pytest

from tests.support.servers import Server, directory_server

CHOOSING = [
    "snapshots",
    "runs",
    "stats",
    "ls latest",
    "find a.txt",
    "find a.txt --snapshot latest",
    "versions SOURCE/a.txt",
    "diff latest latest",
    "restore latest --target OUT --dry-run",
    "dump latest:SOURCE/a.txt --key KEY",
    "pin latest",
    "tag latest --add gold",
    "unpin latest",
]
NAMING = ["forget {}", "forget --job {}", "forget --undo {}"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Server:
    """The job `main` was backed up, and the config has it no more; `etcetera` was never run."""
    made = directory_server(tmp_path_factory.mktemp("jobs"))
    made.init()
    made.backup()
    made.config.write_text(made.config.read_text().replace('name = "main"', 'name = "etcetera"'))
    return made


def words(server: Server, text: str) -> list[str]:
    places = {"SOURCE": server.source, "OUT": server.folder / "out", "KEY": server.key_file}
    for name, place in places.items():
        text = text.replace(name, str(place))
    return text.split()


@pytest.mark.parametrize("command", [*(f"{command} --job {{}}" for command in CHOOSING), *NAMING])
def test_a_name_that_nobody_knows(server: Server, command: str) -> None:
    said = server.fails(2, *words(server, command.format("etcetra")))
    assert f"no job named etcetra in {server.config}: there is etcetera; did you mean etcetera?" in said
    assert "`nightvault snapshots`" in said


def test_for_scripts(server: Server) -> None:
    document = server.json("snapshots", "--job", "etcetra", exit_code=2)
    assert document["error"]["message"].startswith("no job named etcetra")


@pytest.mark.parametrize("command", CHOOSING)
def test_a_job_that_the_config_has_no_more(server: Server, command: str) -> None:
    alone = server.done(*words(server, command)).stdout
    assert server.done(*words(server, command), "--job", "main").stdout == alone


def test_a_job_that_was_never_run(server: Server) -> None:
    of = ("--job", "etcetera")
    assert server.done("snapshots", *of).stdout == "no such snapshots\n"
    assert server.done("runs", *of).stdout == "nothing was run yet\n"
    assert server.done("stats", *of).stdout == "nothing is stored yet\n"
    assert "there are 0" in server.fails(2, "ls", "latest", *of)
    assert "there are no snapshots of a job 'etcetera'" in server.fails(2, "find", "a.txt", *of)


def test_forget_of_jobs_that_one_side_knows_alone(server: Server) -> None:
    for name in ("main", "etcetera"):
        assert "has no policy" in server.fails(2, "forget", name)
    assert "nothing" in server.done("forget", "--undo", "main").output
