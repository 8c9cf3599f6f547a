"""How soon `casework serve` answers, and how much memory it holds while nobody asks."""

import asyncio
import statistics
import time
from pathlib import Path

import msgspec

from bench.desk import prepared
from bench.serving import service

RUNS = 5
SETTLING_SECONDS = 1.0


class Start(msgspec.Struct):
    database: str
    seconds: float
    idle_mb: float


async def measure(url: str) -> Start:
    desk, _ = await prepared(url)
    await desk.close()
    seconds, memory = [], []
    for _ in range(RUNS):
        began = time.perf_counter()
        async with service(url) as (_, process):
            seconds.append(time.perf_counter() - began)
            await asyncio.sleep(SETTLING_SECONDS)
            memory.append(resident_mb(process.pid))
    return Start(database=url.partition(":")[0], seconds=statistics.median(seconds), idle_mb=max(memory))


def resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024
