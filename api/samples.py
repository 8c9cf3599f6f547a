"""Samples: which cases an auditor looks at, drawn so that anybody who has the log can draw them again.

docs/auditing.md says how to.
"""

import secrets
from typing import Annotated

import structlog
from fastapi import APIRouter, Query
from pydantic import Field, StringConstraints
from starlette.responses import Response
from typing_extensions import TypedDict

from api import inputs as i
from api.auditing import noted, receipt_of
from api.cuts import MAX_POSITION, point
from api.errors import documented
from api.feed import PageQuery
from api.people import assignee_of
from api.routing import Answer, Call, DeskRoute, ReadCall, Rules, WriteCall, reads, ruled
from storage import auditing, cases
from storage.database import Database
from workflow.cases import case_number_text, chain_of
from workflow.desk import DrawSample
from workflow.errors import NotFound, bad_field
from workflow.events import Recorded, SampleDrawn, at_text
from workflow.policy import Category, version_in_force
from workflow.roles import AUDITORS, OVERSEERS
from workflow.sampling import Allocation, Only, Plan, Sample, StratifiedBy, Stratum, bounds_of
from workflow.states import CaseState

log = structlog.get_logger()

router = APIRouter(prefix="/v1/samples", tags=["audit"], route_class=DeskRoute)

CHAIN = "sample:"
MOST = 1000
Seed = Annotated[str, StringConstraints(strict=True, pattern=r"^[!-~]{1,100}$")]


class SampleIn(i.Input):
    """Of all cases as they stood at a position of the log, or only of those that all the rest says."""

    size: Annotated[int, Field(strict=True, ge=1, le=MOST, description="over all, or of each stratum: see allocation")]
    allocation: Allocation = Allocation.PROPORTIONAL
    strata: Annotated[tuple[StratifiedBy, ...], Field(max_length=3)] = ()
    seed: Seed | None = Field(default=None, description="if not given, a random one is drawn and recorded")
    position: Annotated[int, Field(strict=True, ge=1, le=MAX_POSITION)] | None = Field(
        default=None, description="of the log; its end, if not given"
    )
    state: CaseState | None = None
    category: Category | None = None
    assignee: i.Text | None = Field(default=None, description="an id or address; empty: cases without one")
    opened_from: i.Moment | None = None
    opened_until: i.Moment | None = Field(default=None, description="that moment not included")


class OnlyView(TypedDict, total=False):
    state: CaseState
    category: Category
    assignee: str
    opened_from: str
    opened_until: str


class SampleEntryView(TypedDict):
    """What is recorded of a sample, from which its cases follow. `bounds` part amounts, in major units."""

    id: str
    at: str
    by: str
    seed: str
    seed_given: bool
    position: int
    size: int
    allocation: Allocation
    strata: list[StratifiedBy]
    bounds: list[str]
    only: OnlyView
    population: int
    drawn: int
    digest: str
    receipt: str


class PickedView(TypedDict):
    """A case as it stood at the position; `receipt` is its last event until then."""

    id: str
    number: str
    version: int
    rank: str
    receipt: str


class StratumView(TypedDict):
    """`values` has one value for each of the sample's strata."""

    values: dict[str, str]
    population: int
    cases: list[PickedView]


class SampleView(SampleEntryView):
    """`matches`: what was drawn from the log just now is what was recorded."""

    matches: bool
    items: list[StratumView]


class SampleListView(TypedDict):
    items: list[SampleEntryView]
    next: int | None


@router.post("", status_code=201, response_model=SampleView, responses=documented(409, 413, 415, 422))
@ruled(Rules(roles=AUDITORS, command=DrawSample))
async def draw_sample(call: WriteCall, body: SampleIn) -> Response:
    """Draw cases at random, in a way that can be repeated: seed, position and plan are recorded, and decide alone."""
    recorded, sample = await draw(call, body)
    return Answer(sample_view(recorded, sample), 201, {"audit-receipt": receipt_of(recorded)})


