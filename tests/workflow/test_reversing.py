"""Money that comes back, and payouts that a payment provider may be carrying out."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from tests.workflow.builders import (
    ANA,
    CLEO,
    DIRK,
    MONEY_CAME_BACK,
    NOON,
    Desk,
    a_desk,
    a_letter,
    an_approved_refund,
    begins,
    closing,
    fails,
    firing,
    refunds,
    refusal,
)
from workflow import commands as c
from workflow.cases import Proposal
from workflow.deciding import decide
from workflow.errors import GuardRefused
from workflow.replaying import replay
from workflow.roles import Actor, system_actor
from workflow.states import CaseState, ProposalStatus, Resolution, ResumeReason, Trigger

STRIPE = system_actor("stripe")


def a_refunded_desk() -> tuple[Desk, Proposal]:
    """300.00 went back as payment TR-1; case B shares the purchase."""
    desk = a_desk()
    desk.open("B", purchase=None, purchase_reference="D-1")
    an_approved_refund().carry_out(desk)
    desk.do(DIRK, refunds(desk.case.proposals[-1]))
    return desk, desk.case.proposals[-1]


def comes_back(proposal: Proposal, reference: str = "") -> c.ReversePayment:
    return c.ReversePayment(proposal=proposal.id, reason="the account was closed", payment_reference=reference)


def test_money_that_comes_back_after_closing_puts_the_books_right_and_shows_like_new_mail() -> None:
    desk, proposal = a_refunded_desk()
    desk.do(ANA, a_letter())
    desk.do(ANA, closing(Resolution.REMEDY_ACCEPTED))

    case = desk.do(STRIPE, comes_back(proposal, "TR-1"))

    assert (case.state, case.has_new_mail) == (CaseState.CLOSED, True)
    assert case.proposals[-1].status is ProposalStatus.VOID
    assert case.remedies[-1].ended == "payment_failed"
    assert [one.refunded_minor for one in case.grounds] == [0]
    for one in desk.cases.values():
        assert one.purchase is not None
        assert one.purchase.refunded_minor == 0
    assert [one.event.type for one in desk.histories["A"][-2:]] == ["payment_reversed", "purchase_changed"]
    assert replay(desk.histories["A"]) == case
    assert not desk.do(CLEO, a_letter()).has_new_mail  # somebody has told the client


def test_money_that_comes_back_while_the_case_is_investigated_again_leaves_it_there() -> None:
    desk, proposal = a_refunded_desk()
    desk.do(ANA, firing(Trigger.RESUME))

    case = desk.do(CLEO, comes_back(proposal))

    assert (case.state, case.has_new_mail) == (CaseState.INVESTIGATING, True)  # nobody has answered the inquiry yet
    assert case.remedies[-1].ended == "insufficient"  # as it was before
    assert refusal(desk, CLEO, comes_back(proposal)) == {"refund_was_paid"}


def test_a_case_that_is_refunded_by_the_payment_is_taken_up_again_instead() -> None:
    desk, proposal = a_refunded_desk()

    assert refusal(desk, CLEO, comes_back(proposal)) == {"case_stands_without_it"}
    assert desk.do(CLEO, MONEY_CAME_BACK).state is CaseState.INVESTIGATING


def test_of_two_payments_the_first_can_come_back_while_the_second_stands() -> None:
    desk, first = a_refunded_desk()
    desk.do(ANA, firing(Trigger.RESUME))
    an_approved_refund("200.00").carry_out(desk)
    second = desk.case.proposals[-1]
    desk.do(DIRK, firing(Trigger.REFUND, proposal=second.id, payment_reference="TR-2"))

    case = desk.do(STRIPE, comes_back(first, "TR-1"))

    assert case.state is CaseState.REFUNDED
    assert case.purchase is not None
    assert case.purchase.refunded_minor == 200_00
    assert refusal(desk, CLEO, comes_back(second)) == {"case_stands_without_it"}


@pytest.mark.parametrize(
    ("actor", "reference", "codes"),
    [
        (STRIPE, "TR-2", {"provider_reverses_its_own_refund"}),
        (STRIPE, "", {"provider_reverses_its_own_refund"}),
        (replace(ANA, roles=CLEO.roles), "", {"reversed_by_another_person"}),
    ],
)
def test_money_is_said_to_have_come_back_by_whoever_can_know(actor: Actor, reference: str, codes: set[str]) -> None:
    desk, proposal = a_refunded_desk()
    failed = firing(Trigger.RESUME, reason_code=ResumeReason.PAYMENT_FAILED, payment_reference=reference)
    assert refusal(desk, actor, failed) == codes
    desk.do(ANA, firing(Trigger.RESUME))

    assert refusal(desk, actor, comes_back(proposal, reference)) == codes


def test_a_proposal_that_was_not_paid_cannot_come_back() -> None:
    desk = a_desk()
    an_approved_refund().carry_out(desk)

    assert refusal(desk, CLEO, comes_back(desk.case.proposals[-1])) == {"refund_was_paid"}


# While a provider has been asked.


@pytest.mark.parametrize("end", [fails, refunds])
def test_no_person_ends_a_payout_that_the_provider_may_be_carrying_out(
    end: Callable[[Proposal], c.Command],
) -> None:
    desk = a_desk()
    an_approved_refund().carry_out(desk)
    proposal = desk.case.proposals[-1]
    desk.do(DIRK, begins(proposal))
    command = end(proposal)
    asked = replace(desk.context(CLEO, command, desk.case), provider_is_asked=True)

    with pytest.raises(GuardRefused) as refused:
        decide(desk.case, asked, command, CLEO, NOON)

    assert refused.value.codes == {"payment_is_not_with_the_provider"}
    assert decide(desk.case, asked, command, STRIPE, NOON)
    assert decide(desk.case, desk.context(CLEO, command, desk.case), command, CLEO, NOON)
