"""Each guard by its rule: what must be so before something happens, and the reason when it is not."""

from datetime import datetime, timedelta
from itertools import product
from typing import Any

import pytest
from msgspec.structs import replace

from tests.workflow.builders import (
    ANA,
    BO,
    CHECK,
    CLEO,
    DAY,
    DIRK,
    ELI,
    FIRST_GROUND,
    LOU,
    MAIL,
    MICROSECOND,
    MONEY_CAME_BACK,
    NOON,
    PEOPLE,
    PROVIDER,
    Desk,
    a_case,
    a_context,
    a_desk,
    a_fresh_desk,
    a_letter,
    a_purchase,
    an_approved_credit,
    an_approved_refund,
    approves,
    begins,
    closing,
    euros,
    firing,
    from_the_client,
    lead_to,
    proposes,
    refunds,
    refusal,
    refuses,
    restates,
    verifies,
    wrong_fields,
)
from workflow import commands as c
from workflow.cases import Case
from workflow.deciding import decide
from workflow.errors import GuardRefused, NotFound, WrongDigest
from workflow.money import parse_money
from workflow.policy import GroundKind, PolicyVersion, Settings, Tier
from workflow.roles import Role
from workflow.states import CaseState, MailKind, ProposalStatus, Resolution, ResumeReason, Trigger

# Answered.


def test_a_case_does_not_close_before_a_person_has_answered() -> None:
    desk = a_desk()

    assert refusal(desk, ANA, closing()) == {"client_is_answered"}

    desk.do(ANA, a_letter())
    assert desk.do(ANA, closing()).state is CaseState.CLOSED


def test_a_new_letter_of_the_client_needs_an_answer_of_its_own() -> None:
    desk = a_desk()
    desk.do(ANA, a_letter())

    desk.do(MAIL, from_the_client())

    assert refusal(desk, ANA, closing()) == {"client_is_answered"}


def test_what_the_client_said_on_the_phone_counts_as_a_letter() -> None:
    desk = a_desk()
    desk.do(ANA, a_letter())

    desk.do(ANA, from_the_client("She rang: which Thursday?"))

    assert refusal(desk, ANA, closing()) == {"client_is_answered"}


def test_an_automatic_acknowledgement_answers_nothing() -> None:
    desk = a_desk()

    desk.do(MAIL, a_letter("We have received your message."))

    assert refusal(desk, ANA, closing()) == {"client_is_answered"}


def test_a_letter_that_bounced_answers_nothing() -> None:
    desk = a_desk()
    letter = desk.do(ANA, a_letter()).version

    desk.do(MAIL, c.RecordBounce(message=f"m{letter}", reason="no such mailbox"))

    assert refusal(desk, ANA, closing()) == {"client_is_answered"}


def test_one_letter_that_arrived_is_enough_though_another_bounced() -> None:
    desk = a_desk()
    first = desk.do(ANA, a_letter()).version
    desk.do(ANA, a_letter("Once more."))

    desk.do(MAIL, c.RecordBounce(message=f"m{first}"))

    assert desk.do(ANA, closing()).state is CaseState.CLOSED


def test_a_bounce_of_a_letter_that_answered_an_earlier_question_is_recorded_and_changes_nothing() -> None:
    desk = a_desk()
    old = desk.do(ANA, a_letter()).version
    desk.do(MAIL, from_the_client())
    answered = desk.do(ANA, a_letter("This one."))

    bounced = desk.do(MAIL, c.RecordBounce(message=f"m{old}"))

    assert bounced.version == answered.version + 1
    assert stands_as(answered, bounced)


@pytest.mark.parametrize("letter", [MailKind.ACKNOWLEDGEMENT, MailKind.INVITATION])
def test_a_bounce_of_what_answered_nothing_changes_nothing(letter: MailKind) -> None:
    desk = a_desk()
    answered = desk.do(ANA, a_letter())

    bounced = desk.do(MAIL, c.RecordBounce(message=f"m{answered.version}", mail=letter))

    assert stands_as(answered, bounced)


def stands_as(before: Case, after: Case) -> bool:
    return replace(after, version=before.version, head=before.head, changed_at=before.changed_at) == before


@pytest.mark.parametrize("message", ["m0", "m99", "m", "no letter"])
def test_a_letter_that_the_case_does_not_know_cannot_come_back(message: str) -> None:
    with pytest.raises(NotFound):
        a_desk().do(MAIL, c.RecordBounce(message=message))


