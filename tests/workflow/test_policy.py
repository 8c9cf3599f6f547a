"""When money may go back: worked examples row by row, then what holds for all facts."""

import json
import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as within
from hypothesis import strategies as st

from tests.shared import SHARED, lacking
from workflow import timezones
from workflow.errors import BadInput, FieldError, ImpossibleFacts, InvalidMoney, InvalidPolicy, UnknownTimeZone
from workflow.money import MAX_MINOR, Money, parse_money
from workflow.policy import (
    ApprovalRule,
    Category,
    Clause,
    ClauseId,
    Decision,
    Facts,
    GroundFacts,
    GroundKind,
    PolicyVersion,
    PurchaseFacts,
    ReasonCode,
    Refund,
    Settings,
    Tier,
    approvals_needed,
    evaluate,
    first_version,
    next_version,
    version_in_force,
)
from workflow.roles import Role

OWN_EXAMPLES = Path(__file__).with_name("policy_examples.json")
# The published table lies beside the repository where both are laid out together.
PUBLISHED_EXAMPLES = SHARED / "policy-cases.json"

NOON = datetime(2026, 5, 8, 12, tzinfo=UTC)
V1 = first_version()


def rows(path: Path) -> list[Any]:
    return [pytest.param(row, id=row["name"]) for row in json.loads(path.read_bytes())]


@pytest.mark.parametrize("row", rows(OWN_EXAMPLES))
def test_every_example_of_ours_is_decided_as_written(row: dict[str, Any]) -> None:
    assert_decided_as_written(row)


@pytest.mark.parametrize("row", rows(PUBLISHED_EXAMPLES) if PUBLISHED_EXAMPLES.exists() else [{}])
def test_every_published_example_is_decided_as_written(row: dict[str, Any]) -> None:
    if not row:
        lacking("../shared/policy-cases.json")
    assert_decided_as_written(row)


def assert_decided_as_written(row: dict[str, Any]) -> None:
    if "error" in row:
        with pytest.raises(BadInput) as refused:
            decide(row["input"])
        assert [error.field for error in refused.value.errors] == [row["error"]]
        return
    decision = decide(row["input"])
    answer = json.loads(msgspec.json.encode(decision))
    answer["reasons"] = sorted(reason["code"] for reason in answer["reasons"])
    assert answer == row["expect"] | {"maximum": in_minor_units(row["expect"]["maximum"]), "policy": 1}


def decide(given: dict[str, Any]) -> Decision:
    """Read the facts as they are written outside, and decide on them."""
    try:
        facts = msgspec.convert(in_minor_units(given), Facts)
    except msgspec.ValidationError as unreadable:
        path = re.search(r"`\$\.(.+)`", str(unreadable))
        assert path is not None
        raise BadInput(FieldError(field=path[1], message=str(unreadable))) from unreadable
    return evaluate(facts, V1, given["timezone"])


def in_minor_units(value: object, path: str = "") -> object:
    match value:
        case {"amount": amount, "currency": currency}:
            try:
                return msgspec.to_builtins(parse_money(amount, currency))
            except InvalidMoney as invalid:
                raise BadInput(FieldError(field=path, message=str(invalid))) from invalid
        case dict():
            return {key: in_minor_units(inner, f"{path}.{key}" if path else key) for key, inner in value.items()}
        case list():
            return [in_minor_units(inner, f"{path}[{i}]") for i, inner in enumerate(value)]
    return value


# Facts that a test changes in what matters to it: all delivered and the window over, so that only grounds count.


def euros(amount: str) -> Money:
    return parse_money(amount, "EUR")


def a_purchase(**changes: object) -> PurchaseFacts:
    purchase = PurchaseFacts(
        paid=euros("960.00"),
        purchased_at=NOON - timedelta(days=30),
        service_started_at=NOON - timedelta(days=25),
        deliverables_provided_at=NOON - timedelta(days=20),
    )
    return msgspec.structs.replace(purchase, **changes)


def some_facts(**changes: object) -> Facts:
    facts = Facts(requested_at=NOON, category=Category.BILLING, purchase=a_purchase())
    return msgspec.structs.replace(facts, **changes)


def a_ground(
    affected: str = "240.00",
    currency: str = "EUR",
    *,
    verified: bool = True,
    kind: GroundKind = GroundKind.BILLING_ERROR,
    refunded: Money | None = None,
) -> GroundFacts:
    return GroundFacts(kind=kind, verified=verified, affected=parse_money(affected, currency), refunded=refunded)


