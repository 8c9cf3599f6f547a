"""How much memory a process has had at most."""

import resource
import sys
from pathlib import Path


def peak_mb() -> float:
    """What this process had resident; on Linux `getrusage` counts what its parent had as well."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 * 1024 if sys.platform == "darwin" else 1024)
