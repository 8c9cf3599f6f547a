"""Lists of cases that people keep under a name, for themselves or for everybody."""

from typing import Any

import pytest
from msgspec.structs import replace

from tests.workflow.builders import ADAM, ANA, AUDREY, BO, CLEO, LOU, MAIL, NOON, sealed
from workflow.errors import BadInput, BrokenHistory, Forbidden, GuardRefused
from workflow.events import Draft, Recorded
from workflow.people import (
    MAX_FILTERS,
    AddPerson,
    DisablePerson,
    Person,
    PersonCommand,
    RemoveFilter,
    SavedFilter,
    SaveFilter,
    decide_person,
    evolve_person,
    person_chain,
    replay_person,
)
from workflow.roles import Actor, Role

ADDING = AddPerson(person_id="ana", email="ana@example.com", name="Ana", roles=(Role.AGENT,))
SAVING = SaveFilter(person_id="ana", filter_id="f1", name="Big refunds", query="state=refunded&owner=ana")
REMOVING = RemoveFilter(person_id="ana", filter_id="f1")


class History:
    """Ana's chain, as a ledger would write it."""

    def __init__(self, *commands: PersonCommand) -> None:
        self.recorded: list[Recorded] = []
        self.do(ADDING, by=ADAM)
        for command in commands:
            self.do(command)

    @property
    def ana(self) -> Person:
        person = replay_person(self.recorded)
        assert person is not None
        return person

    def do(self, command: PersonCommand, by: Actor = ANA) -> None:
        for draft in decide_person(self.ana if self.recorded else None, command, by, NOON):
            self.tell(draft, by)

    def tell(self, draft: Draft, by: Actor = ANA) -> None:
        one = sealed(draft, person_chain("ana"), None, by, NOON)
        self.recorded.append(replace(one, event=replace(one.event, seq=len(self.recorded) + 1)))


def wrong_field(history: History, command: PersonCommand) -> str:
    with pytest.raises(BadInput) as bad:
        history.do(command)
    (error,) = bad.value.errors
    return error.field


def test_a_filter_that_was_saved_is_there_until_it_is_removed() -> None:
    history = History(SAVING, replace(SAVING, filter_id="f2", shared=True))

    assert history.ana.filters == (
        SavedFilter(id="f1", name="2/filter_name", query="2/filter_query"),
        SavedFilter(id="f2", name="3/filter_name", query="3/filter_query", shared=True),
    )

    history.do(REMOVING)
    assert [one.id for one in history.ana.filters] == ["f2"]


def test_what_somebody_looks_for_stays_out_of_the_event() -> None:
    (draft,) = decide_person(History().ana, replace(SAVING, name="  Una\n Unterweger ", query="q=una"), ANA, NOON)

    assert draft.personal == {"filter_name": "Una Unterweger", "filter_query": "q=una"}
    assert "una" not in str(draft.data).lower()


@pytest.mark.parametrize("actor", [BO, LOU, CLEO, AUDREY, ADAM])
def test_nobody_saves_a_filter_for_somebody_else_or_removes_one_that_is_not_shared(actor: Actor) -> None:
    history = History(SAVING)
    for command in (replace(SAVING, filter_id="f2"), REMOVING):
        with pytest.raises(Forbidden):
            history.do(command, by=actor)


@pytest.mark.parametrize("actor", [BO, CLEO, AUDREY, ADAM])
def test_a_shared_filter_is_removed_by_whoever_saved_it_or_by_a_lead(actor: Actor) -> None:
    history = History(replace(SAVING, shared=True))
    with pytest.raises(Forbidden) as refused:
        history.do(REMOVING, by=actor)
    if actor is not ADAM:
        assert refused.value.refusals[0].who == (Role.LEAD,)

    history.do(REMOVING, by=LOU)
    assert history.ana.filters == ()


def test_machines_keep_no_filters() -> None:
    with pytest.raises(Forbidden):
        History().do(SAVING, by=MAIL)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": " \n "}, "name"),
        ({"name": "x" * 81}, "name"),
        ({"query": "x" * 2001}, "query"),
        ({"filter_id": "f1"}, "filter"),
    ],
)
def test_a_filter_that_makes_no_sense_names_its_field(changes: dict[str, Any], field: str) -> None:
    assert wrong_field(History(SAVING), replace(replace(SAVING, filter_id="f2"), **changes)) == field


def test_a_filter_that_is_not_there_cannot_be_removed() -> None:
    assert wrong_field(History(), REMOVING) == "filter"


def test_nobody_keeps_more_filters_than_a_menu_can_show() -> None:
    history = History(*(replace(SAVING, filter_id=f"f{number}") for number in range(MAX_FILTERS)))

    assert wrong_field(history, replace(SAVING, filter_id="one more")) == "name"
    history.do(replace(REMOVING, filter_id="f7"))
    history.do(replace(SAVING, filter_id="one more"))
    assert len(history.ana.filters) == MAX_FILTERS


def test_of_somebody_who_has_left_a_lead_clears_away_what_they_shared() -> None:
    history = History(replace(SAVING, shared=True))
    history.do(DisablePerson(person_id="ana"), by=ADAM)

    with pytest.raises(GuardRefused):
        history.do(replace(SAVING, filter_id="f2"))
    history.do(REMOVING, by=LOU)
    assert history.ana.filters == ()


def test_no_chain_begins_with_a_filter() -> None:
    (saved,) = decide_person(History().ana, SAVING, ANA, NOON)

    with pytest.raises(BrokenHistory):
        evolve_person(None, sealed(saved, person_chain("ana"), None, ANA, NOON))