async def draw(call: Call, body: SampleIn) -> tuple[Recorded, Sample]:
    """Raises BadInput, Forbidden."""
    desk = call.desk
    if len({*body.strata}) < len(body.strata):
        raise bad_field("strata", "names one twice")
    only = Only(
        state=body.state,
        category=body.category,
        assignee=await assignee_of(desk.database, body.assignee),
        opened_from=body.opened_from,
        opened_until=body.opened_until,
    )
    cut = await point(desk.database, desk.sequencer, body.position, None)
    policy = version_in_force((await desk.directory()).policies, desk.clock())
    plan = Plan(
        seed=body.seed or secrets.token_hex(16),
        size=body.size,
        allocation=body.allocation,
        strata=body.strata,
        bounds=bounds_of(policy.settings) if StratifiedBy.AMOUNT in body.strata else (),
        only=only,
    )
    sample = await auditing.drawn(desk.database, plan, cut.position)
    drawn = SampleDrawn(
        plan=plan,
        position=cut.position,
        population=sample.population,
        drawn=len(sample.cases),
        digest=sample.digest,
        given=body.seed is not None,
    )
    receipt = await desk.submit(call, DrawSample(sample=drawn))
    recorded = receipt.events[0]
    if receipt.repeated:
        sample = await drawn_again(desk.database, recorded)
    return recorded, sample


@router.get("", response_model=SampleListView, responses=documented(422))
@reads(OVERSEERS)
async def list_samples(call: ReadCall, query: Annotated[PageQuery, Query()]) -> Response:
    """What was drawn by whom, newest first, without the cases."""
    items, following = await noted(call, ("sample_drawn",), query)
    return Answer(SampleListView(items=[entry_view(one) for one in items], next=following))


@router.get("/{sample_id}", response_model=SampleView, responses=documented(404))
@reads(OVERSEERS)
async def read_sample(call: ReadCall, sample_id: str) -> Response:
    """The sample, drawn again from the log as it was at its position."""
    return Answer(await again(call.desk.database, sample_id))


async def again(database: Database, sample_id: str) -> SampleView:
    """Raises NotFound."""
    found = await cases.events_of(database, f"{CHAIN}{sample_id}")
    if not found:
        raise NotFound("sample")
    recorded, _ = found[0]
    return sample_view(recorded, await drawn_again(database, recorded))


async def drawn_again(database: Database, recorded: Recorded) -> Sample:
    data = drawn_in(recorded)
    sample = await auditing.drawn(database, data.plan, data.position)
    if sample.digest != data.digest:
        log.error("sample_not_as_recorded", chain=recorded.event.chain)
    return sample


def drawn_in(recorded: Recorded) -> SampleDrawn:
    if not isinstance(recorded.data, SampleDrawn):
        raise NotFound("sample")
    return recorded.data


def entry_view(recorded: Recorded) -> SampleEntryView:
    data = drawn_in(recorded)
    return {
        "id": recorded.event.chain.removeprefix(CHAIN),
        "at": recorded.event.at,
        "by": recorded.event.actor,
        "seed": data.plan.seed,
        "seed_given": data.given,
        "position": data.position,
        "size": data.plan.size,
        "allocation": data.plan.allocation,
        "strata": list(data.plan.strata),
        "bounds": list(data.plan.bounds),
        "only": only_view(data.plan.only),
        "population": data.population,
        "drawn": data.drawn,
        "digest": data.digest,
        "receipt": receipt_of(recorded),
    }


def only_view(only: Only) -> OnlyView:
    view = OnlyView()
    if only.state is not None:
        view["state"] = only.state
    if only.category is not None:
        view["category"] = only.category
    if only.assignee is not None:
        view["assignee"] = only.assignee
    if only.opened_from is not None:
        view["opened_from"] = at_text(only.opened_from)
    if only.opened_until is not None:
        view["opened_until"] = at_text(only.opened_until)
    return view


def sample_view(recorded: Recorded, sample: Sample) -> SampleView:
    data = drawn_in(recorded)
    return {
        **entry_view(recorded),
        "matches": sample.digest == data.digest,
        "items": [stratum_view(data.plan, one) for one in sample.strata],
    }


def stratum_view(plan: Plan, stratum: Stratum) -> StratumView:
    return {
        "values": {by.value: value for by, value in zip(plan.strata, stratum.values, strict=True)},
        "population": stratum.population,
        "cases": [
            {
                "id": one.id,
                "number": case_number_text(one.number),
                "version": one.version,
                "rank": one.rank,
                "receipt": f"{chain_of(one.id)}/{one.version}/{one.head}",
            }
            for one in stratum.cases
        ],
    }
