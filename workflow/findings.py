"""What an auditor finds in an event of a case, what people answer, and how it ends: a chain of its own.

The case is not touched by it: its version stays, and its work goes on.
"""

from collections.abc import Iterable
from datetime import datetime

import msgspec
from msgspec.structs import replace

from workflow.canonical import Integer
from workflow.cases import Pointer, pointer
from workflow.commands import Command
from workflow.deciding import forbid_unless
from workflow.errors import BrokenHistory, GuardRefused, NotFound, Refusal
from workflow.events import Draft, FindingAnswered, FindingClosed, FindingOpened, Recorded, Severity
from workflow.roles import AUDITORS, RECORDERS, Actor, Role, in_order


class FindingAnswer(msgspec.Struct, frozen=True, kw_only=True):
    by: str
    at: datetime
    text: Pointer


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """About the event `seq` of a case, whose hash is `event`. `version` is the seq of its own last event."""

    id: str
    case: str
    version: Integer
    head: str
    seq: Integer
    event: str
    severity: Severity
    opened_by: str
    opened_at: datetime
    changed_at: datetime
    text: Pointer
    answers: tuple[FindingAnswer, ...] = ()
    closed_by: str | None = None
    conclusion: Pointer | None = None

    @property
    def chain(self) -> str:
        return finding_chain(self.case, self.id)

    @property
    def is_open(self) -> bool:
        return self.closed_by is None


FINDINGS = "finding:"


def finding_chain(case_id: str, finding_id: str) -> str:
    return f"{findings_of(case_id)}{finding_id}"


def findings_of(case_id: str) -> str:
    """What the names of all chains of findings about a case begin with."""
    return f"{FINDINGS}{case_id}:"


class OpenFinding(Command, frozen=True, kw_only=True):
    """`seq` and `event` are the number and the hash of an event of the case; `finding_id` is random."""

    finding_id: str
    seq: int
    event: str
    severity: Severity
    text: str


class AnswerFinding(Command, frozen=True, kw_only=True):
    finding_id: str
    text: str


class CloseFinding(Command, frozen=True, kw_only=True):
    finding_id: str
    text: str


FindingCommand = OpenFinding | AnswerFinding | CloseFinding

FINDING_ROLES: dict[type[Command], frozenset[Role]] = {
    OpenFinding: AUDITORS,
    AnswerFinding: RECORDERS,
    CloseFinding: AUDITORS,
}


def decide_finding(finding: Finding | None, command: FindingCommand, actor: Actor) -> Draft:
    """`finding` is None where it is new. Raises Forbidden, NotFound or GuardRefused."""
    forbid_unless(actor, FINDING_ROLES[type(command)], command)
    texts = {"text": command.text}
    if isinstance(command, OpenFinding):
        data = FindingOpened(seq=command.seq, event=command.event, severity=command.severity)
        return Draft(data=data, personal=texts)
    if finding is None:
        raise NotFound("finding")
    if not finding.is_open:
        raise GuardRefused(Refusal(code="finding_is_open", text="the finding has been closed"))
    if isinstance(command, AnswerFinding):
        if actor.key == finding.opened_by:
            raise GuardRefused(somebody_else("answered_by_another_person", "you opened this finding", RECORDERS))
        return Draft(data=FindingAnswered(), personal=texts)
    if any(answer.by == actor.key for answer in finding.answers):
        raise GuardRefused(somebody_else("closed_by_another_person", "you answered this finding", AUDITORS))
    return Draft(data=FindingClosed(), personal=texts)


def somebody_else(code: str, why: str, who: frozenset[Role]) -> Refusal:
    return Refusal(code=code, text=f"{why}; this is for somebody else", who=in_order(who))


def replay_finding(history: Iterable[Recorded]) -> Finding | None:
    finding = None
    for recorded in history:
        finding = evolve_finding(finding, recorded)
    return finding


def evolve_finding(finding: Finding | None, recorded: Recorded) -> Finding:
    """The finding after one more event of its chain."""
    event, data = recorded.event, recorded.data
    said = pointer(event.seq, "text")
    if isinstance(data, FindingOpened):
        if finding is not None:
            raise BrokenHistory(event.chain, event.seq, "the finding is opened a second time")
        case_id, _, finding_id = event.chain.removeprefix(FINDINGS).rpartition(":")
        return Finding(
            id=finding_id,
            case=case_id,
            version=event.seq,
            head=recorded.hash,
            seq=data.seq,
            event=data.event,
            severity=data.severity,
            opened_by=event.actor,
            opened_at=recorded.at,
            changed_at=recorded.at,
            text=said,
        )
    if finding is None:
        raise BrokenHistory(event.chain, event.seq, "the chain does not begin with its finding")
    if not finding.is_open:
        raise BrokenHistory(event.chain, event.seq, "the finding has been closed")
    match data:
        case FindingAnswered():
            answer = FindingAnswer(by=event.actor, at=recorded.at, text=said)
            finding = replace(finding, answers=(*finding.answers, answer))
        case FindingClosed():
            finding = replace(finding, closed_by=event.actor, conclusion=said)
        case _:
            raise BrokenHistory(event.chain, event.seq, f"{event.type} is no event of a finding")
    return replace(finding, version=event.seq, head=recorded.hash, changed_at=recorded.at)
