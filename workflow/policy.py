"""When money may go back: the refund policy as data, and decisions as a pure function of recorded facts."""

from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, date, datetime, tzinfo
from decimal import Decimal
from enum import StrEnum

import msgspec

from workflow import timezones
from workflow.canonical import Integer
from workflow.errors import FieldError, ImpossibleFacts, InvalidMoney, InvalidPolicy, UnknownTimeZone
from workflow.money import PLAIN_DECIMAL, Money, checked
from workflow.roles import APPROVERS, Role
from workflow.states import RemedyKind


class Category(StrEnum):
    BILLING = "billing"
    MISCOMMUNICATION = "miscommunication"
    DELAY = "delay"
    TECHNICAL = "technical"
    UNDELIVERED = "undelivered"
    CANCELLATION = "cancellation"
    RESULTS = "results"
    OTHER = "other"


class GroundKind(StrEnum):
    BILLING_ERROR = "billing_error"
    TECHNICAL_FAILURE = "technical_failure"
    UNDELIVERED_PART = "undelivered_part"


class Refund(StrEnum):
    FULL = "full"  # all that is left of the payment may go back
    PARTIAL = "partial"
    NONE = "none"


class ClauseId(StrEnum):
    P1 = "P1"
    P2 = "P2"
    P3 = "P3"
    P4 = "P4"
    P5 = "P5"
    P6 = "P6"
    P7 = "P7"
    P8 = "P8"
    P9 = "P9"


class ReasonCode(StrEnum):
    """A decision gives its reasons in this order."""

    NO_PURCHASE = "no_purchase"
    NOTHING_LEFT = "nothing_left"
    BEFORE_DELIVERY = "before_delivery"
    OUTSIDE_WINDOW = "outside_window"
    ALREADY_DELIVERED = "already_delivered"
    GROUND_VERIFIED = "ground_verified"
    GROUND_UNVERIFIED = "ground_unverified"
    NO_GROUND = "no_ground"
    RESULTS_NOT_GUARANTEED = "results_not_guaranteed"


# P3: offered whatever becomes of the refund.
REMEDIES = (RemedyKind.ADJUSTMENT, RemedyKind.CONSULTATION, RemedyKind.COMPENSATION)


class PurchaseFacts(msgspec.Struct, frozen=True, kw_only=True):
    paid: Money
    purchased_at: datetime
    service_started_at: datetime | None
    deliverables_provided_at: datetime | None


class GroundFacts(msgspec.Struct, frozen=True, kw_only=True):
    kind: GroundKind
    verified: bool
    affected: Money
    refunded: Money | None = None  # on this ground before


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All that a decision sees. Times need an offset, any offset; `refunded` is over all cases of the purchase."""

    requested_at: datetime
    category: Category
    purchase: PurchaseFacts | None
    refunded: Money | None = None
    grounds: tuple[GroundFacts, ...] = ()


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """`text` is one sentence for a client: what was found, never a promise."""

    code: ReasonCode
    text: str


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    refund: Refund
    maximum: Money | None  # absent where there is no purchase
    clauses: tuple[ClauseId, ...]
    reasons: tuple[Reason, ...]
    policy: Integer
    needs_approval: bool = False
    remedies: tuple[RemedyKind, ...] = REMEDIES


class Tier(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`up_to` is in major units of whatever currency, as a plain decimal, inclusive; None is without limit."""

    up_to: str | None
    roles: tuple[Role, ...]
    count: Integer  # different people


class ApprovalRule(msgspec.Struct, frozen=True, kw_only=True):
    roles: tuple[Role, ...]
    count: Integer


# FCA DISP 1.9.1R: records of complaints are kept for three years, whichever of them is a leap year.
RETENTION_DAYS = 3 * 365 + 1


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers of a policy version."""

    timezone: str = "UTC"
    window_days: Integer = 7
    grounds: tuple[GroundKind, ...] = tuple(GroundKind)
    tiers: tuple[Tier, ...] = (
        Tier(up_to="500.00", roles=(Role.LEAD, Role.APPROVER), count=1),
        Tier(up_to="5000.00", roles=(Role.APPROVER,), count=1),
        Tier(up_to=None, roles=(Role.APPROVER,), count=2),
    )
    reopening_days: Integer = 30
    first_answer_hours: Integer = 24
    next_update_days: Integer = 7
    # Left out of the bytes where a version does not set it: those that were recorded before stay as they are.
    retention_days: Integer | msgspec.UnsetType = msgspec.UNSET

    @property
    def kept_days(self) -> int:
        """How long a closed case's personal data are kept."""
        return RETENTION_DAYS if isinstance(self.retention_days, msgspec.UnsetType) else self.retention_days