def fields(refused: BadInput) -> list[str]:
    return [error.field for error in refused.errors]


def test_all_impossible_facts_are_named_at_once() -> None:
    facts = Facts(
        requested_at=NOON.replace(tzinfo=None),
        category=Category.OTHER,
        purchase=a_purchase(
            paid=Money(-1, "EUR"), purchased_at=NOON.replace(tzinfo=None), service_started_at=NOON.replace(tzinfo=None)
        ),
        refunded=Money(5, "XXX"),
        grounds=(a_ground("1.00", refunded=euros("1.01")), a_ground("1.00", "USD")),
    )

    with pytest.raises(ImpossibleFacts) as refused:
        evaluate(facts, V1, "Europe/Atlantis")

    assert fields(refused.value) == [
        "timezone",
        "requested_at",
        "purchase.purchased_at",
        "purchase.service_started_at",
        "purchase.paid",
        "refunded",
        "grounds[1].affected",
        "grounds[0].refunded",
    ]


@pytest.mark.parametrize(
    "name", ["", ".", "UTC ", "utc", "Europe", "Europe/Atlantis", "/etc/localtime", "../etc/passwd", "UTC\0", "\ud800"]
)
def test_only_listed_names_are_time_zones(name: str) -> None:
    with pytest.raises(ImpossibleFacts) as refused:
        evaluate(some_facts(), V1, name)

    assert fields(refused.value) == ["timezone"]


def test_every_listed_time_zone_can_be_decided_in() -> None:
    assert {evaluate(some_facts(), V1, name).refund for name in timezones.zone_names()} == {Refund.NONE}


def test_the_first_and_the_last_instant_of_the_calendar_are_decided_or_refused_by_name() -> None:
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    facts = some_facts(requested_at=last, purchase=a_purchase(purchased_at=first))

    assert evaluate(facts, V1).refund is Refund.NONE
    with pytest.raises(ImpossibleFacts) as refused:
        evaluate(facts, V1, "Asia/Tokyo")
    assert fields(refused.value) == ["requested_at"]
    with pytest.raises(ImpossibleFacts) as refused:
        evaluate(facts, V1, "America/Bogota")
    assert fields(refused.value) == ["purchase.purchased_at"]


def test_a_sum_is_not_blamed_for_the_limit_that_was_itself_wrong() -> None:
    facts = some_facts(purchase=a_purchase(paid=Money(-1, "EUR")), refunded=euros("5.00"))

    with pytest.raises(ImpossibleFacts) as refused:
        evaluate(facts, V1)

    assert fields(refused.value) == ["purchase.paid"]


def test_in_the_hour_that_comes_twice_the_later_time_counts_as_later() -> None:
    berlin = timezones.zone("Europe/Berlin")
    first_time = datetime(2025, 10, 26, 2, 40, tzinfo=berlin)
    second_time = datetime(2025, 10, 26, 2, 10, fold=1, tzinfo=berlin)
    purchase = a_purchase(purchased_at=first_time, service_started_at=first_time, deliverables_provided_at=first_time)

    decision = evaluate(some_facts(requested_at=second_time, purchase=purchase), V1)

    assert [reason.code for reason in decision.reasons] == [ReasonCode.ALREADY_DELIVERED, ReasonCode.NO_GROUND]


def test_reasons_come_in_the_order_of_their_codes() -> None:
    facts = some_facts(category=Category.RESULTS, grounds=(a_ground(verified=False), a_ground("0.00")))

    assert [reason.code for reason in evaluate(facts, V1).reasons] == [
        ReasonCode.OUTSIDE_WINDOW,
        ReasonCode.ALREADY_DELIVERED,
        ReasonCode.GROUND_VERIFIED,
        ReasonCode.GROUND_UNVERIFIED,
        ReasonCode.RESULTS_NOT_GUARANTEED,
    ]


def test_a_reason_is_a_sentence_with_the_dates_and_sums_of_the_case() -> None:
    facts = some_facts(grounds=(a_ground(), a_ground("40.00", kind=GroundKind.TECHNICAL_FAILURE)))

    assert [reason.text for reason in evaluate(facts, V1).reasons] == [
        "The request of 2026-05-08 came more than 7 days after the purchase on 2026-04-08.",
        "By the time of the request on 2026-05-08 the service had started and deliverables had been provided.",
        "We verified an error in billing and a technical failure on our side; up to 280.00 EUR is open for it.",
    ]


