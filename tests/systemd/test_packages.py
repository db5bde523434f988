"""Packages: built twice they are equal; installed, upgraded, removed and purged on Debian 12 and 13."""

from __future__ import annotations

import csv
import faulthandler
import filecmp
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.emulated import REPOSITORY
from tests.systemd.editions import Builder, Edition, what_is_missing_here
from tests.systemd.image import mirror
from tests.systemd.roots import ARM_TOOLS, root_of, run_in, what_is_missing

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.large]

SUITES = {"debian12": "bookworm", "debian13": "trixie"}
WHOLE = os.environ.get("NIGHTVAULT_TEST_PACKAGES") == "all"
"""Whether all are built and unpacked, some twice, seen by lintian, and begin on Debian 13, too."""
LIVES = ["debian12", "debian13"] if WHOLE else ["debian12"]  # which goes on as Debian 13
BUILD = runpy.run_path(str(REPOSITORY / "deploy/packages/build.py"))
ELF = {"amd64": 62, "arm64": 183}
"""The numbers of machines in libraries."""
AGAIN = ("debian13", "el10")
ANSWERS = """\
sources = ["/etc/apt"]
where = "disk"
path = "/srv/vault"
key_file = "/root/recovery.key"
"""
KEPT = "cd /; find /etc/nightvault /root/recovery.key /var/lib/nightvault/keys -type f -exec sha256sum {} +"
"""Config and keys: nothing that happens to a package changes a byte of them."""


@pytest.fixture(autouse=True)
def _patience() -> None:
    faulthandler.cancel_dump_traceback_later()  # what runs in a root has a limit of its own


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    if missing := what_is_missing_here():
        pytest.skip(missing)
    faulthandler.cancel_dump_traceback_later()
    with Builder(tmp_path_factory.mktemp("builder")) as made:
        yield made


@pytest.fixture(scope="module")
def editions(builder: Builder) -> Sequence[Edition]:
    """Two builds, of a commit and of the next one, each with a signed repository."""
    if missing := what_is_missing():
        pytest.skip(missing)
    later = ["debian12", *AGAIN] if WHOLE else ["debian12", "debian13"]
    return [builder.edition("first", LIVES), builder.edition("second", later)]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    shutil.rmtree(tmp_path)  # a root of Debian is large


@pytest.mark.skipif(not WHOLE, reason="takes minutes: with NIGHTVAULT_TEST_PACKAGES=all")
def test_two_builds_are_equal(builder: Builder, editions: Sequence[Edition], folder: Path) -> None:
    made = builder.build(folder, *(f"--distribution={name}" for name in AGAIN), "--machine=amd64")
    known = {path.name: path for path in editions[-1].packages}
    assert [path.suffix for path in made] == [".rpm", ".deb"]
    for path in made:
        assert filecmp.cmp(path, known[path.name], shallow=False), path.name
    if shutil.which("lintian"):
        assert lintian(made[-1]) == ""


