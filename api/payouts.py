"""Payouts that a provider carries out: asked for once, and recorded as the provider says that they ended."""

from datetime import timedelta
from enum import StrEnum

import structlog

from api.carrying_out import Done, Failed, Hopeless, Needless, NotYet, Result
from api.desk import Desk
from api.payments import LookupRefused, Order, Payment, PaymentRefused, Payments, PaymentStatus, ProviderSilent
from storage import cases
from storage.outbox import Effect
from workflow import commands as c
from workflow.cases import Case, Proposal, chain_of
from workflow.effects import EffectKind
from workflow.errors import CaseworkError, Refused, StaleVersion
from workflow.events import PayoutBegun, PayoutFailed, PurchaseChanged, Recorded, Refunded
from workflow.guards import last_settled_refund
from workflow.states import CaseState, ProposalStatus, ResumeReason, Trigger

log = structlog.get_logger()

SOONEST, LATEST = timedelta(seconds=20), timedelta(hours=1)
NEW = timedelta(minutes=2)  # a payout that nobody else can have asked for
LOOKUPS = 3  # as long as an index of the provider may lag behind, by the pauses between attempts
TRIES = 5  # each after somebody has changed the case at the very same moment


class Told(StrEnum):
    """What came of what a provider said of a payment."""

    RECORDED = "recorded"  # now, or before
    PENDING = "pending"
    UNKNOWN = "unknown"  # the ledger has no place for it: reconciliation names it


class Unsettled(CaseworkError):
    """The ledger refuses what the provider says, again and again, and the case gives no reason for it."""


async def pay(desk: Desk, effect: Effect) -> Result:
    """Ask the provider for the payout that the effect's event began, unless it has it already, and record its answer.

    It is looked for first whatever the fence says: an outbox that was restored from a backup counts anew.
    """
    provider = desk.payments
    if provider is None:
        return Hopeless(code="no_payment_provider")
    history = [one for one, _ in await cases.events(desk.database, effect.chain.removeprefix(chain_of("")))]
    if (ended := end_of(history, effect.seq)) is not None:
        return ended
    order = order_of(history, effect, (await desk.directory()).log)
    is_first = effect.fence == 1 and not effect.failures and desk.clock() - effect.at < NEW
    try:
        payment = await asked_for(provider, order, is_first=is_first)
    except PaymentRefused as refused:
        await release(desk, order, str(refused))
        return Needless(code="payout_failed")
    except LookupRefused as unclear:  # the money may have left: nothing but a person may say that it has not
        kind = Failed if effect.failures < LOOKUPS else Hopeless
        return kind(code="payment_not_shown", detail=str(unclear))
    except ProviderSilent as silent:
        return Failed(code=silent.code, detail=silent.detail)
    told = await record(desk, payment, via="timer")
    if told is Told.PENDING:
        age = desk.clock() - effect.at
        return NotYet(after=min(max(age / 4, SOONEST), LATEST))
    if told is Told.UNKNOWN:
        return Hopeless(code="payment_differs", detail=payment.id)
    return Done(reference=payment.id) if payment.status is PaymentStatus.SUCCEEDED else Needless(code="payout_failed")


async def asked_for(provider: Payments, order: Order, *, is_first: bool) -> Payment:
    """The payment of the order's proposal, as it was found or is made now.

    Raises PaymentRefused where nothing has left and nothing will; LookupRefused and ProviderSilent where nobody can
    tell. A sale that the provider does not show proves the former only as long as nobody has asked for its refund.
    """
    try:
        found = best(await provider.find(order), order)
    except LookupRefused as refused:
        if is_first:
            raise PaymentRefused(str(refused)) from refused
        raise
    if found is not None:
        return found
    try:
        return await provider.refund(order)
    except PaymentRefused:
        # The same request, made at the same time by somebody whose claim had run out, may be why.
        if (found := best(await provider.find(order), order)) is not None:
            return found
        raise


def best(found: tuple[Payment, ...], order: Order) -> Payment | None:
    """Money that is on its way for the proposal, by whichever payout; or what became of this very one."""
    for status in (PaymentStatus.SUCCEEDED, PaymentStatus.PENDING):
        for one in found:
            if one.status is status:
                return one
    return next((one for one in found if one.key == order.key), None)


def end_of(history: list[Recorded], seq: int) -> Result | None:
    """What became of the payout that the event `seq` began; None while it is under way."""
    (begun,) = (one.data for one in history if one.event.seq == seq)
    if not isinstance(begun, PayoutBegun):
        return Hopeless(code="not_a_payout")
    for one in history[seq:]:
        match one.data:
            case Refunded(proposal=proposal, payment_reference=reference) if proposal == begun.proposal:
                by_hand = one.event.actor.startswith("person:")
                return Needless(code="paid_by_hand") if by_hand else Done(reference=reference)
            case PayoutFailed(proposal=proposal) if proposal == begun.proposal:
                return Needless(code="payout_failed")
    return None


