"""What a recorded event sets in motion outside the desk."""

from tests.workflow.builders import (
    ANA,
    CLEO,
    DIRK,
    a_desk,
    a_letter,
    an_approved_refund,
    begins,
    closing,
    firing,
    moves,
    proposes_slots,
    refunds,
)
from workflow.effects import EffectKind, effects_of, lane_of, targets_of
from workflow.states import Resolution, Trigger


def test_inquiries_are_acknowledged_letters_delivered_and_payouts_paid() -> None:
    desk = a_desk()
    an_approved_refund().carry_out(desk)
    desk.do(CLEO, a_letter())
    desk.do(ANA, proposes_slots())
    desk.do(DIRK, begins(desk.case.proposals[-1]))
    desk.do(DIRK, refunds(desk.case.proposals[-1]))

    effects = {recorded.event.type: effects_of(recorded) for recorded in desk.histories["A"]}

    assert {name: kinds for name, kinds in effects.items() if kinds} == {
        "opened": (EffectKind.ACKNOWLEDGE,),
        "message_sent": (EffectKind.LETTER,),
        "slots_proposed": (EffectKind.LETTER,),
        "payout_begun": (EffectKind.PAY,),
    }


def test_whatever_changes_a_consultation_changes_calendars() -> None:
    desk = a_desk()
    desk.do(ANA, proposes_slots())
    desk.do(ANA, firing(Trigger.SCHEDULE_CONSULTATION))
    desk.do(ANA, moves())
    desk.do(ANA, a_letter())
    desk.do(ANA, closing(Resolution.REMEDY_ACCEPTED))
    desk.do(ANA, firing(Trigger.REOPEN))

    invited = [one.event.type for one in desk.histories["A"] if EffectKind.INVITE in effects_of(one)]

    assert invited == ["consultation_scheduled", "consultation_moved", "closed", "reopened"]


def test_an_invitation_is_two_mails_and_the_hosts_waits_for_none_of_the_clients() -> None:
    client, host = (lane_of(EffectKind.INVITE, "case:A", target) for target in targets_of(EffectKind.INVITE))

    assert client == lane_of(EffectKind.LETTER, "case:A")
    assert host != client
    assert host != lane_of(EffectKind.INVITE, "case:B", targets_of(EffectKind.INVITE)[1])