def test_the_window_and_the_grounds_are_settings_of_the_version() -> None:
    facts = some_facts(
        purchase=a_purchase(service_started_at=None), grounds=(a_ground(kind=GroundKind.TECHNICAL_FAILURE),)
    )
    month = PolicyVersion(version=2, effective_from=NOON, settings=Settings(window_days=30))
    strict = PolicyVersion(version=3, effective_from=NOON, settings=Settings(grounds=(GroundKind.BILLING_ERROR,)))

    assert evaluate(facts, V1).maximum == euros("240.00")
    assert evaluate(facts, month).maximum == euros("960.00")
    assert evaluate(facts, month).policy == 2
    assert evaluate(facts, strict).maximum == euros("0.00")
    assert [reason.code for reason in evaluate(facts, strict).reasons] == ["outside_window", "no_ground"]


def test_the_versions_own_time_zone_decides_unless_another_is_given() -> None:
    kyiv = first_version("Europe/Kyiv")
    facts = some_facts(
        requested_at=datetime(2026, 5, 8, 21, 30, tzinfo=UTC),
        purchase=a_purchase(purchased_at=datetime(2026, 5, 1, 12, tzinfo=UTC), service_started_at=None),
    )

    assert evaluate(facts, kyiv).refund is Refund.NONE
    assert evaluate(facts, kyiv, "UTC").refund is Refund.FULL


# Approval tiers.


LEAD_OR_APPROVER = ApprovalRule(roles=(Role.LEAD, Role.APPROVER), count=1)
AN_APPROVER = ApprovalRule(roles=(Role.APPROVER,), count=1)
TWO_APPROVERS = ApprovalRule(roles=(Role.APPROVER,), count=2)


@pytest.mark.parametrize(
    ("amount", "currency", "rule"),
    [
        ("0.01", "EUR", LEAD_OR_APPROVER),
        ("500.00", "EUR", LEAD_OR_APPROVER),
        ("500.01", "EUR", AN_APPROVER),
        ("5000.00", "EUR", AN_APPROVER),
        ("5000.01", "EUR", TWO_APPROVERS),
        ("500", "JPY", LEAD_OR_APPROVER),
        ("501", "JPY", AN_APPROVER),
        ("5001", "JPY", TWO_APPROVERS),
        ("500.000", "KWD", LEAD_OR_APPROVER),
        ("500.001", "KWD", AN_APPROVER),
        ("5000.0001", "CLF", TWO_APPROVERS),
    ],
)
def test_the_tier_of_an_amount_is_exact_in_every_currency(amount: str, currency: str, rule: ApprovalRule) -> None:
    assert approvals_needed(parse_money(amount, currency), Settings()) == rule


# Versions.


def test_each_version_holds_from_its_instant_until_the_next() -> None:
    second = next_version([V1], Settings(window_days=14), now=NOON, effective_from=NOON + timedelta(days=30))
    third = next_version([V1, second], Settings(window_days=10), now=NOON)
    versions = [third, V1, second]

    assert version_in_force(versions, NOON - timedelta(microseconds=1)) == V1
    assert version_in_force(versions, datetime.min.replace(tzinfo=UTC)) == V1
    assert version_in_force(versions, NOON) == third
    assert version_in_force(versions, NOON + timedelta(days=30)) == second


def test_of_two_versions_that_begin_together_the_later_added_holds() -> None:
    second = next_version([V1], Settings(window_days=70), now=NOON)
    corrected = next_version([V1, second], Settings(window_days=7), now=NOON)

    assert version_in_force([V1, second, corrected], NOON) == corrected


def test_a_version_cannot_begin_in_the_past() -> None:
    with pytest.raises(InvalidPolicy) as refused:
        next_version([V1], Settings(), now=NOON, effective_from=NOON - timedelta(microseconds=1))

    assert fields(refused.value) == ["effective_from"]


