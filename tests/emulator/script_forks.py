"""Runs a Python script again and again, each time in a fork of one process that has imported its modules.

`INTERPRETER script_forks.py SCRIPT MODULE` takes a JSON object a line: the `words` of a run, its `folder`,
the files for its `output` and `errors`, and its `environment`, which is added to that of this process (and
to what the modules set there). It answers each with the exit code.
It is run by the script's own interpreter, and imports nothing of ours.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import sys
from typing import Any


def main(script: str, module: str) -> None:
    """Serve until standard input ends."""
    importlib.import_module(module)
    for line in sys.stdin:
        asked = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _run(script, asked)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _run(script: str, asked: dict[str, Any]) -> None:
    """Be the script; never returns."""
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, path in ((1, asked["output"]), (2, asked["errors"])):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
        os.chdir(asked["folder"])
        os.environ.update(asked["environment"])
        sys.argv = [script, *asked["words"]]
        runpy.run_path(script, run_name="__main__")
        code = 0
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main(*sys.argv[1:])