def test_a_message_that_needs_no_answer_is_as_good_as_answered() -> None:
    desk = a_desk()
    thanks = desk.do(MAIL, from_the_client("Thank you!")).version

    desk.do(ANA, c.WaiveAnswer(message=f"m{thanks}", reason="only thanks"))

    assert desk.do(ANA, closing()).state is CaseState.CLOSED


def test_only_the_last_message_can_be_the_one_that_needs_no_answer() -> None:
    desk = a_desk()
    desk.do(MAIL, from_the_client())

    desk.do(ANA, c.WaiveAnswer(message="m1", reason="settled on the phone"))

    assert refusal(desk, ANA, closing()) == {"client_is_answered"}


def test_a_message_after_the_one_that_needed_no_answer_needs_one() -> None:
    desk = a_desk()
    desk.do(ANA, c.WaiveAnswer(message="m1", reason="only thanks"))

    desk.do(MAIL, from_the_client())

    assert refusal(desk, ANA, closing()) == {"client_is_answered"}


@pytest.mark.parametrize("resolution", [Resolution.DUPLICATE, Resolution.SPAM])
@pytest.mark.parametrize("state", [CaseState.OPENED, CaseState.INVESTIGATING])
def test_nobody_owes_junk_or_a_second_copy_an_answer(state: CaseState, resolution: Resolution) -> None:
    drafts = decide(a_case(state), a_context(), closing(resolution), ANA, NOON)

    assert drafts[0].state_after is CaseState.CLOSED


# Closing and reopening.

FITTING: dict[CaseState, set[str]] = {
    CaseState.OPENED: {"withdrawn", "duplicate", "spam"},
    CaseState.INVESTIGATING: {"explained", "no_refund_due", "withdrawn", "no_response", "duplicate", "spam"},
    CaseState.ADJUSTMENT_OFFERED: {"remedy_accepted", "withdrawn", "no_response"},
    CaseState.CONSULTATION_SCHEDULED: {"remedy_accepted", "withdrawn", "no_response"},
    CaseState.COMPENSATION_ISSUED: {"remedy_accepted", "withdrawn", "no_response"},
    CaseState.REFUNDED: {"remedy_accepted", "withdrawn", "no_response"},
}


@pytest.mark.parametrize(("state", "resolution"), list(product(FITTING, Resolution)))
def test_a_resolution_has_to_fit_the_state_it_closes(state: CaseState, resolution: Resolution) -> None:
    answered = replace(a_case(state), answer_waived=True)

    try:
        decide(answered, a_context(), closing(resolution), ANA, NOON)
        codes: set[str] = set()
    except GuardRefused as refused:
        codes = refused.codes

    assert codes == (set() if resolution.value in FITTING[state] else {"resolution_fits_state"})


def test_a_case_can_be_reopened_for_thirty_days_to_the_microsecond() -> None:
    desk = a_desk()
    lead_to(CaseState.CLOSED, desk)
    closed_at = desk.case.closed_at
    assert closed_at is not None

    desk.now = closed_at + 30 * DAY + MICROSECOND
    assert refusal(desk, BO, firing(Trigger.REOPEN)) == {"within_reopening_days"}

    desk.now = closed_at + 30 * DAY
    assert desk.do(BO, firing(Trigger.REOPEN)).state is CaseState.INVESTIGATING


def test_reopening_follows_the_policy_in_force_now() -> None:
    desk = a_desk()
    lead_to(CaseState.CLOSED, desk)
    desk.now = NOON + 20 * DAY
    desk.policies = (*desk.policies, a_policy(2, NOON + 10 * DAY, reopening_days=14))

    assert refusal(desk, BO, firing(Trigger.REOPEN)) == {"within_reopening_days"}


def a_policy(version: int, effective_from: datetime | None, **settings: Any) -> PolicyVersion:
    return PolicyVersion(version=version, effective_from=effective_from, settings=replace(Settings(), **settings))


# Working the case.


@pytest.mark.parametrize("nobody", ["audrey", "adam", "cleo", "zoe", "gone"])
def test_a_case_is_only_given_to_an_active_agent_or_lead(nobody: str) -> None:
    desk = Desk(people={**PEOPLE, "gone": replace(PEOPLE["bo"], id="gone", active=False)})
    desk.open()

    assert refusal(desk, LOU, firing(Trigger.INVESTIGATE, assignee=nobody)) == {"assignee_works_cases"}
    assert refusal(desk, LOU, c.Assign(assignee=nobody)) == {"assignee_works_cases"}