@pytest.mark.parametrize(
    ("distribution", "machine"),
    [(distribution, machine) for distribution in BUILD["DISTRIBUTIONS"] for machine in BUILD["MACHINES"]]
    if WHOLE
    else [(BUILD["DISTRIBUTIONS"][0], "arm64")],
    ids=lambda value: getattr(value, "name", value),
)
def test_what_is_in_a_package(builder: Builder, folder: Path, distribution: Any, machine: str) -> None:
    """Its libraries are those of its machine and of its Python, which alone it takes."""
    is_deb = distribution.kind == "deb"
    if missing := [tool for tool in ("dpkg-deb" if is_deb else "rpm2archive",) if shutil.which(tool) is None]:
        pytest.skip(f"needs {missing[0]}")
    words = ("--distribution", distribution.name, "--machine", machine)
    (package,) = builder.build(folder / "made", *words)
    root, python = folder / "root", distribution.python
    root.mkdir()
    if is_deb:
        assert package.name.endswith(f"~{distribution.suffix}_{machine}.deb")
        needs = printed("dpkg-deb", "-f", package, "Depends")
        assert f"python3 (>= {python}~), python3 (<< {distribution.next_python}~)" in needs
        subprocess.run(["dpkg-deb", "-x", package, root], check=True)
        if WHOLE and shutil.which("lintian"):
            assert lintian(package) == ""
    else:
        assert package.name.endswith(f"-1.{distribution.suffix}.{BUILD['MACHINES'][machine]}.rpm")
        assert f"python(abi) = {python}" in printed("rpm", "-qp", "--requires", package)
        with (folder / "archive.tgz").open("wb") as file:
            subprocess.run(["rpm2archive", package], stdout=file, check=True)
        subprocess.run(["tar", "-C", root, "-xzf", folder / "archive.tgz"], check=True)
    site = root / f"opt/nightvault/lib/python{python}/site-packages"
    libraries = list(site.rglob("*.so"))
    assert len(libraries) > 15
    assert {path.read_bytes()[18:20] for path in libraries} == {ELF[machine].to_bytes(2, "little")}
    made_for = {tag for path in libraries for tag in re.findall(r"\.(cpython-\d+|abi3)", path.name)}
    assert made_for == {f"cpython-{python.replace('.', '')}", "abi3"}
    assert os.readlink(root / "opt/nightvault/bin/python") == f"/usr/bin/python{python}"
    records = [path.read_text().splitlines() for path in site.glob("*.dist-info/RECORD")]
    assert len(records) > 30
    listed = [row[0] for record in records for row in csv.reader(record)]
    assert [name for name in listed if not (site / name).is_file()] == [], "scripts hold the builder's paths"


@pytest.mark.parametrize("distribution", LIVES)
def test_a_life_by_apt(editions: Sequence[Edition], folder: Path, distribution: str) -> None:
    """From a signed repository: installed, used, upgraded, removed, purged; nothing that was stored goes."""
    root = root_of(SUITES[distribution], folder / "root")
    shutil.rmtree(root / "etc/apt/sources.list.d", ignore_errors=True)
    first, second = editions
    offer(root, first, distribution)
    run_in(root, "apt-get -q -y install nightvault")
    assert version(root) == first.versions[distribution]
    said = run_in(
        root, "nightvault version; getent passwd nightvault nightvault-web; dpkg --verify nightvault"
    )
    assert "nightvault-web:x:" in said
    assert said.endswith("/usr/sbin/nologin\n"), "nothing that dpkg put there has changed"
    (root / "root/answers.toml").write_text(ANSWERS)
    run_in(root, "nightvault begin --answers /root/answers.toml; nightvault config check")
    back_up(root, 2)
    kept = run_in(root, KEPT)
    advised = run_in(root, "nightvault notify test", code=2)
    assert "/usr/share/nightvault/config.example.toml" in advised
    run_in(root, "test -x /usr/share/nightvault/nightvault-extract.py")

    offer(root, second, distribution)
    run_in(root, "apt-get -q -y upgrade")
    run_in(root, f"dpkg --compare-versions {version(root)} gt {first.versions[distribution]}")
    assert version(root) == second.versions[distribution]
    back_up(root, 3)

    if distribution == "debian12":
        upgrade_to_debian_13(root, second)
        back_up(root, 4)
    assert run_in(root, KEPT) == kept

    run_in(root, "apt-get -q -y remove nightvault; test ! -e /opt/nightvault -a ! -e /usr/bin/nightvault")
    said = run_in(root, "apt-get -q -y purge nightvault")
    assert "/var/lib/nightvault stays: it may hold the only keys to your backups" in said
    assert run_in(root, KEPT) == kept
    run_in(root, "apt-get -q -y install nightvault")
    back_up(root, 5 if distribution == "debian12" else 4)
    run_in(root, "nightvault restore latest --target /root/out --key /root/recovery.key")
    run_in(root, "diff -r /etc/apt /root/out/etc/apt")


