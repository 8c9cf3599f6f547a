"""Forms that follow from what a request may say, and what is read back from them."""

from contextlib import suppress
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel
from starlette.datastructures import FormData

from api import inputs as i
from api.pages.case_actions import ACTIONS, FORMS
from api.pages.forms import fields_of, read, shown
from workflow.commands import TRIGGER_DATA
from workflow.errors import BadInput
from workflow.states import Trigger
from workflow.timezones import zone

KYIV = zone("Europe/Kyiv")


def kinds(model: type[BaseModel]) -> dict[str, str]:
    return {field.name: field.kind for field in fields_of(model)}


def said(model: type[BaseModel], *, was: dict[str, str] | None = None, **fields: Any) -> Any:
    """What is read from a form; `data__minutes` stands for `data.minutes`."""
    form = FormData([(name.replace("__", "."), value) for name, value in fields.items()])
    fixed = {"trigger": next(str(one) for one, its in FORMS.items() if its is model)} if model in FORMS.values() else {}
    return read(model, form, KYIV, fixed=fixed, was=was or {})


def wrong(model: type[BaseModel], **fields: Any) -> list[str]:
    with pytest.raises(BadInput) as refused:
        said(model, **fields)
    return [one.field for one in refused.value.errors]


# What no worker or payer states: the client takes a slot, and systems know their own references.
SAID_BY_OTHERS = {
    Trigger.SCHEDULE_CONSULTATION: {"slot_of"},
    Trigger.ISSUE_COMPENSATION: {"confirmation"},
    Trigger.RESUME: {"payment_reference"},
}


@pytest.mark.parametrize("trigger", list(Trigger))
def test_the_form_of_a_trigger_asks_for_its_data_and_a_reason(trigger: Trigger) -> None:
    by_others = SAID_BY_OTHERS.get(trigger, set())
    data = {f"data.{name}" for name in TRIGGER_DATA[trigger].__struct_fields__ if name not in by_others}
    assert set(kinds(FORMS[trigger])) == {"reason", *data}
    assert ACTIONS[trigger.replace("_", "-")].model is FORMS[trigger]


def test_a_field_looks_as_its_type_asks_for() -> None:
    assert kinds(i.ScheduleConsultationIn) == {
        "reason": "long",
        "data.starts_at": "moment",
        "data.minutes": "number",
        "data.channel": "text",
    }
    assert kinds(i.OfferAdjustmentIn)["data.answer_by"] == "date"
    assert kinds(i.GroundIn) == {"kind": "choice", "affected": "money", "statement": "long"}
    assert kinds(i.VerificationIn)["verified"] == "answer"
    assert kinds(i.MessageIn)["awaits_reply"] == "tick"
    assert kinds(i.ParticipantsIn) == {"participants": "lines"}
    assert kinds(i.ProposalIn)["grounds"] == "ticks"
    assert kinds(i.SlotsIn)["slots"] == "moments"
    [minutes] = [one for one in fields_of(i.ScheduleConsultationIn) if one.name == "data.minutes"]
    assert (minutes.least, minutes.most, minutes.required) == (1, 1440, True)


def test_a_day_and_a_time_are_those_of_the_desk() -> None:
    body = said(
        i.ScheduleConsultationIn,
        reason="as agreed",
        data__starts_at="2026-03-10T14:30",
        data__minutes="30",
        data__channel="by phone",
    )
    assert body.data.starts_at == datetime.fromisoformat("2026-03-10T12:30:00Z")
    summer = said(
        i.ScheduleConsultationIn,
        reason="as agreed",
        data__starts_at="2026-07-10T14:30",
        data__minutes="30",
        data__channel="by phone",
    )
    assert summer.data.starts_at == datetime.fromisoformat("2026-07-10T11:30:00Z")
    offer = said(i.OfferAdjustmentIn, reason="x", data__description="another audience", data__answer_by="2026-03-10")
    assert offer.data.answer_by == date(2026, 3, 10)


def test_an_hour_that_the_clocks_skip_or_repeat_is_still_a_time() -> None:
    for given, expected in (("2026-03-29T03:30", "2026-03-29T01:30:00Z"), ("2026-10-25T03:30", "2026-10-25T00:30:00Z")):
        body = said(i.RequestedAtIn, requested_at=given, reason="x")
        assert body.requested_at == datetime.fromisoformat(expected)


def test_a_time_that_nobody_changed_stays_as_exact_as_it_is() -> None:
    exact = datetime.fromisoformat("2026-03-05T10:00:32.123456Z")
    stood = shown(exact, KYIV)
    assert stood == "2026-03-05T12:00"
    same = said(i.RequestedAtIn, was={"requested_at": exact.isoformat()}, requested_at=stood, reason="x")
    assert same.requested_at == exact
    other = said(i.RequestedAtIn, was={"requested_at": exact.isoformat()}, requested_at="2026-03-05T12:01", reason="x")
    assert other.requested_at == exact.replace(second=0, microsecond=0) + timedelta(minutes=1)


def test_the_ends_of_the_calendar_can_be_shown() -> None:
    for moment in (datetime.fromisoformat("0001-01-01T00:00:00Z"), datetime.fromisoformat("9999-12-31T23:59:59Z")):
        assert shown(moment, KYIV).endswith((":00", ":59", ":02"))


def test_what_may_be_left_out_is_nothing() -> None:
    body = said(
        i.PurchaseIn,
        reference="D-1",
        package="launch",
        paid__amount="590",
        paid__currency="EUR",
        purchased_at="2026-03-01T10:00",
        service_started_at="",
    )
    assert (body.service_started_at, body.deliverables_provided_at) == (None, None)
    assert said(i.InvestigateIn, reason="mine", data__assignee="").data.assignee is None
    assert said(i.MessageIn, text="Hello", direction="outbound").awaits_reply is False
    assert said(i.MessageIn, text="Hello", direction="outbound", awaits_reply="yes").awaits_reply is True
    assert said(i.ParticipantsIn, participants=" a@example.com\n\nb@example.com ").participants == [
        "a@example.com",
        "b@example.com",
    ]


def test_every_wrong_field_is_named() -> None:
    assert wrong(i.ScheduleConsultationIn, reason=" ", data__starts_at="soon", data__minutes="1e9") == [
        "reason",
        "data.starts_at",
        "data.minutes",
        "data.channel",
    ]
    assert wrong(i.GroundIn, kind="sorcery", affected__amount="-1", affected__currency="EUR", statement="x") == [
        "kind",
        "affected",
    ]
    assert wrong(i.VerificationIn, verified="maybe", evidence="x") == ["verified"]
    assert wrong(i.CloseIn, reason="x", data__resolution="") == ["data.resolution"]
    assert wrong(i.ParticipantsIn, participants="a@example.com nobody") == ["participants[1]"]


@pytest.mark.parametrize("model", dict.fromkeys(one.model for one in ACTIONS.values()))
@pytest.mark.parametrize(
    "value",
    ["\x00", "9" * 5000, "0001-01-01T00:00", "9999-12-31T23:59", "\N{RIGHT-TO-LEFT OVERRIDE}", "' OR 1=1"],
)
def test_no_value_is_too_odd_to_be_refused(model: type[BaseModel], value: str) -> None:
    fields = {field.name: value for field in fields_of(model)}
    moneys = {f"{name}.{part}": value for name in fields for part in ("amount", "currency")}
    with suppress(BadInput):  # nothing else
        read(model, FormData(fields | moneys), KYIV, fixed={}, was={})
