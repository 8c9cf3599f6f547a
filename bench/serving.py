"""The service in a process of its own, as the benchmarks start and stop it."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from bench.desk import SECRET_KEY

ROOT = Path(__file__).parent.parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextlib.asynccontextmanager
async def process(command: list[str], port: int, **settings: str) -> AsyncIterator[subprocess.Popen[bytes]]:
    """Start, wait until it answers, and stop in the end. What it logs goes to the file that BENCH_LOG names."""
    environment = os.environ | {"CASEWORK_SECRET_KEY": SECRET_KEY, "PYTHONPATH": str(ROOT)} | settings
    with Path(os.environ.get("BENCH_LOG", os.devnull)).open("ab") as log:
        started = subprocess.Popen(command, env=environment, stderr=log, stdout=log)
        try:
            await until_it_answers(port)
            yield started
        finally:
            started.send_signal(signal.SIGTERM)
            started.wait(20)


@contextlib.asynccontextmanager
async def compared(url: str, tutorial_url: str, workers: int = 1, *, sequencer: bool = True) -> AsyncIterator[int]:
    """The service with what it is compared to (without a URL: but the tutorial); the port it listens on."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--factory", "bench.apps:app", "--port", str(port), "--no-access-log"]
    command += ["--workers", str(workers), "--log-level", "warning"]
    settings = {"CASEWORK_DATABASE_URL": url, "BENCH_TUTORIAL_URL": tutorial_url}
    if not sequencer:
        settings["BENCH_WITHOUT_SEQUENCER"] = "1"
    async with process(command, port, **settings):
        yield port


@contextlib.asynccontextmanager
async def service(url: str) -> AsyncIterator[tuple[int, subprocess.Popen[bytes]]]:
    """`casework serve`, as it is installed."""
    port = free_port()
    command = [str(Path(sys.executable).parent / "casework"), "serve", "--port", str(port)]
    async with process(command, port, CASEWORK_DATABASE_URL=url) as started:
        yield port, started


async def until_it_answers(port: int) -> None:
    for _ in range(2000):
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
            answer = await reader.read()
            writer.close()
            if answer.startswith(b"HTTP/1.1 200"):
                return
        await asyncio.sleep(0.01)
    raise TimeoutError("the service does not answer")
