"""Findings: auditors open and close them, others answer, and nobody has the last word on their own."""

from typing import Any

import pytest
from msgspec.structs import replace

from tests.workflow.builders import ADAM, ANA, AUDREY, BO, CLEO, LOU, MAIL, NOON, sealed, somebody
from workflow.errors import BrokenHistory, Forbidden, GuardRefused, NotFound
from workflow.events import Draft, NoteAdded, Recorded, Severity
from workflow.findings import (
    AnswerFinding,
    CloseFinding,
    Finding,
    FindingCommand,
    OpenFinding,
    decide_finding,
    evolve_finding,
    finding_chain,
    replay_finding,
)
from workflow.roles import Actor, Role

OPENING = OpenFinding(finding_id="f", seq=9, event="0" * 64, severity=Severity.MAJOR, text="who saw the statement?")
ANSWER = AnswerFinding(finding_id="f", text="Bo did")
CLOSING = CloseFinding(finding_id="f", text="settled")
BOTH = somebody("both", Role.AUDITOR, Role.LEAD)


def recorded(draft: Draft, finding: Finding | None, by: Actor) -> Recorded:
    one = sealed(draft, finding_chain("A", "f"), None, by, NOON)
    return replace(one, event=replace(one.event, seq=finding.version + 1 if finding else 1))


def history(*steps: tuple[Actor, FindingCommand]) -> list[Recorded]:
    events: list[Recorded] = []
    for by, command in steps:
        finding = replay_finding(events)
        events.append(recorded(decide_finding(finding, command, by), finding, by))
    return events


def after(*steps: tuple[Actor, FindingCommand]) -> Finding:
    finding = replay_finding(history(*steps))
    assert finding is not None
    return finding


def test_a_finding_is_about_an_event_of_a_case() -> None:
    finding = after((AUDREY, OPENING))

    assert (finding.id, finding.case, finding.seq, finding.event) == ("f", "A", 9, "0" * 64)
    assert (finding.opened_by, finding.severity, finding.text) == ("person:audrey", Severity.MAJOR, "1/text")
    assert (finding.is_open, finding.chain, finding.version) == (True, "finding:A:f", 1)


def test_what_is_said_is_personal_and_no_part_of_the_event() -> None:
    for finding, command, by in (
        (None, OPENING, AUDREY),
        (after((AUDREY, OPENING)), ANSWER, ANA),
        (after((AUDREY, OPENING)), CLOSING, AUDREY),
    ):
        draft = decide_finding(finding, command, by)
        assert draft.personal == {"text": command.text}
        assert command.text not in str(draft.data)


def test_it_is_answered_as_often_as_there_is_something_to_say_and_closed_once() -> None:
    finding = after((AUDREY, OPENING), (ANA, ANSWER), (LOU, ANSWER), (AUDREY, CLOSING))

    assert [(one.by, one.text) for one in finding.answers] == [("person:ana", "2/text"), ("person:lou", "3/text")]
    assert (finding.is_open, finding.closed_by, finding.conclusion) == (False, "person:audrey", "4/text")


@pytest.mark.parametrize(
    ("command", "who"),
    [(OPENING, {AUDREY}), (ANSWER, {ANA, LOU, CLEO}), (CLOSING, {AUDREY})],
    ids=["open", "answer", "close"],
)
def test_auditors_open_and_close_and_those_who_work_on_cases_answer(command: FindingCommand, who: set[Actor]) -> None:
    finding = None if command is OPENING else after((somebody("other", Role.AUDITOR), OPENING))
    for actor in (ANA, BO, LOU, CLEO, AUDREY, ADAM, MAIL):
        if actor in who or (command is ANSWER and actor is BO):
            decide_finding(finding, command, actor)
        else:
            with pytest.raises(Forbidden):
                decide_finding(finding, command, actor)


def refusal(command: FindingCommand, by: Actor, *steps: tuple[Actor, FindingCommand]) -> set[str]:
    with pytest.raises(GuardRefused) as refused:
        decide_finding(after(*steps), command, by)
    return refused.value.codes


def test_who_opened_it_does_not_answer_whatever_their_roles() -> None:
    assert refusal(ANSWER, BOTH, (BOTH, OPENING)) == {"answered_by_another_person"}


def test_who_answered_it_does_not_close_it() -> None:
    assert refusal(CLOSING, BOTH, (AUDREY, OPENING), (BOTH, ANSWER)) == {"closed_by_another_person"}


@pytest.mark.parametrize(("command", "by"), [(ANSWER, ANA), (CLOSING, AUDREY)], ids=["answer", "close"])
def test_what_is_closed_stays_closed(command: FindingCommand, by: Actor) -> None:
    assert refusal(command, by, (AUDREY, OPENING), (AUDREY, CLOSING)) == {"finding_is_open"}


def test_what_nobody_has_found_can_be_neither_answered_nor_closed() -> None:
    for command, by in ((ANSWER, ANA), (CLOSING, AUDREY)):
        with pytest.raises(NotFound):
            decide_finding(None, command, by)


def broken(finding: Finding | None, data: Any) -> str:
    with pytest.raises(BrokenHistory) as fault:
        evolve_finding(finding, recorded(Draft(data=data), finding, AUDREY))
    return fault.value.fault


def test_a_chain_that_no_desk_can_have_written_is_refused() -> None:
    opened, answered, closed = (one.data for one in history((AUDREY, OPENING), (ANA, ANSWER), (AUDREY, CLOSING)))
    finding = after((AUDREY, OPENING))

    assert broken(None, answered) == "the chain does not begin with its finding"
    assert broken(finding, opened) == "the finding is opened a second time"
    assert broken(finding, NoteAdded()) == "note_added is no event of a finding"
    assert broken(after((AUDREY, OPENING), (AUDREY, CLOSING)), closed) == "the finding has been closed"
