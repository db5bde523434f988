"""The wheel: whole, without tests, and able to set up an inventory far from any checkout."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.version import Version

from backup.cli import COMMANDS, OLD_NAMES
from hatch_build import version_of_build
from tests.support.emulated import REPOSITORY

MANY = 2_100  # small files for which a second process is worth its while


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
    )
    (made,) = folder.iterdir()
    return made


def test_what_is_in_it(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert wheel.name.startswith("nightvault-")
    for name in (
        "backup/py.typed",
        "backup/cli/__init__.py",
        "backup/migrations/env.py",
        "backup/systemd/nightvault.service",
    ):
        assert name in names
    assert any(name.startswith("backup/migrations/versions/0001") for name in names)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith((".dist-info", ".data"))} == {"backup"}
    shared = {name.split("/data/share/")[1] for name in names if "/data/share/" in name}
    assert {f"man/man1/nightvault-{name}.1" for name in set(COMMANDS) - set(OLD_NAMES)} < shared
    assert shared > {
        "man/man1/nightvault.1",
        "bash-completion/completions/nightvault",
        "zsh/site-functions/_nightvault",
        "fish/vendor_completions.d/nightvault.fish",
        "nightvault/config.example.toml",
        "nightvault/docs/aws.md",
        "nightvault/hooks/snapshot.sh",
        "nightvault/iam/s3/backup.json",
        "nightvault/monitoring/nightvault.rules.yml",
        "nightvault/nightvault-extract.py",
    }
    assert version_of_build(str(REPOSITORY)).split(".d2")[0] in wheel.name
    assert not [name for name in names if "tests/" in name or "/test_" in name or name.endswith(".pyc")]


def test_each_commit_builds_another_version(tmp_path: Path) -> None:
    """`pip install --upgrade` of a later build takes it: packaging's order is pip's."""

    def git(*words: str) -> None:
        who = ["-c", "user.name=ada", "-c", "user.email=ada@example.com"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *words], check=True, capture_output=True)

    def version() -> Version:
        return Version(version_of_build(str(tmp_path)))

    source = tmp_path / "backup" / "__init__.py"
    source.parent.mkdir()
    source.write_text('VERSION = "0.2.0.dev0"\n')
    assert str(version()) == "0.2.0.dev0"
    git("init", "-q")
    found = [version()]
    for number in range(11):
        git("add", ".")
        git("commit", "-q", "-m", f"change {number}", "--allow-empty")
        found.append(version())
    source.write_text('VERSION = "0.2.0.dev0"  # changed\n')
    found.append(version())
    assert found == sorted(set(found))
    assert found[-1] < Version("0.2.0")
    source.write_text('VERSION = "0.2.0"\n')
    assert version() == Version("0.2.0")
    (tmp_path / "PKG-INFO").write_text("Metadata-Version: 2.4\nName: nightvault\nVersion: 0.2.0.dev7+gabc\n")
    assert str(version()) == "0.2.0.dev7+gabc"


def test_it_works_where_there_is_nothing_else(wheel: Path, tmp_path: Path) -> None:
    place, home = tmp_path / "venv", tmp_path / "home"
    home.mkdir()
    venv.create(place, with_pip=False, symlinks=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(place), "platbase": str(place)}))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    (data,) = site.glob("*.data")
    (data / "data" / "share").rename(place / "share")  # as an installer does
    # The libraries of this environment, without its editable nightvault: a plain path is read for no .pth.
    (site / "libraries.pth").write_text(f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
    program = [str(place / "bin" / "python"), "-c", "from backup.cli import main; main()"]

    def nightvault(*words: object) -> str:
        done = subprocess.run(
            [*program, *map(str, words)],
            cwd=home,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = [program[0], "-c", "import backup; print(backup.__file__)"]
    found = subprocess.run(
        where, cwd=home, env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert found.strip() == str(site / "backup" / "__init__.py")
    assert nightvault("--version").startswith("nightvault, version ")
    example = place / "share" / "nightvault" / "config.example.toml"
    assert nightvault("config", "example") == example.read_text()

    (home / "source").mkdir()
    (home / "source" / "a.txt").write_text("alpha")
    for number in range(MANY):
        (home / "source" / f"{number:04}").touch()
    config = home / ".config" / "nightvault" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(
        f'[state]\ndir = "{home}/state"\n'
        f'[[vault]]\nname = "disk"\nkind = "directory"\npath = "{home}/vault"\n'
        f'[[job]]\nname = "main"\nvault = "disk"\nsources = ["{home}/source"]\n'
    )
    assert "vaults ready: disk" in nightvault(
        "init", "--non-interactive", "--key-file", home / "recovery.key"
    )
    refused = subprocess.run(
        [*program, "notify", "test"], cwd=home, env=environment, capture_output=True, text=True, check=False
    )
    assert (refused.returncode, f"{example} shows some" in refused.stderr) == (2, True), refused.stderr
    report = json.loads(nightvault("--json", "backup"))[0]
    assert (report["files"], report["bytes"]) == (MANY + 1, 5)
    assert report["warnings"] == [], "the second process works there, too"
    restore = ("restore", "latest", "--target", home / "out", "--key", home / "recovery.key")
    assert json.loads(nightvault("--json", *restore))["warnings"] == []
    assert Path(f"{home}/out{home}/source/a.txt").read_text() == "alpha"


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheels of all that it needs, of uv and of pipx, by the hashes of the pins."""
    folder = tmp_path_factory.mktemp("libraries")
    pins = folder / "pins.txt"
    pins.write_text(runpy.run_path(str(REPOSITORY / "deploy/packages/build.py"))["pins"]())
    asked = ("-r", pins, "-r", REPOSITORY / "tests/constraints-installers.txt", "-d", folder)
    pip(
        "download",
        "--disable-pip-version-check",
        "--no-deps",
        "--only-binary=:all:",
        "--require-hashes",
        *asked,
    )
    return folder