def order_of(history: list[Recorded], effect: Effect, log_name: str) -> Order:
    (begun,) = (one.data for one in history if one.event.seq == effect.seq and isinstance(one.data, PayoutBegun))
    purchases = [one.data.purchase for one in history[: effect.seq] if isinstance(one.data, PurchaseChanged)]
    return Order(
        key=effect.key,
        purchase=purchases[-1].reference,  # no payout begins without one
        amount=begun.amount,
        log=log_name,
        case=effect.chain.removeprefix(chain_of("")),
        proposal=begun.proposal,
    )


# Recording what a provider says.


async def record(desk: Desk, payment: Payment, *, via: str) -> Told:
    """Bring the case to what the provider knows of its payment. Repeated, reordered and late news change nothing.

    The ledger refuses what somebody else has recorded meanwhile; then the case is read anew.
    """
    for _ in range(TRIES):
        entry = await cases.one(desk.database, payment.case)
        proposal = entry.case.proposal(payment.proposal) if entry else None
        if entry is None or proposal is None:
            return Told.UNKNOWN
        told = await told_already(desk, entry.case, proposal, payment)
        if told is not None:
            return told
        command = step(entry.case, proposal, payment)
        if command is None:
            log.warning("payment_unknown", case=payment.case, payment=payment.id, status=payment.status)
            return Told.UNKNOWN
        try:
            await submit(desk, command, entry.case, via)
        except (StaleVersion, Refused):
            continue
        return Told.RECORDED
    raise Unsettled(payment.case)


async def told_already(desk: Desk, case: Case, proposal: Proposal, payment: Payment) -> Told | None:
    """What there is to say without changing anything."""
    if payment.status is PaymentStatus.PENDING:
        return Told.PENDING if proposal.status is ProposalStatus.PAYING else Told.UNKNOWN
    if proposal.payment_reference == payment.id:
        stands = proposal.status is ProposalStatus.SETTLED
        return Told.RECORDED if stands == (payment.status is PaymentStatus.SUCCEEDED) else None
    if payment.status is PaymentStatus.FAILED:
        under_way = proposal.status is ProposalStatus.PAYING and payment.key == await key_under_way(desk, case)
        return None if under_way else Told.RECORDED  # an earlier payout, which was released when it failed
    return None


def step(case: Case, proposal: Proposal, payment: Payment) -> c.Command | None:
    """What the news changes; None where the ledger has no place for them."""
    is_own = proposal.payment_reference == payment.id
    match payment.status, proposal.status:
        case PaymentStatus.SUCCEEDED, ProposalStatus.PAYING if payment.amount == proposal.amount:
            data = c.RefundData(proposal=proposal.id, payment_reference=payment.id)
            return c.Fire(trigger=Trigger.REFUND, reason="the payment provider confirms it", data=data)
        case PaymentStatus.FAILED, ProposalStatus.PAYING:
            return c.FailPayout(proposal=proposal.id, reason=payment.reason or "the payment provider gives no reason")
        case PaymentStatus.FAILED, ProposalStatus.SETTLED if is_own:
            return came_back(case, proposal, payment)
        case _:
            return None


def came_back(case: Case, proposal: Proposal, payment: Payment) -> c.Command:
    reason = payment.reason or "the payment provider gives no reason"
    if case.state is CaseState.REFUNDED and last_settled_refund(case) == proposal:
        data = c.ResumeData(reason_code=ResumeReason.PAYMENT_FAILED, payment_reference=payment.id)
        return c.Fire(trigger=Trigger.RESUME, reason=reason, data=data)
    return c.ReversePayment(proposal=proposal.id, reason=reason, payment_reference=payment.id)


async def key_under_way(desk: Desk, case: Case) -> str:
    """Of the payout that began last."""
    history = await cases.events(desk.database, case.id)
    begun = max((one.event.seq for one, _ in history if isinstance(one.data, PayoutBegun)), default=0)
    return f"{case.chain}/{begun}/{EffectKind.PAY}"


async def release(desk: Desk, order: Order, reason: str) -> None:
    """The provider has said no: the payout of this order, if it is still under way, has failed."""
    refused = Payment(
        id="",
        status=PaymentStatus.FAILED,
        amount=order.amount,
        at=desk.clock(),
        reason=reason,
        **{field: getattr(order, field) for field in ("key", "log", "case", "proposal")},
    )
    await record(desk, refused, via="timer")


async def submit(desk: Desk, command: c.Command, case: Case, via: str) -> None:
    """As the provider. That a payout failed is so of the one that was read: another may have begun since."""
    if desk.payments is None:
        raise RuntimeError("nobody but a provider can say this")
    expected = case.version if isinstance(command, c.FailPayout) else None
    await desk.submit_as_system(desk.payments.name, command, case.id, via=via, expected=expected)
