"""Calls `casework-verify` and says what that took: what `bench.proofs` calls in a process of its own."""

import json
import sys
import time
from contextlib import suppress

from api import casework_verify
from bench.memory import peak_mb


def main() -> None:
    began, cpu = time.perf_counter(), time.process_time()
    with suppress(SystemExit):
        casework_verify.main()
    took = {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu, "MB": peak_mb()}
    print(json.dumps(took), file=sys.stderr)


if __name__ == "__main__":
    main()