SLOT_STARTS, SLOT_MINUTES = NOON + 3 * DAY, 60


@pytest.mark.parametrize(
    ("minutes_later", "minutes", "overlaps"),
    [
        (-30, 30, False),  # ends as the other begins
        (60, 30, False),  # begins as the other ends
        (-30, 31, True),
        (59, 30, True),
        (15, 15, True),  # inside
        (-15, 120, True),  # around
        (0, 60, True),
    ],
)
def test_nobody_holds_two_consultations_at_once(minutes_later: int, minutes: int, overlaps: bool) -> None:
    desk = a_desk_with_a_consultation()
    desk.open("B")
    desk.investigate("B", by=ANA)
    wish = firing(
        Trigger.SCHEDULE_CONSULTATION, starts_at=SLOT_STARTS + timedelta(minutes=minutes_later), minutes=minutes
    )

    if overlaps:
        assert refusal(desk, ANA, wish, "B") == {"no_other_consultation_overlaps"}
    else:
        assert desk.do(ANA, wish, "B").state is CaseState.CONSULTATION_SCHEDULED


def a_desk_with_a_consultation() -> Desk:
    desk = a_desk()
    desk.do(ANA, firing(Trigger.SCHEDULE_CONSULTATION, starts_at=SLOT_STARTS, minutes=SLOT_MINUTES))
    return desk


def test_the_calendar_is_the_assignees_whoever_books() -> None:
    desk = a_desk_with_a_consultation()
    desk.open("B")
    desk.investigate("B", by=BO)
    same_time = firing(Trigger.SCHEDULE_CONSULTATION, starts_at=SLOT_STARTS)

    booked = desk.do(ANA, same_time, "B")

    assert booked.remedies[-1].host == "bo"


def test_a_consultation_that_did_not_take_place_leaves_its_slot() -> None:
    desk = a_desk_with_a_consultation()
    desk.do(ANA, firing(Trigger.RESUME, reason_code=ResumeReason.NO_SHOW))
    desk.open("B")
    desk.investigate("B", by=ANA)

    again = desk.do(ANA, firing(Trigger.SCHEDULE_CONSULTATION, starts_at=SLOT_STARTS), "B")

    assert again.state is CaseState.CONSULTATION_SCHEDULED


# While money is on its way.


@pytest.mark.parametrize(
    "command",
    [
        firing(Trigger.OFFER_ADJUSTMENT),
        firing(Trigger.SCHEDULE_CONSULTATION),
        closing(),
        closing(Resolution.SPAM),
    ],
)
def test_a_case_stays_where_the_arrival_of_its_money_can_be_recorded(command: c.Command) -> None:
    desk = a_desk()
    an_approved_refund().carry_out(desk)
    desk.do(ANA, a_letter())
    desk.do(DIRK, begins(desk.case.proposals[-1]))

    assert refusal(desk, ANA, command) == {"no_payout_under_way"}


def test_while_one_refund_is_paid_nothing_else_is_settled() -> None:
    desk = a_desk()
    for plan in (an_approved_refund(), an_approved_refund(), an_approved_credit()):
        plan.carry_out(desk)
    paying, other, credit = desk.case.proposals
    desk.do(DIRK, begins(paying))

    assert refusal(desk, DIRK, begins(other)) == {"no_payout_under_way"}
    assert refusal(desk, DIRK, refunds(other)) == {"no_payout_under_way"}
    assert refusal(desk, ANA, firing(Trigger.ISSUE_COMPENSATION, proposal=credit.id)) == {"no_payout_under_way"}
    assert refusal(desk, ELI, begins(paying)) == {"proposal_is_open"}


# Refunds: what they need.


def test_without_a_purchase_nothing_is_refunded() -> None:
    desk = a_desk(purchase=None)

    assert refusal(desk, ANA, proposes(euros("10.00"))) == {"there_is_a_purchase"}
    assert refusal(desk, CLEO, firing(Trigger.REFUND, proposal=None)) == {
        "there_is_a_purchase",
        "proposal_is_approved",
    }
    assert refusal(desk, ANA, CHECK) == {"there_is_a_purchase"}


def test_a_refund_is_proposed_only_while_the_case_is_investigated_and_the_facts_are_checked() -> None:
    desk = Desk()
    desk.open()

    assert refusal(desk, ANA, proposes(euros("10.00"))) == {"case_is_investigated", "facts_are_checked"}


