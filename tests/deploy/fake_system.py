"""One program under many names on PATH: a small model of LVM, ZFS, Btrfs and mounts for snapshot hooks.

It lies beside the state that it keeps, `state`; `calls` there are all commands, `cut` is what goes wrong
at which of them. Little is imported, and late: it is started a thousand times.
"""

from __future__ import annotations

import marshal
import os
import sys
import time

TYPE_CHECKING = False  # as typing has it, without the time that importing it takes
if TYPE_CHECKING:
    from typing import Any

    State = dict[str, Any]

HERE = os.path.dirname(os.path.abspath(__file__))
STATE = os.path.join(HERE, "state")


class RefusedError(Exception):
    """What the real program would say, and its exit code."""

    def __init__(self, words: str, code: int = 1) -> None:
        super().__init__(words)
        self.code = code


def volume_of(state: State, path: str) -> State:
    group, _, name = path.removeprefix("/dev/").partition("/")
    try:
        found: State = state["lvm"][group][name]
    except KeyError:
        raise RefusedError(f'Failed to find logical volume "{path}"', 5) from None
    return found


def mapped(group: str, name: str) -> str:
    return "/dev/mapper/" + group.replace("-", "--") + "-" + name.replace("-", "--")


def lvs(state: State, words: list[str]) -> str:
    if "-S" not in words:
        return f"  {volume_of(state, words[-1])['segtype']}"
    if words[-1] not in state["lvm"]:
        raise RefusedError(f'Volume group "{words[-1]}" not found', 5)
    name = words[words.index("-S") + 1].removeprefix('lv_name="').removesuffix('"')
    volume = state["lvm"][words[-1]].get(name)
    if volume is None:
        return ""
    found = [volume["tags"], volume["origin"], volume["attr"], volume["percent"], mapped(words[-1], name)]
    return "  " + "|".join(found)


def lvcreate(state: State, words: list[str]) -> None:
    group, name = words[-1].split("/")
    origin = volume_of(state, words[-1])
    new = words[words.index("-n") + 1]
    if new in state["lvm"][group]:
        raise RefusedError(f'Logical Volume "{new}" already exists', 5)
    is_thin = origin["segtype"] == "thin"
    if is_thin == ("-L" in words or "-l" in words):
        raise RefusedError("a snapshot of a thick volume has a size, one of a thin volume none", 3)
    state["lvm"][group][new] = {
        "tags": words[words.index("--addtag") + 1],
        "origin": name,
        "segtype": origin["segtype"] if is_thin else "linear",
        "attr": "Vwi-aotz--" if is_thin else "swi-a-s---",
        "percent": "0.01",
        "type": origin["type"],
    }
    freeze(state, words[-1], mapped(group, new))


def lvremove(state: State, words: list[str]) -> None:
    volume_of(state, words[-1])
    group, name = words[-1].split("/")
    refuse_used(state, mapped(group, name))
    del state["lvm"][group][name]
    melt(state, mapped(group, name))


def blkid(state: State, words: list[str]) -> str:
    for group, volumes in state["lvm"].items():
        for name, volume in volumes.items():
            if mapped(group, name) == words[-1]:
                return str(volume["type"])
    raise RefusedError("", 2)


def zfs(state: State, words: list[str]) -> str:
    verb, target = words[0], words[-1]
    dataset, _, name = target.partition("@")
    if dataset not in state["zfs"]:
        raise RefusedError(f"cannot open '{dataset}': dataset does not exist")
    snapshots = state["zfs"][dataset]
    if verb == "list":
        return "\n".join(f"{dataset}@{snapshot}" for snapshot in snapshots)
    if verb == "snapshot":
        if name in snapshots:
            raise RefusedError(f"cannot create snapshot '{target}': dataset already exists")
        snapshots[name] = words[words.index("-o") + 1].removeprefix("nightvault:job=")
        freeze(state, dataset, target)
        return ""
    if not name or name not in snapshots:
        raise RefusedError(f"cannot open '{target}': dataset does not exist")
    if verb == "get":
        return str(snapshots[name])
    if verb != "destroy" or len(words) != 2:
        raise RefusedError(f"unrecognized command {words}")
    refuse_used(state, target)
    del snapshots[name]
    melt(state, target)
    return ""


