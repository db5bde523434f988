"""Run the emulator alone: `python -m backup.emulator --state DIR --accounts FILE`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from backup.emulator.core.errors import EmulatorError
from backup.emulator.core.state.settings import read_settings

from .server import EmulatorOptions, serve


def parse(arguments: list[str] | None = None) -> EmulatorOptions:
    """The options on the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m backup.emulator", description="A local Glacier, S3 and Roles Anywhere."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 takes a free one")
    parser.add_argument("--s3-port", type=int, default=0, help="port for S3; 0 takes a free one")
    parser.add_argument("--state", type=Path, required=True, help="directory for vaults and credentials")
    parser.add_argument(
        "--accounts", type=Path, required=True, help="TOML file of keys, anchors, profiles and roles"
    )
    parser.add_argument("--speed", type=float, default=1.0, help="emulated seconds in a real one")
    parser.add_argument("--tls-cert", type=Path, help="PEM certificate chain, to serve https")
    parser.add_argument("--tls-key", type=Path, help="its PEM private key")
    parser.add_argument(
        "--idle-seconds", type=float, default=60.0, help="a body that stalls so long gets 408"
    )
    parser.add_argument("--faults", type=Path, help="file of faults planned from the start (TOML or JSON)")
    parser.add_argument(
        "--set", action="append", default=[], dest="settings", metavar="KEY=VALUE", help="change a setting"
    )
    given = vars(parser.parse_args(arguments))
    return EmulatorOptions(**{**given, "settings": read_settings(given["settings"])})


def main() -> int:
    """Run the emulator; return 1, with a sentence on stderr, when it cannot start."""
    try:
        serve(parse())
    except EmulatorError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