def test_a_check_is_undone_by_a_change_of_the_facts_however_they_are_stated() -> None:
    desk = a_desk()
    checked = desk.case.purchase
    assert checked is not None
    assert checked.checked

    desk.do(ANA, restates(checked, package="launch and care"))

    assert refusal(desk, ANA, proposes(euros("10.00"))) == {"facts_are_checked"}


def test_under_p5_exactly_the_maximum_is_refunded_and_nobody_has_to_approve() -> None:
    desk = a_fresh_desk()

    for amount in ("589.99", "590.01"):
        assert refusal(desk, ANA, proposes(euros(amount))) == {"within_maximum"}

    proposal = desk.propose(euros("590.00"))
    assert refusal(desk, CLEO, approves(proposal)) == {"approval_is_needed"}
    assert desk.do(CLEO, refunds(proposal)).state is CaseState.REFUNDED


def test_p5_is_paid_in_full_though_a_ground_is_proven_for_less() -> None:
    desk = a_fresh_desk()
    ground = desk.ground(euros("100.00"))

    proposal = desk.do(ANA, proposes(euros("590.00"), (ground.id,))).proposals[-1]

    assert proposal.grounds == ()
    assert proposal.judgement is not None
    assert proposal.judgement.clauses == ("P5",)


def test_under_p6_any_amount_up_to_the_verified_grounds_is_refunded() -> None:
    desk = a_desk(affected="300.00")
    desk.ground(euros("500.00"), verified_by=None)

    assert refusal(desk, ANA, proposes(euros("300.01"))) == {"within_maximum"}
    assert desk.propose(euros("300.00")).status is ProposalStatus.PROPOSED
    assert desk.propose(euros("0.01")).status is ProposalStatus.PROPOSED


def test_a_refund_is_limited_to_the_grounds_it_names() -> None:
    desk = a_desk(affected="300.00")
    small = desk.ground(euros("40.00"))

    assert refusal(desk, ANA, proposes(euros("40.01"), (small.id,))) == {"within_maximum"}
    assert desk.propose(euros("340.00")).grounds == (FIRST_GROUND, small.id)


def test_grounds_never_give_more_than_what_was_paid() -> None:
    desk = a_desk(affected="900.00", purchase=a_purchase("800.00"))

    assert refusal(desk, ANA, proposes(euros("800.01"))) == {"within_maximum"}
    assert desk.propose(euros("800.00")).status is ProposalStatus.PROPOSED


def test_a_ground_that_the_policy_of_the_purchase_does_not_know_pays_for_nothing() -> None:
    billing_only = a_policy(1, None, grounds=(GroundKind.BILLING_ERROR,))
    desk = a_desk(billing_only, affected=None)
    unknown = desk.ground(euros("500.00"), kind=GroundKind.TECHNICAL_FAILURE)
    known = desk.ground(euros("100.00"))

    assert wrong_fields(desk, ANA, proposes(euros("100.00"), (unknown.id,))) == ["grounds[0]"]
    assert desk.propose(euros("100.00")).grounds == (known.id,)


def test_facts_that_cannot_be_true_allow_nothing_and_break_nothing() -> None:
    desk = a_desk()
    an_approved_refund().carry_out(desk)
    last_day = replace(a_purchase(), deliverables_provided_at=NOON.replace(year=9999, month=12, day=31))
    desk.policies = (replace(desk.policies[0], settings=Settings(timezone="Pacific/Kiritimati")),)
    desk.do(ANA, restates(last_day))
    desk.do(ANA, CHECK)

    assert refusal(desk, ANA, proposes(euros("10.00"))) == {"facts_are_possible"}
    assert "facts_are_possible" in refusal(desk, CLEO, refunds(desk.case.proposals[-1]))


# Four eyes.


def test_the_person_who_proposed_a_refund_neither_pays_it_nor_confirms_its_payment() -> None:
    desk = a_desk()
    an_approved_refund(proposed_by=CLEO, approved_by=(DIRK,)).carry_out(desk)
    proposal = desk.case.proposals[-1]

    assert refusal(desk, CLEO, begins(proposal)) == {"settled_by_another_person"}
    assert refusal(desk, CLEO, refunds(proposal)) == {"settled_by_another_person"}

    desk.do(DIRK, begins(proposal))
    assert refusal(desk, CLEO, refunds(proposal)) == {"settled_by_another_person"}


def test_the_person_who_approved_a_refund_may_also_pay_it() -> None:
    desk = a_desk()
    an_approved_refund(approved_by=(CLEO,)).carry_out(desk)

    assert desk.do(CLEO, refunds(desk.case.proposals[-1])).state is CaseState.REFUNDED


