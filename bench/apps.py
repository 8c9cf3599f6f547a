"""The service with the things it is compared to beside it, in one process and behind the same middleware."""

import os
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import Engine, create_engine
from sqlmodel import Field, Session, SQLModel
from starlette.responses import Response
from transitions import Machine

from api import inputs as i
from api import views as v
from api.app import create_app
from api.desk import Desk
from api.logs import configure_logs
from api.routing import Answer, DeskRoute, Rules, WriteCall, ruled
from api.settings import Settings
from bench.sample import SAMPLE_CASE
from storage.database import open_database
from storage.sequencer import Sequencer
from workflow.commands import Fire
from workflow.lifecycle import TRANSITIONS
from workflow.roles import EVERYONE
from workflow.states import CaseState

ordinary = APIRouter(prefix="/bench")
own_route = APIRouter(prefix="/bench", route_class=DeskRoute)

Bearer = Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]


@ordinary.post("/noop/{case_id}", response_model=v.CaseView)
async def noop(case_id: str, body: i.TransitionIn, _: Bearer) -> Any:
    """Nothing, through FastAPI's ordinary machinery: the same body models in and out."""
    return SAMPLE_CASE


@own_route.post("/noop-own/{case_id}", response_model=v.CaseView)
@ruled(Rules(roles=EVERYONE, command=Fire))
async def noop_own(call: WriteCall, case_id: str, body: i.TransitionIn) -> Response:
    """Nothing, through the kind of route that the service uses."""
    return Answer(SAMPLE_CASE)


# The tutorial's shape: an ORM session and a machine per request, one audit row, commit.


class TutorialCase(SQLModel, table=True):
    __tablename__ = "tutorial_cases"

    id: str = Field(primary_key=True)
    state: str
    subject: str


class TutorialAudit(SQLModel, table=True):
    __tablename__ = "tutorial_audit"

    id: int | None = Field(default=None, primary_key=True)
    case_id: str
    trigger: str
    reason: str
    at: datetime


tutorial = APIRouter(prefix="/bench")
TUTORIAL_TRANSITIONS = [
    {"trigger": row.trigger.value, "source": row.source.value, "dest": row.target.value} for row in TRANSITIONS
]


class TutorialModel:
    def __init__(self, state: str) -> None:
        self.machine = Machine(
            self, states=[state.value for state in CaseState], transitions=TUTORIAL_TRANSITIONS, initial=state
        )


def tutorial_engine() -> Engine:
    url = os.environ["BENCH_TUTORIAL_URL"]
    waits = {"timeout": 30} if url.startswith("sqlite") else {}
    engine = create_engine(url, pool_size=64, connect_args=waits)
    SQLModel.metadata.create_all(engine, tables=[TutorialCase.__table__, TutorialAudit.__table__])  # type: ignore[attr-defined]
    return engine


ENGINE = tutorial_engine() if os.environ.get("BENCH_TUTORIAL_URL") else None


def session() -> Iterator[Session]:
    with Session(ENGINE) as one:
        yield one


@tutorial.post("/tutorial/{case_id}")
def tutorial_transition(
    case_id: str, body: i.TransitionIn, db: Annotated[Session, Depends(session)], _: Bearer
) -> TutorialCase:
    """Move a case the way tutorials do."""
    case = db.get(TutorialCase, case_id)
    if case is None:
        raise HTTPException(404)
    model = TutorialModel(case.state)
    if not getattr(model, f"may_{body.trigger.value}")():
        raise HTTPException(409)
    getattr(model, body.trigger.value)()
    case.state = model.state  # type: ignore[attr-defined]
    db.add(case)
    db.add(TutorialAudit(case_id=case.id, trigger=body.trigger.value, reason=body.reason, at=datetime.now(UTC)))
    db.commit()
    db.refresh(case)
    return case


@tutorial.post("/tutorial")
def tutorial_open(db: Annotated[Session, Depends(session)]) -> dict[str, str]:
    case = TutorialCase(id=str(uuid.uuid4()), state=CaseState.OPENED.value, subject="bench")
    db.add(case)
    db.commit()
    return {"id": case.id}


class Unsequenced(Sequencer):
    async def open(self) -> None:
        """Positions, tree and checkpoints wait."""


def app() -> FastAPI:
    """For `uvicorn --factory bench.apps:app`."""
    settings = Settings()
    configure_logs(settings.log_level)
    desk = Desk(settings, open_database(settings.database_url))
    if os.environ.get("BENCH_WITHOUT_SEQUENCER"):
        desk.sequencer = Unsequenced(desk.database)
    service = create_app(settings, desk)
    for router in (ordinary, own_route, tutorial):
        service.take(router)
    return service
