"""Builds the packages for Debian, Ubuntu, Fedora and Enterprise Linux, and an apt repository of them.

`make packages` calls it. Each package holds one environment, /opt/nightvault, for the Python of one
distribution: the program's own wheel and the wheels of its libraries, which are those of
constraints.txt, by their hashes. Two builds of one commit are equal byte for byte: times are those of the
commit, and nothing is compiled here (the package compiles the program where it is installed). How a release
uses it: docs/releasing.md.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import requires
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement

HERE = Path(__file__).resolve().parent
TOP = HERE.parent.parent
EXTRAS = ("center", "emulator", "mount", "notify", "pkcs11", "web")
"""What comes with a package beside the program's own needs: every extra that has wheels."""
PREFIX = "opt/nightvault"
MAINTAINER = os.environ.get("DEBEMAIL") or "nightvault <nightvault@example.org>"
"""Who made the package; as for Debian's own tools."""
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
"""Debian's names of machines, and those of wheels and RPM."""


@dataclass(frozen=True)
class Distribution:
    """A distribution: its name, its Python, the second number of its glibc, and the kind of its packages.

    `suffix` follows the version, so that the package of a later release of the distribution is newer.
    """

    name: str
    python: str
    glibc: int
    suffix: str
    kind: str = "deb"

    @property
    def next_python(self) -> str:
        """The first Python that does not fit."""
        major, minor = self.python.split(".")
        return f"{major}.{int(minor) + 1}"


DISTRIBUTIONS = (
    Distribution("debian12", "3.11", 36, "deb12"),
    Distribution("debian13", "3.13", 41, "deb13"),
    Distribution("ubuntu24.04", "3.12", 39, "ubuntu24.04"),
    Distribution("ubuntu26.04", "3.14", 42, "ubuntu26.04"),
    Distribution("el10", "3.12", 39, "el10", "rpm"),
    Distribution("fedora43", "3.14", 42, "fc43", "rpm"),
)


def main() -> None:
    """Build what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--to", type=Path, default=TOP / "dist" / "packages", help="where packages go")
    parser.add_argument(
        "--distribution", action="append", choices=[distribution.name for distribution in DISTRIBUTIONS]
    )
    parser.add_argument("--machine", action="append", choices=list(MACHINES))
    parser.add_argument("--nfpm", default="nfpm", help="the program that writes packages")
    parser.add_argument("--key", help="sign an apt repository with this key of gpg; without it none is made")
    given = parser.parse_args()
    to: Path = given.to
    if given.key:
        _can_sign(given.key)
    os.umask(0o022)
    environ = {**os.environ, "SOURCE_DATE_EPOCH": _time_of_commit()}
    os.environ.update(environ)
    to.mkdir(parents=True, exist_ok=True)
    wheel = _wheel(to / "work" / "wheel")
    made = []
    for distribution in DISTRIBUTIONS:
        if given.distribution and distribution.name not in given.distribution:
            continue
        for machine in given.machine or MACHINES:
            root = to / "work" / f"{distribution.name}-{machine}"
            shutil.rmtree(root, ignore_errors=True)
            _environment(root, distribution, machine, wheel)
            version = _version(distribution, wheel)
            _system_files(root, distribution, version)
            made.append(_package(root, distribution, machine, version, given))
            shutil.rmtree(root)
            sys.stdout.write(f"{made[-1]}\n")
            sys.stdout.flush()
    shutil.rmtree(to / "work", ignore_errors=True)
    if given.key:
        _repository(to / "apt", [path for path in made if path.suffix == ".deb"], given.key)


def _can_sign(key: str) -> None:
    """End at once, not after all packages, where a repository cannot be made or signed."""
    for tool, package in (("apt-ftparchive", "apt-utils"), ("gpg", "gpg")):
        if shutil.which(tool) is None:
            raise SystemExit(f"a repository (--key) needs {tool}: install Debian's {package}")
    listed = subprocess.run(
        ["gpg", "--batch", "--list-secret-keys", "--", key], capture_output=True, check=False
    )
    if listed.returncode:
        raise SystemExit(
            f"gpg has no secret key {key!r} (--key): `gpg --list-secret-keys` shows those it has"
        )


def _time_of_commit() -> str:
    given = os.environ.get("SOURCE_DATE_EPOCH")
    return given or _output("git", "-C", str(TOP), "log", "-1", "--format=%ct")


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def _wheel(folder: Path) -> Path:
    """Build the program's wheel; it goes into the packages alone."""
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        check=True, cwd=TOP, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return next(folder.glob("nightvault-*.whl"))