def test_a_version_with_impossible_settings_is_refused_with_every_field() -> None:
    settings = Settings(
        timezone="Mars/Olympus",
        window_days=0,
        grounds=(),
        reopening_days=-1,
        first_answer_hours=10**9,
        next_update_days=0,
        tiers=(
            Tier(up_to=None, roles=(Role.LEAD,), count=1),
            Tier(up_to="500.00", roles=(Role.AGENT,), count=1),
            Tier(up_to="500", roles=(), count=1),
            Tier(up_to="1e9", roles=(Role.APPROVER,), count=0),
        ),
    )

    with pytest.raises(InvalidPolicy) as refused:
        next_version(
            [V1],
            settings,
            now=NOON,
            effective_from=NOON.replace(tzinfo=None),
            clauses=(Clause(id=ClauseId.P1, text=" "),),
        )

    assert sorted(fields(refused.value)) == [
        "clauses",
        "clauses[0].text",
        "effective_from",
        "settings.first_answer_hours",
        "settings.grounds",
        "settings.next_update_days",
        "settings.reopening_days",
        "settings.tiers",
        "settings.tiers[0].up_to",
        "settings.tiers[1].roles",
        "settings.tiers[2].roles",
        "settings.tiers[2].up_to",
        "settings.tiers[3].count",
        "settings.tiers[3].up_to",
        "settings.timezone",
        "settings.window_days",
    ]


def test_a_policy_needs_a_tier() -> None:
    with pytest.raises(InvalidPolicy) as refused:
        next_version([V1], Settings(tiers=()), now=NOON)

    assert fields(refused.value) == ["settings.tiers"]


def test_the_desk_cannot_begin_in_a_time_zone_that_is_not_one() -> None:
    with pytest.raises(InvalidPolicy, match=r"settings\.timezone"):
        first_version("Europe/Atlantis")
    with pytest.raises(UnknownTimeZone):
        timezones.zone("Europe/Atlantis")


def test_a_version_survives_being_written_down() -> None:
    version = next_version([V1], Settings(timezone="Europe/Kyiv"), now=NOON)

    assert msgspec.json.decode(msgspec.json.encode(version), type=PolicyVersion) == version


# What holds for all facts.

ZONES = st.sampled_from(["UTC", "Europe/Kyiv", "America/New_York", "Pacific/Apia", "Australia/Lord_Howe"])
OFFSETS = st.one_of(
    ZONES.map(timezones.zone),
    st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)
CENTS = st.one_of(st.integers(0, 1_000), st.integers(0, MAX_MINOR))


@st.composite
def ground_facts(draw: st.DrawFn, *, verified: bool | None = None) -> GroundFacts:
    affected = draw(CENTS)
    refunded = draw(st.none() | st.integers(0, affected))
    return GroundFacts(
        kind=draw(st.sampled_from(GroundKind)),
        verified=draw(st.booleans()) if verified is None else verified,
        affected=Money(affected, "EUR"),
        refunded=None if refunded is None else Money(refunded, "EUR"),
    )


@st.composite
def possible_facts(draw: st.DrawFn) -> Facts:
    around = st.datetimes(datetime(2025, 1, 1), datetime(2025, 2, 1), timezones=OFFSETS)  # noqa: DTZ001 - bounds are naive here
    purchased_at, requested_at = sorted([draw(around), draw(around)], key=lambda time: time.astimezone(UTC))
    paid = draw(CENTS)
    return Facts(
        requested_at=requested_at,
        category=draw(st.sampled_from(Category)),
        purchase=PurchaseFacts(
            paid=Money(paid, "EUR"),
            purchased_at=purchased_at,
            service_started_at=draw(st.none() | around),
            deliverables_provided_at=draw(st.none() | around),
        ),
        refunded=Money(draw(st.integers(0, paid)), "EUR"),
        grounds=tuple(draw(st.lists(ground_facts(), max_size=4))),
    )


def most(decision: Decision) -> int:
    assert decision.maximum is not None
    return decision.maximum.amount_minor


@within(deadline=None)
@given(facts=possible_facts(), zone_name=ZONES)
def test_no_decision_allows_more_than_is_left_of_the_payment(facts: Facts, zone_name: str) -> None:
    assert facts.purchase is not None
    assert facts.refunded is not None
    left = facts.purchase.paid.amount_minor - facts.refunded.amount_minor

    decision = evaluate(facts, V1, zone_name)

    assert 0 <= most(decision) <= left
    assert decision.refund is (
        Refund.NONE if most(decision) == 0 else Refund.FULL if most(decision) == left else Refund.PARTIAL
    )
    assert decision.needs_approval is (decision.clauses == ("P6",))