class Clause(msgspec.Struct, frozen=True, kw_only=True):
    id: ClauseId
    text: str


# What each clause says, in our own words.
CLAUSES = (
    Clause(
        id=ClauseId.P1,
        text="What we sell is work done online for one brand, not goods to send back: "
        "effort spent on planning, creation or set-up cannot be returned.",
    ),
    Clause(
        id=ClauseId.P2,
        text="If anything falls short, be it an invoice, a misunderstanding, a delay or more, write at once.",
    ),
    Clause(
        id=ClauseId.P3,
        text="We look into every case and offer a way out: "
        "changes to the campaign, further consultation, or compensation in another form.",
    ),
    Clause(
        id=ClauseId.P4,
        text="Work already done is as a rule not refunded; only P5 and P6 make exceptions.",
    ),
    Clause(
        id=ClauseId.P5,
        text="For some days after the purchase all of the payment can be asked back, "
        "as long as the service has not begun or nothing has been handed over.",
    ),
    Clause(
        id=ClauseId.P6,
        text="Where we verified an error in billing, a failure of our technology or a promised part that never came, "
        "some or all of the payment may go back once the case has been reviewed.",
    ),
    Clause(
        id=ClauseId.P7,
        text="Marketing depends on much beyond our reach, so nobody is guaranteed a particular result.",
    ),
    Clause(
        id=ClauseId.P8,
        text="We owe openness, professional work and steady improvement; "
        "clients owe correct facts about their goals and feedback in good time.",
    ),
    Clause(
        id=ClauseId.P9,
        text="We want to be fair: whoever writes to support is helped, with care and with a personal answer.",
    ),
)


class PolicyVersion(msgspec.Struct, frozen=True, kw_only=True):
    version: Integer
    effective_from: datetime | None  # since always, if None
    settings: Settings
    clauses: tuple[Clause, ...] = CLAUSES


def evaluate(facts: Facts, version: PolicyVersion, timezone: str | None = None) -> Decision:
    """What the policy allows on these facts; the same facts and version always give the same decision.

    `timezone` replaces the version's own. Raises ImpossibleFacts with every field at fault at once, and nothing else.
    """
    settings = version.settings
    zone_name = settings.timezone if timezone is None else timezone
    if faults := _faults(facts, zone_name):
        raise ImpossibleFacts(*_errors(faults))
    if facts.purchase is None:
        return _nothing_due(facts, version, None, [_NO_PURCHASE])
    left = Money(facts.purchase.paid.amount_minor - _minor(facts.refunded), facts.purchase.paid.currency)
    if left.amount_minor == 0:
        return _nothing_due(facts, version, left, [_nothing_left(facts.purchase.paid)])

    window = _Window(facts.purchase, facts.requested_at, zone_name, settings.window_days)
    if window.is_open and not window.is_delivered:
        return Decision(
            refund=Refund.FULL,
            maximum=left,
            clauses=(ClauseId.P5,),
            reasons=(window.before_delivery(),),
            policy=version.version,
        )

    grounds = [ground for ground in facts.grounds if ground.kind in settings.grounds]
    repayable = sum(_minor(ground.affected) - _minor(ground.refunded) for ground in grounds if ground.verified)
    maximum = Money(min(repayable, left.amount_minor), left.currency)
    reasons = [*window.why_not(), *_about_grounds(grounds, maximum, settings.grounds)]
    if maximum.amount_minor == 0:
        return _nothing_due(facts, version, maximum, reasons)
    return Decision(
        refund=Refund.FULL if maximum == left else Refund.PARTIAL,
        maximum=maximum,
        needs_approval=True,
        clauses=(ClauseId.P6,),
        reasons=tuple(reasons),
        policy=version.version,
    )