def test_the_person_who_proposed_a_refund_does_not_say_that_it_came_back() -> None:
    desk = a_desk()
    an_approved_refund(proposed_by=CLEO, approved_by=(DIRK,)).carry_out(desk)
    desk.do(DIRK, refunds(desk.case.proposals[-1]))

    assert refusal(desk, CLEO, MONEY_CAME_BACK) == {"reversed_by_another_person"}
    assert desk.do(DIRK, MONEY_CAME_BACK).state is CaseState.INVESTIGATING


def test_nobody_approves_what_they_proposed() -> None:
    desk = a_desk()

    for proposal in (desk.propose(euros("10.00"), LOU), desk.propose(euros("10.00"), LOU, credit=True)):
        assert refusal(desk, LOU, approves(proposal)) == {"approved_by_another_person"}
        assert desk.approve(proposal, CLEO).status is ProposalStatus.APPROVED


def test_whoever_recorded_or_verified_a_ground_does_not_approve_the_refund_that_consumes_it() -> None:
    desk = a_desk(affected=None)
    desk.ground(euros("100.00"), recorded_by=CLEO, verified_by=DIRK)
    proposal = desk.propose(euros("100.00"))

    assert refusal(desk, CLEO, approves(proposal)) == {"approved_by_another_person"}
    assert refusal(desk, DIRK, approves(proposal)) == {"approved_by_another_person"}
    assert desk.approve(proposal, ELI).status is ProposalStatus.APPROVED


def test_only_the_latest_to_verify_a_ground_is_kept_from_approving() -> None:
    desk = a_desk(affected=None)
    ground = desk.ground(euros("100.00"), verified_by=DIRK)
    desk.do(ELI, verifies(ground))
    proposal = desk.propose(euros("100.00"))

    assert refusal(desk, ELI, approves(proposal)) == {"approved_by_another_person"}
    assert desk.approve(proposal, DIRK).status is ProposalStatus.APPROVED


def test_whoever_verified_a_ground_may_approve_a_refund_that_names_another() -> None:
    desk = a_desk(affected="100.00")
    desk.ground(euros("100.00"), verified_by=DIRK)
    proposal = desk.do(ANA, proposes(euros("100.00"), (FIRST_GROUND,))).proposals[-1]

    assert desk.approve(proposal, DIRK).status is ProposalStatus.APPROVED


def test_the_same_person_is_not_two_pairs_of_eyes() -> None:
    desk = a_desk()
    proposal = desk.propose(euros("5000.01"))

    desk.approve(proposal, CLEO)

    assert refusal(desk, CLEO, approves(proposal)) == {"approves_once"}
    assert refusal(desk, DIRK, refunds(proposal)) == {"proposal_is_approved"}
    assert desk.approve(proposal, ELI).status is ProposalStatus.APPROVED


def test_a_provider_confirms_only_what_an_approver_has_begun_to_pay() -> None:
    desk = a_desk()
    an_approved_refund().carry_out(desk)
    proposal = desk.case.proposals[-1]

    assert refusal(desk, PROVIDER, refunds(proposal)) == {"provider_confirms_a_begun_payout"}

    desk.do(DIRK, begins(proposal))
    assert desk.do(PROVIDER, refunds(proposal)).state is CaseState.REFUNDED


# Tiers.

LEAD, APPROVER = LOU, CLEO


@pytest.mark.parametrize(
    ("amount", "currency", "lead_may", "approvals"),
    [
        ("0.01", "EUR", True, 1),
        ("500.00", "EUR", True, 1),
        ("500.01", "EUR", False, 1),
        ("5000.00", "EUR", False, 1),
        ("5000.01", "EUR", False, 2),
        ("500", "JPY", True, 1),
        ("501", "JPY", False, 1),
        ("5000", "JPY", False, 1),
        ("5001", "JPY", False, 2),
        ("500.000", "KWD", True, 1),
        ("500.001", "KWD", False, 1),
        ("5000.000", "KWD", False, 1),
        ("5000.001", "KWD", False, 2),
    ],
)
@pytest.mark.parametrize("credit", [False, True])
def test_the_amount_says_who_approves_and_how_many_it_takes(
    amount: str,
    currency: str,
    lead_may: bool,
    approvals: int,
    credit: bool,
) -> None:
    desk = a_desk(affected="9000", purchase=a_purchase("10000", currency))
    proposal = desk.propose(parse_money(amount, currency), credit=credit)

    if not lead_may:
        assert refusal(desk, LEAD, approves(proposal)) == {"within_approval_tier"}
    first = desk.approve(proposal, LEAD if lead_may else APPROVER)

    assert first.status is (ProposalStatus.APPROVED if approvals == 1 else ProposalStatus.PROPOSED)
    if approvals > 1:
        assert desk.approve(proposal, ELI).status is ProposalStatus.APPROVED