def test_a_repository_that_cannot_be_made_ends_the_build_before_it_begins(folder: Path) -> None:
    words: list[str | Path] = [
        sys.executable,
        REPOSITORY / "deploy/packages/build.py",
        "--key",
        "x",
        "--to",
        folder / "made",
    ]
    done = subprocess.run(words, env={"PATH": str(folder)}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "a repository (--key) needs apt-ftparchive: install Debian's apt-utils\n"
    assert not (folder / "made").exists()


@pytest.mark.skipif(
    os.environ.get("NIGHTVAULT_TEST_ARM64") != "1", reason="takes minutes: with NIGHTVAULT_TEST_ARM64=1"
)
def test_on_another_processor(builder: Builder, folder: Path) -> None:
    """The package for ARM is installed and used by programs of ARM, which QEMU runs."""
    if missing := what_is_missing(more=ARM_TOOLS):
        pytest.skip(missing)
    (deb,) = builder.build(folder / "made", "--distribution=debian13", "--machine=arm64")
    root = root_of("trixie", folder / "root", "arm64")
    shutil.copy(deb, root / "root")
    run = partial(run_in, root, machine="arm64")
    assert run("dpkg --print-architecture; python3 -c 'import os; print(os.uname().machine)'").split() == [
        "arm64",
        "aarch64",
    ]
    run("dpkg --install /root/*.deb; dpkg --verify nightvault")
    (root / "root/answers.toml").write_text(ANSWERS)
    run("nightvault begin --answers /root/answers.toml")
    run("nightvault backup; nightvault restore latest --target /root/out --key /root/recovery.key")
    run("diff -r /etc/apt /root/out/etc/apt")


def upgrade_to_debian_13(root: Path, edition: Edition) -> None:
    """An upgrade of the distribution: apt brings its new Python, and the package for it, in one go."""
    shutil.copy("/etc/resolv.conf", root / "etc")
    debian = f"deb {mirror()} trixie main"
    offer(root, edition, "debian12", debian)
    assert "Remv nightvault" in run_in(root, "apt-get -q -s full-upgrade"), "docs/install.md warns of it"
    offer(root, edition, "debian13", debian)
    options = "-o Dpkg::Options::=--force-confold -o APT::Install-Recommends=false"
    run_in(root, f"apt-get -q -y {options} full-upgrade")
    assert version(root) == edition.versions["debian13"]
    assert run_in(root, "readlink -f /opt/nightvault/bin/python") == "/usr/bin/python3.13\n"
    run_in(root, "test ! -e /opt/nightvault/lib/python3.11; dpkg --verify nightvault; dpkg --audit")


def lintian(package: Path) -> str:
    """What Debian's checker says of a package."""
    return printed("lintian", "--allow-root", package)


def printed(*words: str | Path) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout


def offer(root: Path, edition: Edition, distribution: str, *more: str) -> None:
    """Have apt in the root know this edition's repository, as it would know one in the web."""
    shutil.rmtree(root / "srv/apt", ignore_errors=True)
    shutil.copytree(edition.repository, root / "srv/apt")
    ours = f"deb [signed-by=/srv/apt/nightvault.gpg] file:/srv/apt {distribution} main"
    (root / "etc/apt/sources.list").write_text("\n".join([ours, *more, ""]))
    run_in(root, "apt-get -q update")


def back_up(root: Path, snapshots: int) -> None:
    """Make a backup, after which there are so many snapshots."""
    count = "nightvault --json snapshots | grep -o '\"job\"' | wc -l"
    said = run_in(root, f"nightvault backup >/dev/null 2>&1; {count}")
    assert said == f"{snapshots}\n"


def version(root: Path) -> str:
    return run_in(root, "dpkg-query -W -f '${Version}' nightvault")