def approvals_needed(amount: Money, settings: Settings) -> ApprovalRule:
    """Who may approve this amount, and how many different people it takes. Raises InvalidMoney."""
    tier = tier_of(amount, settings)
    return ApprovalRule(roles=tier.roles, count=tier.count)


def tier_of(amount: Money, settings: Settings) -> Tier:
    """The first that goes so far. Raises InvalidMoney."""
    major = Decimal(amount.decimal_text())
    return next(tier for tier in settings.tiers if tier.up_to is None or major <= Decimal(tier.up_to))


def version_in_force(versions: Sequence[PolicyVersion], at: datetime) -> PolicyVersion:
    """Each version holds from its instant until the next one's; of two with the same instant, the later added."""
    if len(versions) == 1:
        return versions[0]
    always = datetime.min.replace(tzinfo=UTC)
    effective = [one for one in versions if one.effective_from is None or one.effective_from <= at]
    return max(effective, key=lambda one: (one.effective_from or always, one.version))


def first_version(timezone: str = "UTC") -> PolicyVersion:
    """Version 1, in force since always. Raises InvalidPolicy for an unknown time zone."""
    return _valid(PolicyVersion(version=1, effective_from=None, settings=Settings(timezone=timezone)))


def next_version(
    versions: Sequence[PolicyVersion],
    settings: Settings,
    now: datetime,
    effective_from: datetime | None = None,
    clauses: tuple[Clause, ...] = CLAUSES,
) -> PolicyVersion:
    """The version that an admin adds, effective now unless later. Raises InvalidPolicy with every field at fault.

    What was decided stays as it was: no version can begin in the past.
    """
    version = PolicyVersion(
        version=max(one.version for one in versions) + 1,
        effective_from=now if effective_from is None else effective_from,
        settings=settings,
        clauses=clauses,
    )
    return _valid(version, now)


def _nothing_due(facts: Facts, version: PolicyVersion, maximum: Money | None, reasons: Sequence[Reason]) -> Decision:
    """P4 decides; in category results P7 joins it, and its reason too unless there is nothing left to speak of."""
    clauses: tuple[ClauseId, ...] = (ClauseId.P4,)
    if facts.category == Category.RESULTS:
        clauses = (ClauseId.P4, ClauseId.P7)
        if reasons[0].code != ReasonCode.NOTHING_LEFT:
            reasons = [*reasons, _RESULTS_NOT_GUARANTEED]
    return Decision(
        refund=Refund.NONE, maximum=maximum, clauses=clauses, reasons=tuple(reasons), policy=version.version
    )


class _Window:
    """P5 in calendar days of the desk's zone, by label (reading 3), and as of the request (reading 1)."""

    def __init__(self, purchase: PurchaseFacts, requested_at: datetime, zone_name: str, days: int) -> None:
        zone = timezones.zone(zone_name)
        self.requested = _local_date(requested_at, zone)
        self.purchased = _local_date(purchase.purchased_at, zone)
        self.days = "1 day" if days == 1 else f"{days} days"
        self.is_open = (self.requested - self.purchased).days <= days
        self.started = _had_happened(purchase.service_started_at, requested_at)
        self.provided = _had_happened(purchase.deliverables_provided_at, requested_at)
        self.is_delivered = self.started and self.provided

    def before_delivery(self) -> Reason:
        missing = "the service had not started" if not self.started else "no deliverables had been provided"
        return Reason(
            code=ReasonCode.BEFORE_DELIVERY,
            text=f"The request of {self.requested} came within {self.days} of the purchase on {self.purchased}, "
            f"and at that time {missing}.",
        )

    def why_not(self) -> Iterator[Reason]:
        if not self.is_open:
            yield Reason(
                code=ReasonCode.OUTSIDE_WINDOW,
                text=f"The request of {self.requested} came more than {self.days} after the purchase "
                f"on {self.purchased}.",
            )
        if self.is_delivered:
            yield Reason(
                code=ReasonCode.ALREADY_DELIVERED,
                text=f"By the time of the request on {self.requested} the service had started "
                "and deliverables had been provided.",
            )


