"""What a recorded event sets in motion outside the desk."""

from tests.workflow.builders import CLEO, DIRK, a_desk, a_letter, an_approved_refund, begins, refunds
from workflow.effects import EffectKind, effects_of


def test_inquiries_are_acknowledged_letters_delivered_and_payouts_paid() -> None:
    desk = a_desk()
    an_approved_refund().carry_out(desk)
    desk.do(CLEO, a_letter())
    desk.do(DIRK, begins(desk.case.proposals[-1]))
    desk.do(DIRK, refunds(desk.case.proposals[-1]))

    effects = {recorded.event.type: effects_of(recorded) for recorded in desk.histories["A"]}

    assert {name: kinds for name, kinds in effects.items() if kinds} == {
        "opened": (EffectKind.ACKNOWLEDGE,),
        "message_sent": (EffectKind.LETTER,),
        "payout_begun": (EffectKind.PAY,),
    }