def btrfs(state: State, words: list[str]) -> str:
    path = words[-1]
    volumes = state["btrfs"]
    if words[1] == "snapshot":
        origin = volumes[words[-2]]
        os.mkdir(path)
        volumes[path] = {"uuid": f"uuid-{time.time_ns()}", "parent": origin["uuid"], "flags": "readonly"}
        freeze(state, words[-2], path)
        return ""
    if path not in volumes:
        raise RefusedError(f"ERROR: Not a Btrfs subvolume: {path}")
    if words[1] == "show":
        one = volumes[path]
        return "\n".join(
            [
                os.path.basename(path),
                f"\tName: \t\t\t{os.path.basename(path)}",
                f"\tUUID: \t\t\t{one['uuid']}",
                f"\tParent UUID: \t\t{one['parent']}",
                "\tReceived UUID: \t\t-",
                f"\tFlags: \t\t\t{one['flags']}",
            ]
        )
    del volumes[path]
    os.rmdir(path)
    melt(state, path)
    return ""


def mount(state: State, words: list[str]) -> None:
    source, target = words[-2:]
    options = words[words.index("-o") + 1]
    if not {"ro", "nosuid", "nodev", "noexec"} <= set(options.split(",")):
        raise RefusedError("mounted too openly", 32)
    state["mounts"].append([target, source, options])
    frozen = state["frozen"].get(source)
    if not frozen:
        return
    import shutil
    import subprocess

    if state["really"]:
        subprocess.run(
            ["/usr/bin/mount", "--bind", "-o", options.removeprefix("bind,"), frozen, target], check=True
        )
    else:
        shutil.copytree(frozen, target, symlinks=True, dirs_exist_ok=True)


def umount(state: State, words: list[str]) -> None:
    here = [mounted for mounted in state["mounts"] if mounted[0] == words[-1]]
    if not here:
        raise RefusedError(f"umount: {words[-1]}: not mounted.", 32)
    if state["busy"]:
        state["busy"] -= 1
        raise RefusedError(f"umount: {words[-1]}: target is busy.", 32)
    target, source, _ = here[-1]
    state["mounts"].remove(here[-1])
    if source not in state["frozen"]:
        return
    import shutil
    import subprocess

    if state["really"]:
        subprocess.run(["/usr/bin/umount", target], check=True)
    else:
        for name in os.listdir(target):
            path = os.path.join(target, name)
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)


def findmnt(state: State, words: list[str]) -> str:
    here = [source for target, source, _ in state["mounts"] if target == words[-1]]
    if not here:
        raise RefusedError("")
    if here[-1] in state["btrfs"]:
        return f"/dev/sda2[{here[-1]}]"
    return "\n".join(here)


def sleep(state: State, words: list[str]) -> str:
    return ""


def refuse_used(state: State, source: str) -> None:
    if any(mounted[1] == source for mounted in state["mounts"]):
        raise RefusedError(f"{source} is in use", 5)


def freeze(state: State, origin: str, snapshot: str) -> None:
    if origin in state["content"]:
        import shutil

        folder = os.path.join(HERE, f"frozen-{time.time_ns()}")
        shutil.copytree(state["content"][origin], folder, symlinks=True)
        state["frozen"][snapshot] = folder


def melt(state: State, snapshot: str) -> None:
    folder = state["frozen"].pop(snapshot, None)
    if folder:
        import shutil

        shutil.rmtree(folder)


def main(program: str, words: list[str]) -> None:
    with open(STATE, "rb") as file:
        state = marshal.load(file)
    state["calls"].append([program, *words])
    cut = state["cut"] if state["cut"] and state["cut"]["at"] == len(state["calls"]) else None
    output, error = "", None
    if cut and cut["how"] == "fails":
        error = RefusedError("it failed", 7)
    else:
        try:
            output = globals()[program](state, words) or ""
        except RefusedError as refused:
            error = refused
    if cut:
        state["met"] = True
    with open(STATE + ".new", "wb") as file:
        marshal.dump(state, file)
    os.rename(STATE + ".new", STATE)
    if cut and cut["how"] in {"killed", "stopped"}:
        os.killpg(os.getpgrp(), 9 if cut["how"] == "killed" else 15)
        time.sleep(10)
    if cut and cut["how"] == "fails late":
        error = RefusedError("it failed after all", 7)
    if output:
        print(output)
    if error:
        print(error, file=sys.stderr, end="\n" if str(error) else "")
        sys.exit(error.code)


main(os.path.basename(sys.argv[0]), sys.argv[1:])