_NO_PURCHASE = Reason(
    code=ReasonCode.NO_PURCHASE, text="We found no purchase that this request belongs to, so no payment to give back."
)
_RESULTS_NOT_GUARANTEED = Reason(
    code=ReasonCode.RESULTS_NOT_GUARANTEED,
    text="Results in marketing depend on much that we do not control, "
    "so results below expectation are by themselves no ground for a refund.",
)
_GROUND_NAMES = {
    GroundKind.BILLING_ERROR: "an error in billing",
    GroundKind.TECHNICAL_FAILURE: "a technical failure on our side",
    GroundKind.UNDELIVERED_PART: "a promised part of the service not delivered",
}


def _nothing_left(paid: Money) -> Reason:
    text = f"All of the {paid} paid has already been returned." if paid.amount_minor else "Nothing was paid."
    return Reason(code=ReasonCode.NOTHING_LEFT, text=text)


def _about_grounds(
    grounds: Sequence[GroundFacts], maximum: Money, recognised: Collection[GroundKind]
) -> Iterator[Reason]:
    verified = {ground.kind for ground in grounds if ground.verified}
    unverified = {ground.kind for ground in grounds if not ground.verified}
    if verified:
        due = f"up to {maximum} is open for it" if maximum.amount_minor else "nothing is open for it"
        yield Reason(code=ReasonCode.GROUND_VERIFIED, text=f"We verified {_named(verified, 'and')}; {due}.")
    if unverified:
        text = f"We have not verified {_named(unverified, 'or')} as reported, so it does not count yet."
        yield Reason(code=ReasonCode.GROUND_UNVERIFIED, text=text)
    if not grounds:
        yield Reason(code=ReasonCode.NO_GROUND, text=f"We have no record of {_named(recognised, 'or')}.")


def _named(kinds: Collection[GroundKind], conjunction: str) -> str:
    *others, last = (name for kind, name in _GROUND_NAMES.items() if kind in kinds)
    return f"{', '.join(others)} {conjunction} {last}" if others else last


def _faults(facts: Facts, zone_name: str) -> dict[str, str]:
    """What cannot be true, by field (reading 10)."""
    return _faults_of_times(facts, zone_name) | _faults_of_amounts(facts)


def _errors(faults: dict[str, str]) -> Iterator[FieldError]:
    return (FieldError(field=field, message=message) for field, message in faults.items())


def _faults_of_times(facts: Facts, zone_name: str) -> dict[str, str]:
    faults: dict[str, str] = {}
    zone: tzinfo = UTC
    try:
        zone = timezones.zone(zone_name)
    except UnknownTimeZone as unknown:
        faults.update((error.field, error.message) for error in unknown.errors)
    purchase = facts.purchase
    times = {"requested_at": facts.requested_at}
    if purchase:
        times["purchase.purchased_at"] = purchase.purchased_at
        if purchase.service_started_at:
            times["purchase.service_started_at"] = purchase.service_started_at
        if purchase.deliverables_provided_at:
            times["purchase.deliverables_provided_at"] = purchase.deliverables_provided_at
    faults.update((field, fault) for field, time in times.items() if (fault := _fault_of_time(time, zone)))
    comparable = faults.keys().isdisjoint({"requested_at", "purchase.purchased_at"})
    if purchase and comparable and _utc(facts.requested_at) < _utc(purchase.purchased_at):
        faults["requested_at"] = "is before the purchase"
    return faults


def _faults_of_amounts(facts: Facts) -> dict[str, str]:
    faults: dict[str, str] = {}
    amounts = {"purchase.paid": facts.purchase.paid if facts.purchase else None, "refunded": facts.refunded}
    limits = {"refunded": "purchase.paid"}
    for i, ground in enumerate(facts.grounds):
        amounts |= {f"grounds[{i}].affected": ground.affected, f"grounds[{i}].refunded": ground.refunded}
        limits[f"grounds[{i}].refunded"] = f"grounds[{i}].affected"
    currency: str | None = None
    for field, money in amounts.items():
        if money is None:
            continue
        try:
            checked(money)
        except InvalidMoney as invalid:
            faults[field] = invalid.errors[0].message
            continue
        currency = currency or money.currency
        if money.currency != currency:
            faults[field] = f"is in {money.currency}, while this decision is in {currency}"
    for field, limit in limits.items():
        # Without a purchase nothing was paid, so nothing can have been refunded.
        if faults.keys().isdisjoint({field, limit}) and _minor(amounts[field]) > _minor(amounts[limit]):
            faults[field] = f"is more than {limit}"
    return faults