def _needs() -> set[str]:
    """The names of all libraries that a package holds, by their metadata in this environment."""
    here: dict[str, str] = {name: str(value) for name, value in default_environment().items()}
    found: dict[str, set[str]] = {}
    todo: list[tuple[str, tuple[str, ...]]] = [("nightvault", EXTRAS)]
    while todo:
        name, extras = todo.pop()
        if name in found and found[name] >= set(extras):
            continue
        found[name] = found.get(name, set()) | set(extras)
        for line in requires(name) or []:
            need = Requirement(line)
            wanted = [{**here, "extra": extra} for extra in (extras or ("",))]
            if need.marker is None or any(need.marker.evaluate(environment) for environment in wanted):
                todo.append((re.sub(r"[-_.]+", "-", need.name).lower(), tuple(need.extras)))
    return set(found) - {"nightvault"}


def pins() -> str:
    """The lines of constraints.txt for these libraries, with their hashes."""
    needed = _needs()
    blocks = re.split(r"\n(?=\S)", (TOP / "constraints.txt").read_text())
    found = [block.rstrip("\n") for block in blocks if re.split(r"[= ;]", block, maxsplit=1)[0] in needed]
    if len(found) != len(needed):
        raise SystemExit(f"constraints.txt lacks some of: {', '.join(sorted(needed))}")
    return "\n".join(found) + "\n"


def _environment(root: Path, distribution: Distribution, machine: str, wheel: Path) -> None:
    """Make the environment as `venv` and `pip` would, for a Python and a machine that need not be here."""
    prefix = root / PREFIX
    libraries = prefix / "lib" / f"python{distribution.python}" / "site-packages"
    libraries.mkdir(parents=True)
    file = root / "pins"
    file.write_text(pins())
    tags = [f"manylinux_2_{minor}" for minor in range(distribution.glibc, 4, -1)] + ["manylinux2014"]
    platforms = [word for tag in tags for word in ("--platform", f"{tag}_{MACHINES[machine]}")]
    pip = [
        sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps",
        "--no-compile", "--only-binary=:all:", "--implementation", "cp", "--python-version",
        distribution.python, *platforms, "--target", str(libraries), "--upgrade",
    ]  # fmt: skip
    subprocess.run([*pip, "--require-hashes", "-r", str(file)], check=True)
    program = f"nightvault=={wheel.name.split('-')[1]}"
    subprocess.run([*pip, "--no-index", "--find-links", str(wheel.parent), program], check=True)
    file.unlink()
    shutil.rmtree(libraries / "bin")
    shutil.move(libraries / "share", prefix / "share")
    for record in libraries.glob("*.dist-info/RECORD"):
        # Scripts are gone; their hashes differed with the path of the Python that builds.
        lines = record.read_bytes().splitlines(keepends=True)
        record.write_bytes(b"".join(line for line in lines if not line.startswith(b"../")))
    (prefix / "bin").mkdir()
    (prefix / "bin" / "python").symlink_to(f"/usr/bin/python{distribution.python}")
    (prefix / "pyvenv.cfg").write_text(
        f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {distribution.python}\n"
    )
    _executable(
        prefix / "bin" / "nightvault",
        f"#!/{PREFIX}/bin/python\nimport sys\n\nfrom backup.cli import main\n\nsys.exit(main())\n",
    )


