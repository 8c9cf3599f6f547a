"""An answer of ordinary size for the no-op routes: a case as the service shows it."""

import asyncio
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from api.views import CaseView, case_view
from bench.desk import open_cases, prepared
from workflow.guards import Context
from workflow.policy import first_version
from workflow.roles import Actor, Role


async def sample() -> CaseView:
    with tempfile.TemporaryDirectory() as folder:
        desk, _ = await prepared(f"sqlite:///{Path(folder) / 'sample.db'}")
        (entry,) = await open_cases(desk, 1)
        await desk.close()
    actor = Actor(kind="person", id="nobody", roles=frozenset({Role.AGENT}))
    view = case_view(entry, actor, datetime.now(UTC), Context(policies=(first_version(),), people={}))
    plain: CaseView = msgspec.to_builtins(view, builtin_types=(datetime,))
    return plain


# In a thread of its own, since the workers import this while their loop runs.
SAMPLE_CASE = ThreadPoolExecutor(1).submit(lambda: asyncio.run(sample())).result()