def _fault_of_time(time: datetime, zone: tzinfo) -> str | None:
    try:
        if time.utcoffset() is None:
            return "needs an offset from UTC"
        _local_date(time, zone)
    except (OverflowError, ValueError):
        return "is too close to the first or last day of the calendar to have a date in every time zone"
    return None


def _local_date(time: datetime, zone: tzinfo) -> date:
    return _utc(time).astimezone(zone).date()


def _utc(time: datetime) -> datetime:
    """Compared in UTC, since two times of one zone compare by the clock on the wall, wrong where it goes back."""
    return time.astimezone(UTC)


def _had_happened(time: datetime | None, requested_at: datetime) -> bool:
    return time is not None and _utc(time) <= _utc(requested_at)


def _minor(money: Money | None) -> int:
    return money.amount_minor if money else 0


def _valid(version: PolicyVersion, now: datetime | None = None) -> PolicyVersion:
    faults = dict(_faults_of_settings(version.settings))
    if version.effective_from and now:
        if fault := _fault_of_time(version.effective_from, UTC):
            faults["effective_from"] = fault
        elif _utc(version.effective_from) < _utc(now):
            faults["effective_from"] = "must not be in the past"
    if tuple(clause.id for clause in version.clauses) != tuple(ClauseId):
        faults["clauses"] = "have to be P1 to P9, in this order"
    faults.update(
        (f"clauses[{i}].text", "must not be empty") for i, one in enumerate(version.clauses) if not one.text.strip()
    )
    if faults:
        raise InvalidPolicy(*_errors(faults))
    return version


def _faults_of_settings(settings: Settings) -> Iterator[tuple[str, str]]:
    try:
        timezones.zone(settings.timezone)
    except UnknownTimeZone as unknown:
        yield from ((f"settings.{error.field}", error.message) for error in unknown.errors)
    for name in ("window_days", "reopening_days", "first_answer_hours", "next_update_days"):
        if not 1 <= getattr(settings, name) <= _LONGEST:
            yield f"settings.{name}", f"has to be between 1 and {_LONGEST}"
    if not 0 <= settings.kept_days <= _LONGEST_RETENTION:
        yield "settings.retention_days", f"has to be between 0 and {_LONGEST_RETENTION}"
    if not settings.grounds:
        yield "settings.grounds", "has to name at least one kind"
    elif len(set(settings.grounds)) < len(settings.grounds):
        yield "settings.grounds", "names a kind twice"
    yield from _faults_of_tiers(settings.tiers)


def _faults_of_tiers(tiers: tuple[Tier, ...]) -> Iterator[tuple[str, str]]:
    if not tiers or tiers[-1].up_to is not None:
        yield "settings.tiers", "have to end with one without limit (up_to is null)"
    if len(tiers) > _MOST_TIERS:
        yield "settings.tiers", f"are more than {_MOST_TIERS}"
    reached = Decimal(0)
    for i, tier in enumerate(tiers):
        if tier.up_to is None:
            if i < len(tiers) - 1:
                yield f"settings.tiers[{i}].up_to", "may be without limit in the last tier only"
        elif not PLAIN_DECIMAL.fullmatch(tier.up_to) or len(tier.up_to) > _LONGEST_LIMIT:
            yield f"settings.tiers[{i}].up_to", "has to be a plain decimal such as 500.00"
        elif Decimal(tier.up_to) <= reached:
            yield f"settings.tiers[{i}].up_to", "has to be above zero and above the tier before"
        else:
            reached = Decimal(tier.up_to)
        if not tier.roles or not APPROVERS.issuperset(tier.roles):
            yield f"settings.tiers[{i}].roles", f"has to name some of {', '.join(sorted(APPROVERS))}"
        if not 1 <= tier.count <= _MOST_APPROVALS:
            yield f"settings.tiers[{i}].count", f"has to be between 1 and {_MOST_APPROVALS}"


_LONGEST = 3650  # longer is a slip, and dates would run off the calendar
_LONGEST_RETENTION = 36_525
_MOST_TIERS = 20
_LONGEST_LIMIT = 20  # characters; what is more could not be paid
_MOST_APPROVALS = 20
