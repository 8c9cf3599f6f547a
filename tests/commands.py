"""Commands of the command line, each in a process of its own that need not load Casework first.

One process has it loaded and forks another for each command (`multiprocessing` calls that a fork server): starting is
nine tenths of what most commands take, and tests run hundreds of them. That they start from nothing as well, those show
that start the service.
"""

import os
import subprocess
import sys
import tempfile
from multiprocessing import get_context
from pathlib import Path

from api import cli

ROOT = Path(__file__).parents[1]
FORKS = get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        __name__,
        *(
            f"api.{name}"
            for name in ("cuts", "demo", "erasures", "exporting", "people", "policy", "replaying", "reports", "samples")
        ),
        *(f"diagrams.{name}" for name in ("dot", "mermaid", "svg")),
        "alembic.command",
    ]
)


def run(arguments: list[str], environment: dict[str, str], seconds: float) -> "subprocess.CompletedProcess[str]":
    """To its end, with no input. Raises TimeoutExpired; then it was killed."""
    with tempfile.TemporaryDirectory(prefix="casework-command-") as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = FORKS.Process(target=act, args=(arguments, environment, out, err))
        process.start()
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(arguments, seconds, out.read_text("utf-8"), err.read_text("utf-8"))
        code = process.exitcode
        process.close()
        return subprocess.CompletedProcess(arguments, code, out.read_text("utf-8"), err.read_text("utf-8"))


def act(arguments: list[str], environment: dict[str, str], out: Path, err: Path) -> None:
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(environment)
    for number, path in enumerate((Path(os.devnull), out, err)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
    sys.argv = ["casework", *arguments]
    cli.main()