def test_a_refund_that_no_longer_has_approvals_enough_waits_for_another() -> None:
    desk = a_desk()
    an_approved_refund("400.00", approved_by=(LOU,)).carry_out(desk)
    proposal = desk.case.proposals[-1]
    stricter = (Tier(up_to=None, roles=(Role.APPROVER,), count=1),)
    desk.policies = (*desk.policies, a_policy(2, NOON, tiers=stricter))

    assert refusal(desk, DIRK, refunds(proposal)) == {"proposal_is_approved"}

    desk.approve(proposal, CLEO)
    assert desk.do(DIRK, refunds(proposal)).state is CaseState.REFUNDED


def test_refusing_takes_no_tier_and_is_final() -> None:
    desk = a_desk()
    proposal = desk.propose(euros("6000.00"))

    desk.do(LOU, refuses(proposal))

    assert refusal(desk, CLEO, approves(proposal)) == {"proposal_is_open"}
    assert refusal(desk, CLEO, refunds(proposal)) == {"proposal_is_approved"}


def test_a_verdict_is_about_the_proposal_that_was_read() -> None:
    desk = a_desk()
    first, second = desk.propose(euros("10.00")), desk.propose(euros("20.00"))

    with pytest.raises(WrongDigest) as refused:
        desk.do(CLEO, replace(approves(second), digest=first.digest))

    assert refused.value.codes == {"digest_matches"}
    assert desk.proposal(second).approvals == ()


def test_the_digest_is_the_hash_of_the_event_that_proposed() -> None:
    desk = a_desk()

    proposal = desk.propose(euros("10.00"))

    assert proposal.digest == desk.histories["A"][-1].hash


# Compensations.


def test_a_compensation_is_issued_only_when_approved() -> None:
    desk = a_desk()
    proposal = desk.propose(euros("50.00"), credit=True)

    issuing = firing(Trigger.ISSUE_COMPENSATION, proposal=proposal.id)
    assert refusal(desk, CLEO, issuing) == {"proposal_is_approved"}
    assert refusal(desk, CLEO, firing(Trigger.ISSUE_COMPENSATION, proposal=None)) == {"proposal_is_approved"}

    desk.approve(proposal, LOU)
    assert desk.do(ANA, issuing).state is CaseState.COMPENSATION_ISSUED


def test_a_refund_is_not_issued_as_a_compensation_nor_a_compensation_paid_out() -> None:
    desk = a_desk()
    an_approved_refund().carry_out(desk)
    an_approved_credit().carry_out(desk)
    refund, credit = desk.case.proposals

    assert refusal(desk, ANA, firing(Trigger.ISSUE_COMPENSATION, proposal=refund.id)) == {"proposal_is_of_this_remedy"}
    assert refusal(desk, CLEO, refunds(credit)) == {"proposal_is_of_this_remedy"}
    assert refusal(desk, CLEO, begins(credit)) == {"proposal_is_of_this_remedy"}


# Closed cases.


def test_a_closed_case_takes_no_facts_no_grounds_no_verdicts() -> None:
    desk = a_desk()
    proposal = desk.propose(euros("10.00"))
    lead_to(CaseState.CLOSED, desk)

    for actor, command in [
        (ANA, CHECK),
        (ANA, restates(desk.case.purchase, package="other")),
        (ANA, c.RecordGround(kind=GroundKind.BILLING_ERROR, affected=euros("1.00"), statement="again")),
        (ANA, verifies(desk.case.grounds[0])),
        (ANA, c.Assign(assignee="ana")),
    ]:
        assert refusal(desk, actor, command) == {"case_is_open"}, command
    assert refusal(desk, CLEO, approves(proposal)) == {"case_is_open", "proposal_is_open"}
    assert refusal(desk, ANA, proposes(euros("1.00"))) == {"case_is_investigated"}


def test_payments_fail_only_where_one_was_made() -> None:
    desk = a_desk()
    desk.do(ANA, firing(Trigger.OFFER_ADJUSTMENT))

    assert refusal(desk, CLEO, MONEY_CAME_BACK) == {"payment_failed_only_from_refunded"}