def _executable(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def _system_files(root: Path, distribution: Distribution, version: str) -> None:
    """Put what belongs to the system in its places: command, units, users, manual pages, completions."""
    share, environment = root / "usr/share", root / PREFIX / "share"
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/nightvault").symlink_to(f"/{PREFIX}/bin/nightvault")
    _copy(HERE / "nightvault.sysusers", root / "usr/lib/sysusers.d/nightvault.conf")
    for unit in sorted((TOP / "deploy/systemd").iterdir()):
        text = unit.read_text().replace("/usr/local/bin/nightvault", "/usr/bin/nightvault")
        _write(root / "usr/lib/systemd/system" / unit.name, text.encode())
    for page in sorted((environment / "man/man1").iterdir()):
        _write(share / "man/man1" / f"{page.name}.gz", _packed(page.read_bytes()))
    zsh = "vendor-completions" if distribution.kind == "deb" else "site-functions"
    for here, there in (
        ("bash-completion/completions/nightvault", "bash-completion/completions/nightvault"),
        ("zsh/site-functions/_nightvault", f"zsh/{zsh}/_nightvault"),
        ("fish/vendor_completions.d/nightvault.fish", "fish/vendor_completions.d/nightvault.fish"),
    ):
        _copy(environment / here, share / there)
    for folder in ("man", "bash-completion", "zsh", "fish"):
        shutil.rmtree(environment / folder)
    (share / "nightvault").symlink_to(f"/{PREFIX}/share/nightvault")
    documents = share / "doc/nightvault"
    _copy(HERE / "copyright", documents / "copyright")
    if distribution.kind == "deb":
        _write(documents / "changelog.Debian.gz", _packed(_changelog(version).encode()))
        _write(documents / "changelog.gz", _packed((TOP / "CHANGELOG.md").read_bytes()))
        _copy(HERE / "lintian-overrides", share / "lintian/overrides/nightvault")
    else:
        _copy(TOP / "CHANGELOG.md", documents / "CHANGELOG.md")
    (root / "etc/nightvault").mkdir(parents=True)


def _changelog(version: str) -> str:
    """What Debian's tools read of a package's history: the version, and where all else is told."""
    at = _output("date", "-u", "-R", "-d", f"@{os.environ['SOURCE_DATE_EPOCH']}")
    return (
        f"nightvault ({version}) unstable; urgency=medium\n\n"
        "  * What changed is in changelog.gz.\n\n"
        f" -- {MAINTAINER}  {at}\n"
    )


def _copy(here: Path, there: Path) -> None:
    _write(there, here.read_bytes())


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _packed(content: bytes) -> bytes:
    packed = gzip.compress(content, 9, mtime=0)
    return packed[:9] + b"\xff" + packed[10:]  # "unknown system": versions of Python write different ones


def _version(distribution: Distribution, wheel: Path) -> str:
    """The package's version: for "0.2.0.dev7" it begins with "0.2.0~dev7", which is older than "0.2.0"."""
    upstream = wheel.name.split("-")[1].replace(".dev", "~dev")
    return f"{upstream}-1{'~' if distribution.kind == 'deb' else '.'}{distribution.suffix}"


def _package(
    root: Path, distribution: Distribution, machine: str, version: str, given: argparse.Namespace
) -> Path:
    """Have nfpm write the package."""
    is_deb = distribution.kind == "deb"
    architecture = machine if is_deb else MACHINES[machine]
    words = (f"nightvault_{version}_", ".deb") if is_deb else (f"nightvault-{version}.", ".rpm")
    path: Path = given.to / architecture.join(words)
    settings = {
        "name": "nightvault",
        "arch": architecture,
        "version": version if is_deb else version.rsplit("-", 1)[0],
        "version_schema": "none",
        "section": "admin",
        "priority": "optional",
        "maintainer": MAINTAINER,
        "description": (HERE / "description").read_text().strip(),
        "license": "Apache-2.0",
        "mtime": _output("date", "-u", "-d", f"@{os.environ['SOURCE_DATE_EPOCH']}", "+%Y-%m-%dT%H:%M:%SZ"),
        "contents": list(_contents(root)),
        "scripts": {
            "postinstall": str(HERE / distribution.kind / "postinstall"),
            "preremove": str(HERE / distribution.kind / "preremove"),
            "postremove": str(HERE / distribution.kind / "postremove"),
        },
        **_of_kind(distribution),
    }
    config = root.parent / f"{root.name}.json"  # JSON is YAML, too
    config.write_text(json.dumps(settings))
    subprocess.run(
        [given.nfpm, "package", "-f", str(config), "-p", distribution.kind, "-t", str(path)],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    config.unlink()
    return path


def _of_kind(distribution: Distribution) -> dict[str, object]:
    """What differs between Debian's packages and RPM's."""
    if distribution.kind == "rpm":
        return {
            "release": f"1.{distribution.suffix}",
            "depends": [f"python(abi) = {distribution.python}", "systemd"],
            "recommends": ["fuse3"],
            "rpm": {
                "summary": (HERE / "description").read_text().splitlines()[0],
                "compression": "zstd",
                "buildhost": "nightvault",
            },
        }
    return {
        "depends": [
            f"python3 (>= {distribution.python}~)",
            f"python3 (<< {distribution.next_python}~)",
            f"libc6 (>= 2.{distribution.glibc})",
            "systemd | systemd-standalone-sysusers | systemd-sysusers",
        ],
        "recommends": ["fuse3"],  # what `nightvault mount` needs
        "deb": {
            "compression": "gzip"
        },  # most of it is compressed already, and dpkg of every release reads it
    }


def _contents(root: Path) -> Iterator[dict[str, object]]:
    """Every file, link and directory of the package, in order; modes are those of the files."""
    for folder, folders, files in os.walk(root):
        folders.sort()
        there = f"/{os.path.relpath(folder, root)}"
        if there == f"/{PREFIX}" or there == "/etc/nightvault" or there.startswith(f"/{PREFIX}/"):
            mode = 0o750 if there == "/etc/nightvault" else 0o755
            yield {"dst": there, "type": "dir", "file_info": {"mode": mode}}
        for name in sorted(files + [name for name in folders if (Path(folder) / name).is_symlink()]):
            path = Path(folder) / name
            if path.is_symlink():
                yield {"src": os.readlink(path), "dst": f"{there}/{name}", "type": "symlink"}
            else:
                mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
                yield {"src": str(path), "dst": f"{there}/{name}", "file_info": {"mode": mode}}


def _repository(folder: Path, packages: list[Path], key: str) -> None:
    """An apt repository as a static folder: a suite for each distribution, signed by the builder's key."""
    shutil.rmtree(folder, ignore_errors=True)
    for distribution in DISTRIBUTIONS:
        ours = [path for path in packages if path.stem.split("_")[1].endswith(f"~{distribution.suffix}")]
        if not ours:
            continue
        suite = folder / "dists" / distribution.name
        pool = folder / "pool" / distribution.name
        pool.mkdir(parents=True)
        for path in ours:
            shutil.copy2(path, pool)
        machines = sorted({path.stem.rsplit("_", 1)[1] for path in ours})
        for machine in machines:
            listed = _output_in(
                folder, "apt-ftparchive", "--arch", machine, "packages", f"pool/{distribution.name}"
            )
            binary = suite / "main" / f"binary-{machine}"
            _write(binary / "Packages", listed)
            _write(binary / "Packages.gz", _packed(listed))
        options = [
            word
            for name, value in (
                ("Origin", "nightvault"), ("Label", "nightvault"), ("Components", "main"),
                ("Suite", distribution.name), ("Codename", distribution.name),
                ("Architectures", " ".join(machines)),
            )
            for word in ("-o", f"APT::FTPArchive::Release::{name}={value}")
        ]  # fmt: skip
        release = _output_in(folder, "apt-ftparchive", *options, "release", f"dists/{distribution.name}")
        _write(suite / "Release", release)
        sign = ["gpg", "--batch", "--yes", "--local-user", key]
        subprocess.run([*sign, "--clearsign", "-o", "InRelease", "Release"], check=True, cwd=suite)
        subprocess.run(
            [*sign, "--armor", "--detach-sign", "-o", "Release.gpg", "Release"], check=True, cwd=suite
        )
    exported = subprocess.run(["gpg", "--batch", "--export", key], check=True, stdout=subprocess.PIPE).stdout
    _write(folder / "nightvault.gpg", exported)


def _output_in(folder: Path, *command: str) -> bytes:
    return subprocess.run(command, check=True, cwd=folder, stdout=subprocess.PIPE).stdout


if __name__ == "__main__":
    main()
