"""Volumes of containers as sources: found by labels and names, and saved by name, wherever they lie."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.engine_server import EngineServer
from tests.containers.reading import OURS, filled, names, reading
from tests.support.servers import SCRIPT, Server, directory_server


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[EngineServer]:
    with EngineServer(tmp_path / "engine") as running:
        yield running


@pytest.fixture
def server(tmp_path: Path, engine: EngineServer) -> Server:
    made = directory_server(tmp_path / "server")
    made.init()
    reading(made, engine.address)
    return made


def sources(server: Server) -> list[str]:
    """The sources of the newest snapshot."""
    return [source["path"] for source in server.json("snapshots")[-1]["sources"]]


def test_a_volume_is_saved_by_its_name_and_looks_see_it(server: Server, engine: EngineServer) -> None:
    filled(engine.volume("shop"), rows="one\n")
    filled(engine.volume("cache"), page="x")
    engine.container("db", mounts=["shop"], labels=OURS)
    engine.container("web", mounts=["cache"])
    report = server.backup()
    assert (report["outcome"], report["problems"], report["warnings"]) == ("done", [], [])
    assert names(server) == ["/.volumes/shop", "/.volumes/shop/rows"]
    assert sources(server) == [str(server.source), "/.volumes/shop"]
    assert server.done("dump", "latest:/.volumes/shop/rows", "--key", server.key_file).stdout == "one\n"
    assert len(server.json("versions", "/.volumes/shop/rows")) == 1


def test_a_volume_that_moved_is_the_same_path_and_nothing_is_stored_again(
    server: Server, engine: EngineServer, tmp_path: Path
) -> None:
    place = filled(engine.volume("shop"), rows="one\n" * 50_000)
    (place / "deep").mkdir()
    filled(place / "deep", more="two")
    engine.container("db", mounts=["shop"], labels=OURS)
    server.backup()
    before = names(server)
    filled(engine.move("shop", tmp_path / "another root"), new="three")
    report = server.backup()
    assert (report["outcome"], report["warnings"]) == ("done", [])
    assert report["bytes_new"] < 1000
    assert sorted(names(server)) == sorted([*before, "/.volumes/shop/new"])
    changed = server.done("diff", "latest~1", "latest").stdout
    assert "/.volumes/shop/new" in changed
    assert "/.volumes/shop/rows" not in changed


def test_it_comes_back_with_modes_and_owners_of_its_top(
    server: Server, engine: EngineServer, tmp_path: Path
) -> None:
    place = filled(engine.volume("shop"), rows="one")
    place.chmod(0o2751)
    engine.container("db", mounts=["shop"], labels=OURS)
    server.backup()
    back = tmp_path / "back"
    server.done("restore", "latest:/.volumes", "--target", back, "--key", server.key_file, "--wait")
    assert (back / "shop" / "rows").read_text() == "one"
    assert (back / "shop").stat().st_mode & 0o7777 == 0o2751


@pytest.mark.parametrize(
    ("labels", "saved"),
    [
        ({"nightvault.volumes": "true"}, {"data", "media"}),
        ({"nightvault.volumes": "main"}, {"data", "media"}),
        ({"nightvault.volumes": "another job"}, set[str]()),
        ({"nightvault.volumes": "false"}, set[str]()),
        ({"stack-back.volumes": "True"}, {"data", "media"}),
        ({"stack-back.volumes": "true", "stack-back.volumes.include": "files, dat"}, {"data"}),
        ({"stack-back.volumes": "true", "stack-back.volumes.exclude": "dat"}, {"media"}),
        ({"restic-compose-backup.volumes": "true"}, {"data", "media"}),
        ({"restic-compose-backup.volumes": "1", "restic-compose-backup.volumes.include": "m"}, {"media"}),
        ({"nightvault.volumes": "yes", "nightvault.volumes.exclude": "data,media"}, set[str]()),
    ],
)
def test_words_of_labels(
    server: Server, engine: EngineServer, labels: dict[str, str], saved: set[str]
) -> None:
    for name in ("data", "media"):
        filled(engine.volume(name), file=name)
    engine.container("app", mounts=["data", "media"], labels=labels)
    server.backup()
    found = server.run("ls", "latest:/.volumes")
    assert {line.rpartition("/")[2] for line in found.stdout.splitlines()} == saved


def test_a_label_of_the_volume_itself_a_name_and_a_pattern(server: Server, engine: EngineServer) -> None:
    filled(engine.volume("labelled", labels=OURS), a="a")
    filled(engine.volume("named"), b="b")
    filled(engine.volume("web-1"), c="c")
    filled(engine.volume("left"), d="d")
    filled(engine.volume("0123456789abcdef" * 4), e="made up by the engine")
    reading(server, engine.address, 'volumes = ["named", "web-*", "0*"]')
    server.backup()
    tops = server.done("ls", "latest:/.volumes").stdout.splitlines()
    assert tops == ["/.volumes/labelled", "/.volumes/named", "/.volumes/web-1"]


def test_a_directory_of_the_host_is_saved_by_its_own_path_and_no_part_of_the_system_is(
    server: Server, engine: EngineServer, tmp_path: Path
) -> None:
    folder = tmp_path / "host" / "files"
    folder.mkdir(parents=True)
    filled(folder, a="a")
    mounts = [folder, Path("/run/docker.sock"), Path("/proc"), Path("/")]
    engine.container("app", mounts=mounts, labels=OURS)
    report = server.backup()
    assert (report["outcome"], report["problems"]) == ("done", [])
    assert sources(server) == [str(server.source), str(folder)]
    assert server.done("ls", f"latest:{folder}").stdout.splitlines() == [f"{folder}/a"]


def test_a_volume_that_is_gone_is_kept_until_it_is_excluded(server: Server, engine: EngineServer) -> None:
    filled(engine.volume("shop"), rows="one")
    engine.container("db", mounts=["shop"], labels=OURS)
    server.backup()
    engine.containers.clear()
    report = server.json("backup", "main", exit_code=3)[0]
    assert report["problems"][0]["path"] == "/.volumes/shop"
    assert "nothing names it now: what it held is kept" in report["problems"][0]["detail"]
    assert names(server) == ["/.volumes/shop", "/.volumes/shop/rows"]
    text = server.config.read_text()
    server.config.write_text(
        text.replace("[job.containers]", 'exclude = ["/.volumes/shop"]\n[job.containers]')
    )
    assert server.backup()["outcome"] == "done"
    assert "has no /.volumes" in server.fails(2, "ls", "latest:/.volumes")
    assert names(server, "latest~2") == ["/.volumes/shop", "/.volumes/shop/rows"]


def test_a_volume_that_lost_nearly_everything_waits_for_an_answer(
    server: Server, engine: EngineServer
) -> None:
    place = engine.volume("shop", labels=OURS)
    filled(place, **{f"row{number}": "x" for number in range(40)})
    server.backup()
    for file in place.iterdir():
        file.unlink()
    report = server.json("backup", "main", exit_code=3)[0]
    assert ["/.volumes/shop" in text for text in report["shrunk"]] == [True]


def test_a_named_volume_that_is_not_there_and_one_that_a_driver_mounts_are_told(
    server: Server, engine: EngineServer
) -> None:
    engine.volume("nfs", labels=OURS, Options={"type": "nfs", "device": ":/export"})
    reading(server, engine.address, 'volumes = ["nowhere"]')
    report = server.json("backup", "main", exit_code=3)[0]
    assert [problem["path"] for problem in report["problems"]] == ["/.volumes/nfs", "/.volumes/nowhere"]


def test_many_files_by_two_processes_and_patterns_within_a_volume(
    server: Server, engine: EngineServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from backup.archiver import trees

    monkeypatch.setattr(trees, "MANY_FILES", 5)
    place = engine.volume("shop", labels=OURS)
    filled(place, **{f"row{number}": "x" * number for number in range(30)})
    (place / "tmp").mkdir()
    filled(place / "tmp", left="out")
    text = server.config.read_text()
    server.config.write_text(
        text.replace("[job.containers]", 'exclude = ["/.volumes/shop/tmp"]\n[job.containers]')
    )
    report = server.backup()
    assert (report["outcome"], report["warnings"]) == ("done", [])
    assert names(server) == ["/.volumes/shop", *sorted(f"/.volumes/shop/row{number}" for number in range(30))]
    filled(place, row0="changed")
    report = server.backup()
    assert (report["entries_added"], report["entries_removed"]) == (1, 1)


def test_what_came_in_alone_meanwhile_changes_nothing_of_that(server: Server, engine: EngineServer) -> None:
    filled(engine.volume("shop", labels=OURS), rows="one")
    server.backup()
    asked = len(engine.asked)
    words = [SCRIPT, "--config", str(server.config), "backup", "main", "--stdin", "--name", "x"]
    subprocess.run(words, input=b"hello", check=True, capture_output=True)
    assert len(engine.asked) == asked
    engine.volumes["shop"]["Labels"] = {}
    server.json("backup", "main", exit_code=3)
    assert names(server) == ["/.volumes/shop", "/.volumes/shop/rows"]


def test_in_place_they_are_refused(server: Server, engine: EngineServer) -> None:
    filled(engine.volume("shop", labels=OURS), rows="one")
    server.backup()
    words = ("--in-place", "--key", server.key_file, "--yes", "--dry-run")
    for words_of_path in (("latest",), ("latest:/.volumes/shop",), ("latest", "/.volumes/shop")):
        said = server.fails(2, "restore", *words_of_path, *words)
        assert "each by --target volume:NAME" in said
    server.done("restore", f"latest:{server.source}", *words)
    server.done("restore", "latest", "--exclude", "/.volumes", *words)


def test_a_dry_run_sees_them_and_stops_nothing(server: Server, engine: EngineServer) -> None:
    filled(engine.volume("shop"), rows="one")
    engine.container("db", mounts=["shop"], labels=OURS | {"nightvault.stop": "true"})
    shown = server.done("backup", "--dry-run", "--list").stdout
    assert "/.volumes/shop/rows" in shown
    assert engine.changes() == []


def test_an_engine_that_does_not_answer_makes_no_snapshot(server: Server, engine: EngineServer) -> None:
    filled(engine.volume("shop", labels=OURS), rows="one")
    server.backup()
    server.config.write_text(server.config.read_text().replace("engine.sock", "no.sock"))
    said = server.fails(1, "backup", "main")
    assert "no.sock does not answer" in said
    assert "[job.containers]" in said
    assert len(server.json("snapshots")) == 1


def test_the_whole_root_as_a_source_holds_no_volume_twice(
    server: Server, engine: EngineServer, tmp_path: Path
) -> None:
    """`/` is a source: the directory of volumes is not on the disk, and is saved beside what is."""
    filled(engine.volume("shop", labels=OURS), rows="one")
    text = server.config.read_text().replace(f'sources = ["{server.source}"]', 'sources = ["/"]')
    kept = f'exclude = ["/*", "!/tmp", "/tmp/*", "!{server.source}"]\n[job.containers]'
    server.config.write_text(text.replace("[job.containers]", kept))
    report = server.json("backup", "main", exit_code=0)[0]
    assert report["problems"] == []
    assert names(server) == ["/.volumes/shop", "/.volumes/shop/rows"]


def test_back_into_a_volume_and_asked_where_it_is_in_use(
    server: Server, engine: EngineServer, tmp_path: Path
) -> None:
    place = filled(engine.volume("shop"), rows="one")
    container = engine.container("db", mounts=["shop"], labels=OURS)
    server.backup()
    filled(place, rows="broken")
    words = ("restore", "latest", "--target", "volume:shop", "--key", server.key_file, "--wait")
    said = server.fails(2, *words, "--overwrite", "always")
    assert "volume shop is used by what runs: db" in said
    assert "restore into it all the same?" in said
    assert (place / "rows").read_text() == "broken"
    container.is_running = False
    server.done(*words, "--overwrite", "always")
    assert sorted(path.name for path in place.iterdir()) == ["rows"]
    assert (place / "rows").read_text() == "one"
    (place / "rows").unlink()
    container.is_running = True
    server.done(*words, "--yes")
    moved = engine.move("shop", tmp_path / "another root")
    (moved / "rows").unlink()
    server.done("restore", "latest:/.volumes/shop/rows", *words[2:], "--yes")
    assert (moved / "rows").read_text() == "one"


def test_a_target_that_is_no_volume_of_the_config(server: Server, engine: EngineServer) -> None:
    engine.volume("shop", labels=OURS)
    engine.volume("nfs", Options={"type": "nfs"})
    server.backup()
    words = ("restore", "latest", "--key", server.key_file, "--target")
    assert "there is no volume wiki\n" in server.fails(2, *words, "volume:wiki")
    assert "mounted by its driver" in server.fails(1, *words, "volume:nfs")
    server.config.write_text(server.config.read_text().partition("[job.containers]")[0])
    assert "no job has [job.containers]" in server.fails(2, *words, "volume:shop")


def test_the_doctor_names_what_no_job_reads(server: Server, engine: EngineServer, tmp_path: Path) -> None:
    for name in ("shop", "wiki", "idle", "0" * 64):
        engine.volume(name)
    below, beside = server.source / "deep", tmp_path / "beside"
    beside.mkdir()
    engine.container("db", mounts=["shop", below], labels=OURS)
    engine.container("wiki", mounts=["wiki", "0" * 64, below, beside])
    engine.container("asks", labels={"stack-back.postgres": "true"})
    engine.container("idle", mounts=["idle"], is_running=False)
    engine.container("dumped", mounts=["wiki"], labels={"stack-back.postgres": "true"})
    dumped = '[[job.database]]\nkind = "postgresql"\nname = "shop"\ncontainer = "dumped"\n'
    server.config.write_text(f"{server.config.read_text()}\n{dumped}")
    found = {
        finding["what"]
        for finding in server.json("doctor", "--offline", exit_code=1)["findings"]
        if finding["check"] == "container"
    }
    assert found == {
        "container wiki runs, and no job reads its volume wiki",
        f"container wiki runs, and no job reads its directory {beside}",
        "container asks has the label stack-back.postgres, which asks for a dump that no job makes",
    }
    engine.socket.rename(tmp_path / "away")
    texts = [finding["what"] for finding in server.json("doctor", "--offline", exit_code=1)["findings"]]
    assert any("cannot look at containers: " in text for text in texts)
    (tmp_path / "away").rename(engine.socket)
