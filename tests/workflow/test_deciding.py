"""What each command does, told as events: opening, the purchase that cases share, proposals, payouts, letters."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from tests.workflow.builders import (
    ADAM,
    ANA,
    AUDREY,
    BO,
    CHECK,
    CLEO,
    DAY,
    DIRK,
    ELI,
    FIRST_GROUND,
    FIRST_PROPOSAL,
    LOU,
    MAIL,
    MONEY_CAME_BACK,
    NOON,
    V1,
    Desk,
    a_case,
    a_context,
    a_desk,
    a_fresh_desk,
    a_fresh_purchase,
    a_letter,
    a_link,
    a_purchase,
    an_approved_credit,
    an_approved_refund,
    an_opening,
    approves,
    begins,
    closing,
    euros,
    fails,
    firing,
    from_the_client,
    moves,
    proposes,
    proposes_slots,
    refunds,
    refusal,
    restates,
    verifies,
    wrong_fields,
)
from workflow import commands as c
from workflow.canonical import MAX_BYTES, canonical
from workflow.cases import NewAttachment, Purchase, Share
from workflow.deciding import MAX_GROUNDS, MAX_PARTICIPANTS, decide
from workflow.errors import Forbidden, NotFound, PurchaseDiffers, Refused
from workflow.events import AttachmentAdded, PurchaseChanged
from workflow.money import parse_money
from workflow.policy import Category, GroundKind, Settings
from workflow.roles import Actor, Role
from workflow.states import (
    CaseState,
    CompensationKind,
    LinkKind,
    ProposalStatus,
    RemedyKind,
    Resolution,
    Trigger,
    Verdict,
)

# Who may give which command.

ATTACHMENT = NewAttachment(id="x1", name="statement.pdf", content_type="application/pdf", content=b"%PDF")

BY_HAND: list[tuple[c.Command, set[str]]] = [
    (an_opening(), {"agent", "lead", "approver", "system"}),
    (c.RecordPurchase(reference="D-1"), {"agent", "lead", "approver"}),
    (CHECK, {"agent", "lead", "approver"}),
    (
        c.RecordGround(kind=GroundKind.BILLING_ERROR, affected=euros("1.00"), statement="twice"),
        {"agent", "lead", "approver"},
    ),
    (c.VerifyGround(ground=FIRST_GROUND, verified=True, evidence="seen"), {"agent", "lead", "approver"}),
    (proposes(euros("1.00")), {"agent", "lead", "approver"}),
    (c.GiveVerdict(proposal=FIRST_PROPOSAL, verdict=Verdict.APPROVE, digest="", reason="due"), {"lead", "approver"}),
    (c.BeginPayout(proposal=FIRST_PROPOSAL, reason="paid"), {"approver"}),
    (c.FailPayout(proposal=FIRST_PROPOSAL, reason="returned"), {"approver", "system"}),
    (c.ReversePayment(proposal=FIRST_PROPOSAL, reason="returned"), {"approver", "system"}),
    (c.WithdrawProposal(proposal=FIRST_PROPOSAL, reason="a slip"), {"agent", "lead", "approver"}),
    (c.Assign(assignee="ana"), {"lead"}),  # and an agent, to take a case
    (c.Recategorize(category=Category.OTHER), {"agent", "lead", "approver"}),
    (c.CorrectRequestedAt(requested_at=NOON - DAY, reason="the letter of Monday"), {"lead"}),
    (c.SetParticipants(participants=()), {"agent", "lead", "approver"}),
    (c.AddNote(text="called back"), {"agent", "lead", "approver"}),
    (a_letter(), {"agent", "lead", "approver", "system"}),  # and the client, of their own
    (c.RecordBounce(message="m1"), {"agent", "lead", "approver", "system"}),
    (c.AnswerOffer(offer=1, accepted=True), {"client"}),
    (c.WaiveAnswer(message="m1", reason="thanks"), {"agent", "lead", "approver"}),
    (proposes_slots(), {"agent", "lead"}),
    (moves(), {"agent", "lead"}),
    (c.RecordAttendance(attended=True), {"agent", "lead"}),
    (c.AddAttachment(attachment=ATTACHMENT), {"agent", "lead", "approver", "system"}),
    (c.LinkCase(kind=LinkKind.RELATED, case="B"), {"agent", "lead", "approver"}),
    (a_link(), {"agent", "lead", "system"}),
    (c.RevokeClientLink(link_id="una"), {"agent", "lead", "system"}),
    (c.PlaceHold(reason="a court asks for it"), {"lead", "admin"}),
    (c.ReleaseHold(reason="the court has decided"), {"lead", "admin"}),
    (c.Erase(legal_basis="GDPR Art. 17(1)"), {"admin", "system"}),
]


@pytest.mark.parametrize(("command", "roles"), BY_HAND, ids=[type(command).__name__ for command, _ in BY_HAND])
def test_a_command_is_given_in_its_roles_only(command: c.Command, roles: set[str]) -> None:
    case = None if isinstance(command, c.OpenCase) else a_case(proposal=an_approved_refund())

    for role in Role:
        actor = Actor(kind="person", id="somebody", roles=frozenset({role}))
        forbidden = False
        try:
            decide(case, a_context(), command, actor, NOON)
        except Forbidden:
            forbidden = True
        except (Refused, NotFound):
            pass
        assert forbidden == (role.value not in roles), role


def test_every_command_is_in_the_table_above() -> None:
    commands = {one for one in c.Command.__subclasses__() if one.__module__ == c.__name__}

    assert commands == {type(command) for command, _ in BY_HAND} | {c.Fire}


@pytest.mark.parametrize("actor", [AUDREY, ADAM])
def test_auditors_and_admins_change_no_case(actor: Actor) -> None:
    for command in (c.AddNote(text="hm"), closing(), firing(Trigger.INVESTIGATE)):
        with pytest.raises(Forbidden):
            decide(a_case(), a_context(), command, actor, NOON)


def test_an_agent_takes_a_case_and_a_lead_gives_it_to_somebody_or_nobody() -> None:
    desk = a_desk()

    assert desk.do(BO, c.Assign(assignee="bo")).assignee == "bo"
    assert desk.do(LOU, c.Assign(assignee="ana", reason="Bo is away")).assignee == "ana"
    assert desk.do(LOU, c.Assign(assignee=None)).assignee is None
    with pytest.raises(Forbidden):
        desk.do(BO, c.Assign(assignee="ana"))
    with pytest.raises(Forbidden):
        desk.do(BO, c.Assign(assignee=None))


def test_a_case_is_investigated_by_whoever_begins_unless_somebody_else_is_named() -> None:
    desk = Desk()
    desk.open("A")
    desk.open("B")

    assert desk.investigate("A", by=ANA).assignee == "ana"
    assert desk.do(LOU, firing(Trigger.INVESTIGATE, assignee="bo"), "B").assignee == "bo"


@pytest.mark.parametrize(
    ("actor", "command", "field"),
    [
        (ANA, firing(Trigger.OFFER_ADJUSTMENT, reason=" "), "reason"),
        (ANA, firing(Trigger.OFFER_ADJUSTMENT, description=""), "data.description"),
        (ANA, firing(Trigger.SCHEDULE_CONSULTATION, channel="\n"), "data.channel"),
        (CLEO, firing(Trigger.REFUND, proposal=FIRST_PROPOSAL, payment_reference=""), "data.payment_reference"),
        (ANA, c.CheckPurchase(reason=""), "reason"),
        (ANA, c.RecordGround(kind=GroundKind.BILLING_ERROR, affected=euros("1.00"), statement=""), "statement"),
        (BO, c.VerifyGround(ground=FIRST_GROUND, verified=True, evidence=" "), "evidence"),
        (ANA, replace(proposes(euros("1.00")), reason=""), "reason"),
        (CLEO, c.BeginPayout(proposal=FIRST_PROPOSAL, reason=""), "reason"),
        (LOU, c.CorrectRequestedAt(requested_at=NOON, reason=""), "reason"),
        (ANA, c.WaiveAnswer(message="m1", reason=""), "reason"),
    ],
)
def test_what_has_to_be_said_cannot_be_left_empty(actor: Actor, command: c.Command, field: str) -> None:
    desk = a_desk()
    an_approved_refund().carry_out(desk)

    assert wrong_fields(desk, actor, command) == [field]


def test_a_command_about_no_case_finds_none() -> None:
    with pytest.raises(NotFound):
        decide(None, a_context(), c.AddNote(text="hm"), ANA, NOON)


@pytest.mark.parametrize(
    ("actor", "command", "what"),
    [
        (BO, c.VerifyGround(ground="g99", verified=True, evidence="seen"), "ground"),
        (CLEO, c.GiveVerdict(proposal="p99", verdict=Verdict.APPROVE, digest="", reason="due"), "proposal"),
        (CLEO, c.BeginPayout(proposal="p99", reason="paid"), "proposal"),
        (CLEO, c.FailPayout(proposal="p99", reason="returned"), "proposal"),
        (CLEO, c.ReversePayment(proposal="p99", reason="returned"), "proposal"),
        (ANA, c.WithdrawProposal(proposal="p99", reason="a slip"), "proposal"),
        (ANA, c.WaiveAnswer(message="m99", reason="thanks"), "message"),
        (ANA, c.RevokeClientLink(link_id="nobody"), "link"),
    ],
)
def test_what_the_case_does_not_have_is_not_found(actor: Actor, command: c.Command, what: str) -> None:
    with pytest.raises(NotFound) as missing:
        decide(a_case(), a_context(), command, actor, NOON)

    assert missing.value.what == what


# Opening.


def test_an_inquiry_opens_a_case_with_its_deadlines_and_its_purchase() -> None:
    case = Desk().open(received_at=NOON - timedelta(hours=2))

    assert case.state is CaseState.OPENED
    assert case.received_at == NOON - timedelta(hours=2)
    assert case.first_answer_due == NOON + timedelta(hours=22)
    assert case.update_due == NOON + 7 * DAY
    assert case.purchase == a_purchase()
    assert case.participants == (case.client_email,) == ("1/client_email",)


def test_a_letter_without_a_subject_is_listed_by_its_first_words() -> None:
    titled, untitled = Desk().open(), Desk().open(subject=" ")

    assert titled.title == titled.subject == "1/subject"
    assert untitled.title == "1/title"


@pytest.mark.parametrize(
    ("message", "title"),
    [("  They\n never   ran. ", "They never ran."), (" \n", "(no subject)"), ("x" * 79, "x" * 77 + "…")],
)
def test_the_first_words_are_one_line_of_a_length_to_read(message: str, title: str) -> None:
    drafts = decide(None, a_context(), an_opening(subject="", message=message), MAIL, NOON)

    assert drafts[0].personal["title"] == title


def test_evidence_that_came_with_the_inquiry_belongs_to_its_message() -> None:
    drafts = decide(None, a_context(), an_opening(attachments=(ATTACHMENT,)), MAIL, NOON)

    assert [draft.type for draft in drafts] == ["opened", "purchase_changed", "attachment_added"]
    assert drafts[-1].attachment == ATTACHMENT
    assert drafts[-1].personal == {"name": "statement.pdf"}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"received_at": NOON + timedelta(seconds=1)}, "received_at"),
        ({"received_at": NOON - 31 * DAY}, "received_at"),  # before the purchase
        ({"purchase": None, "purchase_reference": "D-9"}, "purchase.reference"),
    ],
)
def test_an_inquiry_with_impossible_facts_opens_nothing(changes: dict[str, Any], field: str) -> None:
    assert wrong_fields(Desk(), MAIL, an_opening(**changes)) == [field]


# One purchase, several cases.


def two_cases_with_one_purchase(affected: str = "8000.00", amount: str = "20000.00") -> Desk:
    """A and B under investigation by Ana and Bo, each with a proven error of its own over `affected`."""
    desk = a_desk(affected=affected, purchase=a_purchase(amount))
    desk.open("B", purchase=a_purchase(amount))
    desk.investigate("B", by=BO)
    desk.ground(euros(affected), "B", recorded_by=BO, verified_by=ANA)
    return desk


def the_purchase(desk: Desk) -> Purchase:
    """As every case has it: they never disagree."""
    first, *others = [case.purchase for case in desk.cases.values()]
    assert first is not None
    assert all(one == first for one in others)
    return first


def test_a_known_reference_links_the_purchase_as_the_desk_has_it() -> None:
    desk = a_desk()

    by_reference = desk.open("B", purchase=None, purchase_reference="D-1")
    by_facts = desk.open("C")

    assert by_reference.purchase == by_facts.purchase == desk.case.purchase
    assert the_purchase(desk).checked


def test_other_facts_for_a_known_reference_are_refused_with_what_differs() -> None:
    desk = a_desk()

    with pytest.raises(PurchaseDiffers) as differs:
        desk.open("B", purchase=a_purchase("19000.00", service_started_at=None))

    assert differs.value.reference == "D-1"
    assert differs.value.fields == ("paid", "service_started_at")
    assert "B" not in desk.cases


def test_every_change_of_a_purchase_is_told_in_the_chain_of_every_case_that_shares_it() -> None:
    desk = two_cases_with_one_purchase()
    before = {case_id: len(history) for case_id, history in desk.histories.items()}

    desk.do(ANA, restates(desk.case.purchase, package="launch and care"))
    desk.do(BO, CHECK, "B")
    an_approved_refund().carry_out(desk)
    desk.do(DIRK, begins(desk.case.proposals[-1]))
    desk.do(DIRK, refunds(desk.case.proposals[-1]))
    desk.do(CLEO, MONEY_CAME_BACK)

    changes = {
        case_id: [one.data.change for one in history[before[case_id] :] if isinstance(one.data, PurchaseChanged)]
        for case_id, history in desk.histories.items()
    }
    assert changes["A"] == changes["B"] == ["facts", "check", "sums", "sums", "sums"]
    assert the_purchase(desk).package == "launch and care"


def test_the_reason_of_a_check_is_kept_in_the_chain_where_it_was_made_only() -> None:
    desk = two_cases_with_one_purchase()
    desk.do(ANA, restates(desk.case.purchase, package="launch and care"))

    desk.do(BO, CHECK, "B")

    assert set(desk.histories["B"][-1].event.personal) == {"reason"}
    assert desk.histories["A"][-1].event.personal == {}


def test_facts_that_are_so_already_are_not_told_again() -> None:
    desk = a_desk()
    case = desk.case

    for command in (
        c.RecordPurchase(reference="D-1"),
        restates(case.purchase),
        CHECK,
        c.Recategorize(category=case.category),
    ):
        assert desk.do(ANA, command) == case
    assert desk.do(LOU, c.CorrectRequestedAt(requested_at=case.received_at, reason="looked again")) == case
    assert desk.do(ANA, c.Assign(assignee="ana")) == case


def test_nobody_states_that_a_purchase_is_checked_or_what_was_refunded_on_it() -> None:
    claimed = a_purchase(checked=True, refunded_minor=5, reserved_minor=7)

    assert Desk().open(purchase=claimed).purchase == a_purchase()
    assert a_desk(purchase=None).do(ANA, c.RecordPurchase(purchase=claimed)).purchase == a_purchase()


def test_a_case_that_names_another_purchase_leaves_the_first_to_the_others() -> None:
    desk = two_cases_with_one_purchase()
    proposal = desk.propose(euros("10.00"))

    moved = desk.do(ANA, c.RecordPurchase(purchase=a_purchase("700.00", reference="D-2")))

    assert moved.purchase == a_purchase("700.00", reference="D-2")
    assert desk.cases["B"].purchase == a_purchase(checked=True)
    assert desk.proposal(proposal).status is ProposalStatus.VOID


def test_an_unknown_reference_alone_links_nothing() -> None:
    assert wrong_fields(a_desk(), ANA, c.RecordPurchase(reference="D-9")) == ["reference"]


def test_no_case_may_be_left_with_a_request_from_before_its_purchase() -> None:
    desk = a_desk()
    desk.open("B", received_at=NOON - 10 * DAY)

    assert wrong_fields(desk, ANA, restates(desk.case.purchase, purchased_at=NOON - 9 * DAY)) == ["purchased_at"]


def test_a_purchase_keeps_the_currency_of_the_grounds_of_every_case() -> None:
    desk = two_cases_with_one_purchase()
    in_dollars = restates(desk.case.purchase, paid=parse_money("20000.00", "USD"))

    assert wrong_fields(desk, ANA, in_dollars) == ["paid.currency"]


def test_once_money_has_moved_reference_and_currency_are_fixed_and_paid_covers_it() -> None:
    desk = a_fresh_desk()
    proposal = desk.propose(euros("590.00"))
    desk.do(CLEO, begins(proposal))
    purchase = desk.case.purchase

    def are_fixed() -> bool:
        return (
            refusal(desk, ANA, restates(purchase, reference="D-2")) == {"reference_is_fixed"}
            and refusal(desk, ANA, c.RecordPurchase(reference="D-2")) == {"reference_is_fixed"}
            and refusal(desk, ANA, restates(purchase, paid=parse_money("900.00", "USD"))) == {"currency_is_fixed"}
            and refusal(desk, ANA, restates(purchase, paid=euros("589.99"))) == {"paid_covers_refunds"}
        )

    assert are_fixed()
    desk.do(DIRK, refunds(proposal))
    assert are_fixed()
    desk.do(DIRK, MONEY_CAME_BACK)
    assert desk.do(ANA, restates(purchase, paid=parse_money("1.00", "USD"))).purchase == a_fresh_purchase(
        "1.00", paid=parse_money("1.00", "USD")
    )


def test_facts_of_a_purchase_may_change_down_to_what_is_refunded() -> None:
    desk = a_desk()
    an_approved_refund("300.00").carry_out(desk)
    desk.do(DIRK, refunds(desk.case.proposals[-1]))

    desk.do(ANA, restates(desk.case.purchase, paid=euros("300.00")))

    assert the_purchase(desk).refunded_minor == the_purchase(desk).paid.amount_minor == 300_00
    assert not the_purchase(desk).checked


# What makes a proposal void.

CHANGES: dict[str, tuple[Actor, c.Command]] = {
    "a fact of the purchase": (ANA, restates(a_purchase(), deliverables_provided_at=NOON - 19 * DAY)),
    "the time of the request": (LOU, c.CorrectRequestedAt(requested_at=NOON - DAY, reason="the letter of Monday")),
    "the category": (ANA, c.Recategorize(category=Category.TECHNICAL)),
    "another ground": (
        ANA,
        c.RecordGround(kind=GroundKind.UNDELIVERED_PART, affected=euros("1.00"), statement="no report"),
    ),
    "a ground verified anew": (BO, c.VerifyGround(ground=FIRST_GROUND, verified=True, evidence="seen again")),
    "a ground found wrong": (BO, c.VerifyGround(ground=FIRST_GROUND, verified=False, evidence="was paid back before")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_facts_makes_open_proposals_void(change: str) -> None:
    desk = a_desk()
    for plan in (an_approved_refund(), an_approved_refund(approved_by=()), an_approved_credit()):
        plan.carry_out(desk)

    desk.do(*CHANGES[change])

    assert {one.status for one in desk.case.proposals} == {ProposalStatus.VOID}
    assert "proposal_is_not_void" in refusal(desk, CLEO, refunds(desk.case.proposals[0]))
    assert refusal(desk, DIRK, approves(desk.case.proposals[1])) >= {"proposal_is_not_void"}


def test_a_void_proposal_stays_void_though_the_facts_change_back() -> None:
    desk = a_desk()
    an_approved_refund().carry_out(desk)
    desk.do(ANA, c.Recategorize(category=Category.TECHNICAL))

    desk.do(ANA, c.Recategorize(category=Category.BILLING))

    assert desk.case.proposals[0].status is ProposalStatus.VOID


def test_a_changed_purchase_makes_the_proposals_of_every_linked_case_void() -> None:
    desk = two_cases_with_one_purchase()
    here, there = desk.propose(euros("10.00")), desk.propose(euros("10.00"), BO, "B")

    desk.do(ANA, restates(desk.case.purchase, package="launch and care"))

    assert desk.proposal(here).status is desk.proposal(there, "B").status is ProposalStatus.VOID


def test_letters_notes_checks_and_assignments_leave_proposals_as_they_are() -> None:
    desk = a_desk()
    an_approved_refund().carry_out(desk)

    for command in (a_letter(), from_the_client(), c.AddNote(text="hm"), CHECK):
        desk.do(ANA, command)
    desk.do(LOU, c.Assign(assignee="bo"))

    assert desk.case.proposals[0].status is ProposalStatus.APPROVED


def test_a_refund_elsewhere_voids_nothing_but_the_maximum_is_judged_again() -> None:
    desk = two_cases_with_one_purchase(amount="10000.00")
    proposed = desk.propose(euros("4000.00"))
    approved = desk.approve(desk.propose(euros("4000.00")), ELI)
    elsewhere = desk.propose(euros("7000.00"), BO, "B")
    desk.approve(elsewhere, CLEO, "B")
    desk.approve(elsewhere, DIRK, "B")

    desk.do(DIRK, refunds(elsewhere), "B")

    assert desk.proposal(proposed).status is ProposalStatus.PROPOSED
    assert desk.proposal(approved).status is ProposalStatus.APPROVED
    assert refusal(desk, ELI, approves(proposed)) == {"within_maximum"}
    assert refusal(desk, DIRK, begins(approved)) == {"within_maximum"}
    assert refusal(desk, DIRK, refunds(approved)) == {"within_maximum"}
    fitting = desk.propose(euros("3000.00"))
    desk.approve(fitting, ELI)
    assert desk.do(DIRK, refunds(fitting)).state is CaseState.REFUNDED
    assert the_purchase(desk).refunded_minor == 10_000_00


def test_a_full_refund_is_no_longer_full_after_a_refund_elsewhere() -> None:
    fresh = a_fresh_purchase()
    desk = a_fresh_desk()
    entitled = desk.propose(euros("590.00"))
    desk.now = NOON + 9 * DAY  # too late for P5
    desk.open("B", purchase=fresh)
    desk.investigate("B", by=BO)
    desk.ground(euros("90.00"), "B", recorded_by=BO)
    elsewhere = desk.approve(desk.propose(euros("90.00"), BO, "B"), CLEO, "B")
    desk.do(CLEO, refunds(elsewhere), "B")

    assert refusal(desk, CLEO, refunds(entitled)) == {"within_maximum"}
    assert desk.do(CLEO, refunds(desk.propose(euros("500.00")))).state is CaseState.REFUNDED


def test_what_is_reserved_elsewhere_cannot_be_proposed() -> None:
    desk = two_cases_with_one_purchase(amount="10000.00")
    elsewhere = desk.propose(euros("7000.00"), BO, "B")
    desk.approve(elsewhere, CLEO, "B")
    desk.approve(elsewhere, DIRK, "B")
    desk.do(DIRK, begins(elsewhere), "B")

    assert refusal(desk, ANA, proposes(euros("3000.01"))) == {"within_maximum"}

    desk.do(DIRK, fails(elsewhere), "B")
    assert desk.propose(euros("8000.00")).status is ProposalStatus.PROPOSED


# Which ground pays.


def test_grounds_are_consumed_in_the_order_of_their_verification() -> None:
    desk = a_desk(affected=None)
    first = desk.ground(euros("100.00"), verified_by=None)
    second = desk.ground(euros("60.00"))
    desk.do(BO, verifies(first))
    proposal = desk.approve(desk.propose(euros("90.00")))

    desk.do(DIRK, refunds(proposal))

    assert desk.proposal(proposal).grounds == (second.id, first.id)
    assert desk.proposal(proposal).shares == (
        Share(ground=second.id, amount_minor=60_00),
        Share(ground=first.id, amount_minor=30_00),
    )
    assert [ground.refunded_minor for ground in desk.case.grounds] == [30_00, 60_00]


def test_grounds_that_are_named_are_consumed_as_named() -> None:
    desk = a_desk(affected="100.00")
    second = desk.ground(euros("60.00"))
    proposal = desk.approve(desk.do(ANA, proposes(euros("90.00"), (second.id, FIRST_GROUND))).proposals[-1])

    desk.do(DIRK, refunds(proposal))

    assert [ground.refunded_minor for ground in desk.case.grounds] == [30_00, 60_00]


def test_one_error_is_not_repaid_twice() -> None:
    desk = a_desk(affected="300.00")
    both = [desk.approve(desk.propose(euros("200.00"))) for _ in range(2)]
    desk.do(DIRK, refunds(both[0]))
    desk.do(ANA, firing(Trigger.RESUME))

    assert refusal(desk, DIRK, refunds(both[1])) == {"within_maximum"}
    assert refusal(desk, ANA, proposes(euros("100.01"))) == {"within_maximum"}
    assert desk.do(DIRK, refunds(desk.approve(desk.propose(euros("100.00"))))).state is CaseState.REFUNDED


# Payouts.


def test_a_payout_reserves_the_amount_and_its_confirmation_refunds_it() -> None:
    desk = two_cases_with_one_purchase()
    an_approved_refund("300.00").carry_out(desk)
    proposal = desk.case.proposals[-1]

    paying = desk.do(DIRK, begins(proposal))
    assert paying.state is CaseState.INVESTIGATING
    assert desk.proposal(proposal).status is ProposalStatus.PAYING
    assert (the_purchase(desk).refunded_minor, the_purchase(desk).reserved_minor) == (0, 300_00)

    paid = desk.do(ELI, refunds(proposal))
    assert paid.state is CaseState.REFUNDED
    assert desk.proposal(proposal).status is ProposalStatus.SETTLED
    assert desk.proposal(proposal).payment_reference == "TR-1"
    assert (the_purchase(desk).refunded_minor, the_purchase(desk).reserved_minor) == (300_00, 0)


def test_a_failed_payout_releases_the_amount_and_can_be_begun_again() -> None:
    desk = two_cases_with_one_purchase()
    an_approved_refund("300.00").carry_out(desk)
    proposal = desk.case.proposals[-1]
    desk.do(DIRK, begins(proposal))

    failed = desk.do(DIRK, fails(proposal))

    assert failed.state is CaseState.INVESTIGATING
    assert desk.proposal(proposal).status is ProposalStatus.APPROVED
    assert not the_purchase(desk).has_moved_money
    desk.do(DIRK, begins(proposal))
    assert desk.do(DIRK, refunds(proposal)).state is CaseState.REFUNDED


def test_a_failed_full_refund_still_needs_no_approval() -> None:
    desk = a_fresh_desk()
    proposal = desk.propose(euros("590.00"))
    desk.do(CLEO, begins(proposal))

    desk.do(CLEO, fails(proposal))

    assert desk.proposal(proposal).status is ProposalStatus.PROPOSED
    assert desk.do(CLEO, refunds(proposal)).state is CaseState.REFUNDED


def test_a_payout_fails_only_while_it_is_under_way() -> None:
    desk = a_desk()
    an_approved_refund().carry_out(desk)
    proposal = desk.case.proposals[-1]

    assert refusal(desk, CLEO, fails(proposal)) == {"payout_is_under_way"}
    desk.do(DIRK, refunds(proposal))
    assert refusal(desk, CLEO, fails(proposal)) == {"payout_is_under_way"}


@pytest.mark.parametrize("change", CHANGES)
def test_facts_that_change_while_money_is_on_its_way_void_nothing(change: str) -> None:
    desk = a_desk()
    an_approved_refund().carry_out(desk)
    proposal = desk.case.proposals[-1]
    desk.do(DIRK, begins(proposal))

    desk.do(*CHANGES[change])

    assert desk.proposal(proposal).status is ProposalStatus.PAYING
    assert desk.do(DIRK, refunds(proposal)).state is CaseState.REFUNDED
    assert the_purchase(desk).refunded_minor == 300_00


@pytest.mark.parametrize("change", CHANGES)
def test_facts_that_changed_on_the_way_leave_a_failed_payout_void(change: str) -> None:
    desk = a_desk()
    an_approved_refund().carry_out(desk)
    proposal = desk.case.proposals[-1]
    desk.do(DIRK, begins(proposal))
    desk.do(*CHANGES[change])

    desk.do(DIRK, fails(proposal))

    assert desk.proposal(proposal).status is ProposalStatus.VOID
    assert not the_purchase(desk).has_moved_money


def test_money_that_came_back_lowers_the_sums_of_purchase_and_grounds() -> None:
    desk = two_cases_with_one_purchase(affected="300.00")
    an_approved_refund("300.00").carry_out(desk)
    proposal = desk.case.proposals[-1]
    desk.do(DIRK, refunds(proposal))

    back = desk.do(CLEO, MONEY_CAME_BACK)

    assert back.state is CaseState.INVESTIGATING
    assert back.grounds[0].refunded_minor == the_purchase(desk).refunded_minor == 0
    assert back.remedies[-1].ended == "payment_failed"
    assert desk.proposal(proposal).status is ProposalStatus.VOID
    assert [one.event.type for one in desk.histories["A"][-3:]] == ["resumed", "payment_reversed", "purchase_changed"]
    assert desk.do(DIRK, refunds(desk.approve(desk.propose(euros("300.00"))))).state is CaseState.REFUNDED


def test_the_refund_that_came_back_is_the_one_paid_last_not_the_one_proposed_last() -> None:
    desk = a_desk(affected="300.00")
    first = desk.approve(desk.propose(euros("100.00")))
    second = desk.approve(desk.propose(euros("50.00")))
    desk.do(DIRK, refunds(second))
    desk.do(ANA, firing(Trigger.RESUME))
    desk.do(DIRK, refunds(first))

    desk.do(CLEO, MONEY_CAME_BACK)

    assert desk.proposal(first).status is ProposalStatus.VOID
    assert desk.proposal(second).status is ProposalStatus.SETTLED
    assert the_purchase(desk).refunded_minor == desk.case.grounds[0].refunded_minor == 50_00


# Closing, withdrawing.


def test_closing_withdraws_what_is_still_open_and_leaves_what_is_settled() -> None:
    desk = a_desk()
    for plan in (an_approved_refund(), an_approved_refund(approved_by=()), an_approved_credit()):
        plan.carry_out(desk)
    desk.do(DIRK, refunds(desk.case.proposals[0]))
    desk.do(ANA, a_letter())

    closed = desk.do(ANA, closing(Resolution.REMEDY_ACCEPTED))

    assert [one.status for one in closed.proposals] == [
        ProposalStatus.SETTLED,
        ProposalStatus.WITHDRAWN,
        ProposalStatus.WITHDRAWN,
    ]
    assert closed.resolution is Resolution.REMEDY_ACCEPTED


def test_a_withdrawn_proposal_is_neither_approved_nor_paid_nor_withdrawn_again() -> None:
    desk = a_desk()
    proposal = desk.propose(euros("10.00"))
    withdrawing = c.WithdrawProposal(proposal=proposal.id, reason="a slip")

    desk.do(ANA, withdrawing)

    assert refusal(desk, CLEO, approves(proposal)) == {"proposal_is_open"}
    assert refusal(desk, CLEO, refunds(proposal)) == {"proposal_is_approved"}
    assert refusal(desk, ANA, withdrawing) == {"proposal_is_open"}


def test_a_duplicate_names_another_case_of_the_desk() -> None:
    desk = a_desk()
    desk.open("B")

    assert wrong_fields(desk, ANA, closing(Resolution.DUPLICATE, "A")) == ["data.duplicate_of"]
    assert wrong_fields(desk, ANA, closing(Resolution.DUPLICATE, "Z")) == ["data.duplicate_of"]
    assert wrong_fields(desk, ANA, closing(Resolution.SPAM, "B")) == ["data.duplicate_of"]
    assert desk.do(ANA, closing(Resolution.DUPLICATE, "B")).state is CaseState.CLOSED


# Which version of the policy.


def test_the_window_is_the_one_in_force_at_the_purchase() -> None:
    shorter = replace(V1, version=2, effective_from=NOON - DAY, settings=Settings(window_days=1))
    desk = Desk(V1, shorter)
    desk.open("A", purchase=a_fresh_purchase(reference="D-1"))  # bought the day before the change
    desk.now = NOON + 4 * DAY
    desk.open("B", purchase=a_fresh_purchase(reference="D-2", purchased_at=NOON))
    for case_id in ("A", "B"):
        desk.investigate(case_id)
        desk.do(ANA, CHECK, case_id)

    kept = desk.propose(euros("590.00"))

    assert kept.judgement is not None
    assert (kept.judgement.policy, kept.judgement.clauses) == (1, ("P5",))
    assert refusal(desk, ANA, proposes(euros("590.00")), "B") == {"within_maximum"}


def test_a_decision_is_recorded_with_its_version_its_clauses_and_the_facts_it_saw() -> None:
    desk = a_desk(affected="300.00")

    judgement = desk.propose(euros("200.00")).judgement

    assert judgement is not None
    assert (judgement.policy, judgement.clauses, judgement.needs_approval) == (1, ("P6",), True)
    assert judgement.maximum == euros("300.00")
    assert judgement.facts == desk.case.facts


def test_the_last_day_of_an_offer_is_a_day_in_the_zone_of_the_desk() -> None:
    desk = a_desk(replace(V1, settings=Settings(timezone="Pacific/Auckland")))
    desk.now = datetime(2026, 3, 5, 12, tzinfo=UTC)  # the 6th in Auckland

    assert wrong_fields(desk, ANA, firing(Trigger.OFFER_ADJUSTMENT, answer_by=date(2026, 3, 5))) == ["data.answer_by"]
    offered = desk.do(ANA, firing(Trigger.OFFER_ADJUSTMENT, answer_by=date(2026, 3, 6)))

    assert offered.offer_due == datetime(2026, 3, 6, 10, 59, 59, 999_999, tzinfo=UTC)


# What makes no sense whatever the state.


@pytest.mark.parametrize(
    ("command", "field"),
    [
        (firing(Trigger.OFFER_ADJUSTMENT, answer_by=NOON.date() - DAY), "data.answer_by"),
        (firing(Trigger.OFFER_ADJUSTMENT, answer_by=date.max), "data.answer_by"),
        (firing(Trigger.SCHEDULE_CONSULTATION, starts_at=NOON), "data.starts_at"),
        (firing(Trigger.SCHEDULE_CONSULTATION, starts_at=datetime.max.replace(tzinfo=UTC)), "data.starts_at"),
        (firing(Trigger.SCHEDULE_CONSULTATION, minutes=0), "data.minutes"),
        (firing(Trigger.SCHEDULE_CONSULTATION, minutes=1441), "data.minutes"),
        (firing(Trigger.ISSUE_COMPENSATION, proposal="p99"), "data.proposal"),
        (proposes(euros("0.00")), "amount.amount"),
        (proposes(parse_money("1.00", "USD")), "amount.currency"),
        (replace(proposes(euros("1.00")), kind=CompensationKind.DISCOUNT), "kind"),
        (c.Propose(remedy=RemedyKind.COMPENSATION, amount=euros("1.00"), reason="sorry"), "kind"),
        (
            c.Propose(
                remedy=RemedyKind.COMPENSATION,
                amount=euros("1.00"),
                kind=CompensationKind.DISCOUNT,
                grounds=(FIRST_GROUND,),
                reason="sorry",
            ),
            "grounds",
        ),
        (
            c.RecordGround(kind=GroundKind.BILLING_ERROR, affected=parse_money("1", "JPY"), statement="twice"),
            "affected.currency",
        ),
        (replace(from_the_client(), awaits_reply=True), "awaits_reply"),
        (c.LinkCase(kind=LinkKind.RELATED, case="A"), "case"),
        (c.LinkCase(kind=LinkKind.RELATED, case="Z"), "case"),
        (
            c.SetParticipants(participants=tuple(f"{n}@example.com" for n in range(MAX_PARTICIPANTS + 1))),
            "participants",
        ),
    ],
)
def test_bad_input_names_its_field(command: c.Command, field: str) -> None:
    assert wrong_fields(a_desk(), ANA, command) == [field]


@pytest.mark.parametrize("requested_at", [NOON + timedelta(hours=1), NOON - 31 * DAY])
def test_a_request_was_made_after_the_purchase_and_not_in_the_future(requested_at: datetime) -> None:
    correction = c.CorrectRequestedAt(requested_at=requested_at, reason="as she says")

    assert wrong_fields(a_desk(), LOU, correction) == ["requested_at"]


def test_named_grounds_are_verified_ones_of_this_case_each_named_once() -> None:
    desk = a_desk()
    unverified = desk.ground(euros("1.00"), verified_by=None)

    fields = wrong_fields(desk, ANA, proposes(euros("1.00"), (FIRST_GROUND, "g99", unverified.id, FIRST_GROUND)))

    assert fields == ["grounds[1]", "grounds[2]", "grounds[3]"]


def test_all_grounds_of_a_case_are_in_one_currency_though_no_purchase_is_known() -> None:
    desk = a_desk(purchase=None)
    desk.ground(euros("1.00"))
    in_dollars = c.RecordGround(
        kind=GroundKind.BILLING_ERROR, affected=parse_money("1.00", "USD"), statement="in dollars"
    )

    assert wrong_fields(desk, ANA, in_dollars) == ["affected.currency"]
    assert wrong_fields(desk, ANA, c.RecordPurchase(purchase=a_purchase("9.00", "USD"))) == ["paid.currency"]


def test_a_case_has_at_most_a_hundred_grounds_so_that_a_decision_fits_one_event() -> None:
    desk = a_desk()
    for _ in range(MAX_GROUNDS - 1):
        desk.ground(parse_money("90071992547409.91", "EUR"))
    desk.propose(euros("20000.00"))

    assert len(canonical(desk.histories["A"][-1].event)) < MAX_BYTES
    assert wrong_fields(
        desk, ANA, c.RecordGround(kind=GroundKind.BILLING_ERROR, affected=euros("1.00"), statement="one more")
    ) == ["kind"]


# The conversation and the rest.


def test_files_sent_with_a_letter_belong_to_it() -> None:
    desk = a_desk()

    desk.do(MAIL, replace(from_the_client(), attachments=(ATTACHMENT,)))

    letter, file = desk.histories["A"][-2:]
    assert letter.event.type == "message_received"
    assert file.data == AttachmentAdded(
        attachment="x1", content_type="application/pdf", size=4, message=f"m{letter.event.seq}"
    )


def test_participants_are_the_client_and_whoever_else_is_named_once() -> None:
    desk = a_desk()

    case = desk.do(ANA, c.SetParticipants(participants=("a@example.com", "b@example.com", "a@example.com")))

    assert case.participants == ("1/client_email", f"{case.version}/participant_0", f"{case.version}/participant_1")


def test_a_link_is_made_once() -> None:
    desk = a_desk()
    desk.open("B")
    linking = c.LinkCase(kind=LinkKind.RELATED, case="B")

    linked = desk.do(ANA, linking)

    assert desk.do(ANA, linking) == linked
    assert [(link.kind, link.case) for link in linked.links] == [(LinkKind.RELATED, "B")]
