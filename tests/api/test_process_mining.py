"""What is exported for process mining is read by a tool for it, and the tool finds what the lifecycle forbids."""

import asyncio
from pathlib import Path
from typing import Any

import pm4py
import pytest
from pm4py.objects.petri_net.utils.petri_utils import add_arc_from_to

from api.exporting import Format, Order, written
from storage.database import open_database
from tests.databases import raw_sql
from tests.storage.full_desk import fill
from tests.storage.proofs import disarm
from workflow.lifecycle import TRANSITIONS
from workflow.states import CaseState

# The tool's own affairs: a library with which it would read faster, and what it uses of numpy.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Install the optional requirement"),
    pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning"),
]

CASES = ["C-1001", "C-1002", "C-1003", "C-1004", "C-1005"]


@pytest.fixture
def url(database_url: str) -> str:
    """A desk on which a bit of everything has happened."""
    return fill(database_url)


def exported(url: str, form: Format, folder: Path) -> str:
    """The path of a file with the events of all cases."""

    async def write() -> str:
        database, order = open_database(url), Order(format=form)
        path = folder / order.file_name
        path.write_bytes(b"".join([block async for block in written(database, order, b"key")]))
        await database.close()
        return str(path)

    return asyncio.run(write())


def steps_of(xes: str) -> Any:
    """The table of the opening and the transitions of each case, each named by its trigger."""
    log = pm4py.read_xes(xes)
    steps = log[log["trigger"].notna() | (log["concept:name"] == "opened")].copy()
    steps["concept:name"] = steps["trigger"].fillna("opened")
    return steps


def lifecycle() -> tuple[Any, Any, Any]:
    """The table of transitions as a Petri net with a place for each state. A history may end in any of them."""
    net = pm4py.PetriNet("lifecycle")
    places = {name: pm4py.PetriNet.Place(name) for name in ("start", *CaseState, "end")}
    net.places.update(places.values())
    edges = [("opened", "start", CaseState.OPENED), *((one.trigger, one.source, one.target) for one in TRANSITIONS)]
    for label, source, target in (*edges, *((None, state, "end") for state in CaseState)):
        edge = pm4py.PetriNet.Transition(f"{label} from {source}", label)
        net.transitions.add(edge)
        add_arc_from_to(places[source], edge, net)
        add_arc_from_to(edge, places[target], net)
    return net, pm4py.Marking({places["start"]: 1}), pm4py.Marking({places["end"]: 1})


def unfit(xes: str) -> list[str]:
    """The cases whose history the lifecycle does not allow; replaying on the net and aligning with it agree."""
    steps = steps_of(xes)
    replayed = pm4py.conformance_diagnostics_token_based_replay(steps, *lifecycle())
    aligned = pm4py.conformance_diagnostics_alignments(steps, *lifecycle())
    found = [number for number, one in zip(CASES, replayed, strict=True) if not one["trace_is_fit"]]
    assert found == [number for number, one in zip(CASES, aligned, strict=True) if one["fitness"] < 1]
    return found


def test_a_conformance_check_finds_nothing_in_an_honest_log(url: str, tmp_path: Path) -> None:
    assert unfit(exported(url, Format.XES, tmp_path)) == []


def test_a_conformance_check_finds_a_step_that_the_lifecycle_forbids(url: str, tmp_path: Path) -> None:
    with raw_sql(url) as raw:
        disarm(raw)
        raw.run(
            "UPDATE events SET body = replace(body, '\"schedule_consultation\"', '\"reopen\"') WHERE chain = 'case:C'"
        )

    assert unfit(exported(url, Format.XES, tmp_path)) == ["C-1003"]


def test_xes_tells_a_tool_who_did_what_when_in_which_case(url: str, tmp_path: Path) -> None:
    log = pm4py.read_xes(exported(url, Format.XES, tmp_path))

    assert sorted({*log["case:concept:name"]}) == CASES
    refund = log[log["trigger"] == "refund"].iloc[0]
    assert (refund["case:concept:name"], refund["concept:name"]) == ("C-1001", "refunded")
    assert (refund["org:resource"], refund["lifecycle:transition"]) == ("person:dirk", "complete")
    with raw_sql(url) as raw:
        ((at, digest),) = raw.run("SELECT at, hash FROM events WHERE type = 'refunded'")
    assert (refund["time:timestamp"].isoformat(), refund["hash"]) == (at.replace("Z", "+00:00"), digest)


def test_ocel_tells_a_tool_of_all_objects_of_the_cases(url: str, tmp_path: Path) -> None:
    log = pm4py.read_ocel2_json(exported(url, Format.OCEL, tmp_path))

    with raw_sql(url) as raw:
        ((events,),) = raw.run("SELECT count(*) FROM events WHERE chain LIKE 'case:%'")
    assert len(log.events) == events
    kinds = log.objects["ocel:type"].value_counts().to_dict()
    assert kinds == {"case": 5, "staff": 5, "purchase": 2, "client": 1, "proposal": 1}
    of_proposal = log.relations[log.relations["ocel:oid"] == "case:A/p8"]
    assert list(of_proposal["ocel:activity"]) == ["proposed", "verdict_given", "payout_begun", "refunded"]
    assert {*log.relations["ocel:qualifier"]} == {"case", "actor", "assignee", "client", "host", "purchase", "proposal"}
    assert {*log.relations["ocel:oid"]} <= {*log.objects["ocel:oid"]}