@within(deadline=None)
@given(facts=possible_facts(), zone_name=ZONES, claimed=ground_facts(verified=False))
def test_a_claim_that_nobody_verified_changes_no_sum(facts: Facts, zone_name: str, claimed: GroundFacts) -> None:
    with_claim = msgspec.structs.replace(facts, grounds=(*facts.grounds, claimed))

    assert most(evaluate(with_claim, V1, zone_name)) == most(evaluate(facts, V1, zone_name))


@within(deadline=None)
@given(facts=possible_facts(), zone_name=ZONES, found=ground_facts(verified=True))
def test_a_verified_ground_never_lowers_what_may_go_back(facts: Facts, zone_name: str, found: GroundFacts) -> None:
    with_ground = msgspec.structs.replace(facts, grounds=(*facts.grounds, found))

    assert most(evaluate(with_ground, V1, zone_name)) >= most(evaluate(facts, V1, zone_name))


@within(deadline=None)
@given(facts=possible_facts(), zone_name=ZONES, order=st.randoms(use_true_random=False))
def test_the_order_of_the_grounds_changes_nothing(facts: Facts, zone_name: str, order: Random) -> None:
    shuffled = msgspec.structs.replace(facts, grounds=tuple(order.sample(facts.grounds, len(facts.grounds))))

    assert evaluate(shuffled, V1, zone_name) == evaluate(facts, V1, zone_name)


@within(deadline=None)
@given(facts=possible_facts(), zone_name=ZONES)
def test_the_same_facts_written_in_utc_give_the_same_decision(facts: Facts, zone_name: str) -> None:
    recorded = msgspec.json.decode(msgspec.json.encode(in_utc(facts)), type=Facts)

    assert evaluate(recorded, V1, zone_name) == evaluate(facts, V1, zone_name)


@within(deadline=None)
@given(facts=possible_facts(), zone_name=ZONES)
def test_each_reason_is_given_once_in_order_and_as_one_sentence(facts: Facts, zone_name: str) -> None:
    reasons = evaluate(facts, V1, zone_name).reasons

    codes = [reason.code for reason in reasons]
    assert codes == [code for code in ReasonCode if code in codes]
    assert all(reason.text.endswith(".") for reason in reasons)


def in_utc(facts: Facts) -> Facts:
    assert facts.purchase is not None
    times = {
        name: time and time.astimezone(UTC)
        for name in ("purchased_at", "service_started_at", "deliverables_provided_at")
        for time in [getattr(facts.purchase, name)]
    }
    return msgspec.structs.replace(
        facts,
        requested_at=facts.requested_at.astimezone(UTC),
        purchase=msgspec.structs.replace(facts.purchase, **times),
    )


EDGES = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
ANY_TIME = st.one_of(
    st.datetimes(timezones=st.none() | OFFSETS),
    st.builds(lambda edge, offset: edge.replace(tzinfo=offset), st.sampled_from(EDGES), OFFSETS),
)
ANY_MONEY = st.builds(Money, st.integers(-(2**60), 2**60) | CENTS, st.sampled_from(["EUR", "JPY", "XXX", "eur", ""]))


@within(deadline=None)
@given(
    facts=st.builds(
        Facts,
        requested_at=ANY_TIME,
        category=st.sampled_from(Category),
        purchase=st.none()
        | st.builds(
            PurchaseFacts,
            paid=ANY_MONEY,
            purchased_at=ANY_TIME,
            service_started_at=st.none() | ANY_TIME,
            deliverables_provided_at=st.none() | ANY_TIME,
        ),
        refunded=st.none() | ANY_MONEY,
        grounds=st.lists(
            st.builds(
                GroundFacts,
                kind=st.sampled_from(GroundKind),
                verified=st.booleans(),
                affected=ANY_MONEY,
                refunded=st.none() | ANY_MONEY,
            ),
            max_size=3,
        ).map(tuple),
    ),
    zone_name=ZONES | st.text(),
)
def test_any_facts_at_all_are_decided_or_refused_with_fields(facts: Facts, zone_name: str) -> None:
    try:
        decision = evaluate(facts, V1, zone_name)
    except ImpossibleFacts as refused:
        assert len(set(fields(refused))) == len(fields(refused)) > 0  # noqa: PT017 - either outcome is fine
    else:
        assert decision.reasons