def pip(*words: object) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("program", ["uv", "pipx"])
def test_installed_as_a_tool(wheel: Path, libraries: Path, tmp_path: Path, program: str) -> None:
    """By uv and by pipx, with an extra; by uv twice, as a newer build is put in its place."""
    tools = tmp_path / "tools"
    pip("install", "--no-index", "--find-links", libraries, "--target", tools, program)
    local = ["--no-index", "--find-links", str(libraries)]
    environ = {"HOME": str(tmp_path), "PYTHONPATH": str(tools)}
    environ["PATH"] = f"{tmp_path}/bin:{os.environ['PATH']}"
    environ["UV_TOOL_DIR"] = environ["PIPX_HOME"] = str(tmp_path / "made")
    environ["UV_TOOL_BIN_DIR"] = environ["PIPX_BIN_DIR"] = str(tmp_path / "bin")
    environ["PIPX_MAN_DIR"] = str(tmp_path / "man")
    commands: dict[str, list[object]] = {
        "uv": [tools / "bin/uv", "tool", "install", "--offline", *local, f"--python={sys.executable}"],
        "pipx": [
            *(sys.executable, "-m", "pipx", "install", f"--python={sys.executable}", "--backend=pip"),
            f"--pip-args={' '.join(local)}",
        ],
    }
    install = commands[program]

    def run(*words: object) -> str:
        told = list(map(str, words))
        done = subprocess.run(told, env=environ, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run(*install, f"{wheel}[web]")
    if program == "uv":
        run(*install, "--force", f"{wheel}[web]")
    environ["PYTHONPATH"] = ""
    version = wheel.name.split("-")[1]
    assert run(tmp_path / "bin/nightvault", "--version") == f"nightvault, version {version}\n"
    assert run("nightvault", "config", "example") == (REPOSITORY / "config.example.toml").read_text()
    (pages,) = (tmp_path / "made").rglob("share/man/man1")
    assert (pages / "nightvault-restore.1").exists()
    if program == "pipx":
        assert (tmp_path / "man/man1/nightvault-restore.1").is_symlink()
