"""What is kept of a client goes as soon as it may, and not before."""

from datetime import timedelta

import msgspec
import pytest
from msgspec.structs import replace

from tests.workflow.builders import (
    ADAM,
    ANA,
    AUDREY,
    CLEO,
    DAY,
    LOU,
    MAIL,
    NOON,
    V1,
    Desk,
    a_context,
    closing,
)
from workflow import commands as c
from workflow import events as e
from workflow.canonical import MAX_BYTES, canonical
from workflow.cases import Case
from workflow.deciding import decide, spans
from workflow.errors import BadInput, Forbidden, GuardRefused, InvalidPolicy
from workflow.policy import RETENTION_DAYS, PolicyVersion, Settings, first_version, next_version
from workflow.replaying import replay
from workflow.roles import Actor, system_actor
from workflow.states import Resolution

ERASE = c.Erase(legal_basis="GDPR Art. 17(1)(a)", reason="asked by telephone")
HOLD = c.PlaceHold(reason="the ombudsman asks for it")
RELEASE = c.ReleaseHold(reason="the ombudsman has decided")
KEPT = ((1, "subject"), (1, "message"), (2, "text"), (3, "text"), (5, "text"), (5, "content"))
LATER = NOON + (RETENTION_DAYS + 1) * DAY


def a_closed_case() -> Desk:
    desk = Desk()
    desk.open(purchase=None)
    desk.do(ANA, closing(Resolution.SPAM))
    return desk


def erased(
    case: Case,
    command: c.Erase = ERASE,
    by: Actor = ADAM,
    at: timedelta = (RETENTION_DAYS + 1) * DAY,
    kept: tuple[tuple[int, str], ...] = KEPT,
) -> tuple[e.Draft, ...]:
    return decide(case, a_context(kept=kept), command, by, NOON + at)


def test_what_need_no_longer_be_kept_is_erased_and_the_event_says_what() -> None:
    case = a_closed_case().case

    (draft,) = erased(case)

    assert draft.data == e.Erased(
        legal_basis="GDPR Art. 17(1)(a)",
        through=case.version,
        texts=5,
        files=1,
        fields=(
            e.ErasedField(field="content", seqs="5"),
            e.ErasedField(field="message", seqs="1"),
            e.ErasedField(field="subject", seqs="1"),
            e.ErasedField(field="text", seqs="2-3,5"),
        ),
    )


def test_there_is_nothing_to_erase_a_second_time() -> None:
    assert erased(a_closed_case().case, kept=()) == ()


def test_an_erasure_of_a_case_that_has_to_be_kept_is_scheduled_until_it_need_not() -> None:
    desk = a_closed_case()
    closed_at = desk.case.closed_at
    assert closed_at is not None

    (draft,) = erased(desk.case, at=DAY)

    assert draft.data == e.ErasureRequested(
        legal_basis="GDPR Art. 17(1)(a)",
        retention_days=RETENTION_DAYS,
        due_at=closed_at + timedelta(days=RETENTION_DAYS),
    )
    desk.record(draft, "case:A", ADAM, NOON + DAY)
    assert erased(desk.case, at=2 * DAY) == ()
    (due,) = erased(desk.case, by=system_actor("timer"))
    assert isinstance(due.data, e.Erased)


def test_the_last_instant_of_retention_still_counts() -> None:
    case = a_closed_case().case
    assert case.closed_at is not None
    end = case.closed_at + timedelta(days=RETENTION_DAYS) - NOON

    (before,) = erased(case, at=end - timedelta(microseconds=1))
    (after,) = erased(case, at=end)

    assert (type(before.data), type(after.data)) == (e.ErasureRequested, e.Erased)


def test_an_open_case_is_erased_only_once_it_has_been_closed_for_so_long() -> None:
    desk = Desk()
    desk.open(purchase=None)

    (draft,) = erased(desk.case, at=10 * RETENTION_DAYS * DAY)

    assert isinstance(draft.data, e.ErasureRequested)
    assert draft.data.due_at is None


def test_an_admin_need_not_wait_and_that_is_recorded() -> None:
    desk = Desk()
    desk.open(purchase=None)

    (draft,) = erased(desk.case, replace(ERASE, override=True), at=DAY)

    assert isinstance(draft.data, e.Erased)
    assert (draft.data.overridden, draft.personal) == (True, {"reason": "asked by telephone"})
    (due,) = erased(a_closed_case().case, replace(ERASE, override=True))
    assert isinstance(due.data, e.Erased)
    assert not due.data.overridden


@pytest.mark.parametrize("command", [ERASE, replace(ERASE, override=True)])
def test_a_hold_forbids_erasure_whoever_asks_and_says_who_releases_it(command: c.Erase) -> None:
    desk = a_closed_case()
    desk.do(LOU, HOLD)

    with pytest.raises(GuardRefused) as refused:
        erased(desk.case, command)

    (refusal,) = refused.value.refusals
    assert (refusal.code, [*refusal.who]) == ("no_hold_stands", ["lead", "admin"])
    desk.do(ADAM, RELEASE)
    assert len(erased(desk.case, command)) == 1


def test_a_hold_is_placed_once_and_released_once() -> None:
    desk = a_closed_case()

    held = desk.do(ADAM, HOLD)
    assert (held.is_held, desk.do(LOU, HOLD).version) == (True, held.version)

    released = desk.do(LOU, RELEASE)
    assert not released.is_held
    with pytest.raises(GuardRefused) as refused:
        desk.do(LOU, RELEASE)
    assert refused.value.codes == {"a_hold_stands"}


@pytest.mark.parametrize("actor", [ANA, CLEO, AUDREY, MAIL])
@pytest.mark.parametrize("command", [HOLD, RELEASE])
def test_only_leads_and_admins_hold(actor: Actor, command: c.Command) -> None:
    with pytest.raises(Forbidden):
        a_closed_case().do(actor, command)


@pytest.mark.parametrize("actor", [ANA, LOU, CLEO, AUDREY])
def test_only_an_admin_erases(actor: Actor) -> None:
    with pytest.raises(Forbidden):
        erased(a_closed_case().case, by=actor)


def test_the_desk_carries_out_what_is_due_and_overrides_nothing() -> None:
    with pytest.raises(Forbidden):
        erased(a_closed_case().case, replace(ERASE, override=True), by=system_actor("timer"))


@pytest.mark.parametrize(
    "command", [replace(ERASE, legal_basis=" "), replace(HOLD, reason=""), replace(RELEASE, reason="")]
)
def test_a_legal_basis_and_the_reason_of_a_hold_have_to_say_something(command: c.Command) -> None:
    with pytest.raises(BadInput):
        a_closed_case().do(ADAM, command)


def test_what_a_restored_backup_brings_back_is_erased_again_once_whatever_stands_against_it() -> None:
    desk = Desk()
    desk.open(purchase=None)
    desk.do(LOU, HOLD)
    again = c.Erase(legal_basis="GDPR Art. 17(1)(a)", reapplies="f" * 64)

    (draft,) = decide(desk.case, a_context(kept=KEPT), again, system_actor("journal"), NOON)
    desk.record(draft, "case:A", system_actor("journal"), NOON)

    assert isinstance(draft.data, e.Erased)
    assert desk.case.carried_out_erasures == ("f" * 64,)
    assert decide(desk.case, a_context(kept=KEPT), again, system_actor("journal"), NOON) == ()


def test_a_case_that_was_held_and_erased_replays_from_its_log() -> None:
    desk = a_closed_case()
    desk.do(LOU, HOLD)
    held = desk.case
    desk.do(LOU, RELEASE)
    for draft in erased(desk.case):
        desk.record(draft, "case:A", ADAM, LATER)

    history = desk.histories["A"]
    assert replay(history) == desk.case
    assert replay(history[: held.version]) == held
    assert desk.case.carried_out_erasures == (history[-1].hash,)


def test_a_case_with_none_of_this_is_written_as_it_was_before_there_was_any() -> None:
    case = Desk().open()

    assert not {"hold", "erasure", "erasures"} & msgspec.json.decode(canonical(case)).keys()
    assert msgspec.json.decode(canonical(case), type=Case) == case


def test_the_list_of_what_was_erased_fits_into_an_event_however_long_the_case_is() -> None:
    many = tuple((seq, "text") for seq in range(1, 40_000, 2))

    (draft,) = erased(a_closed_case().case, kept=many)

    assert isinstance(draft.data, e.Erased)
    assert (draft.data.texts, draft.data.fields) == (20_000, ())
    assert len(canonical(draft.data)) < MAX_BYTES // 2


def test_seqs_are_told_in_spans() -> None:
    assert spans([7, 1, 2, 3]) == "1-3,7"


# The policy's setting.


def test_versions_that_were_recorded_before_have_the_same_bytes_and_keep_for_three_years() -> None:
    before = canonical(first_version())
    assert b"retention" not in before

    read = msgspec.json.decode(before, type=PolicyVersion)

    assert canonical(read) == before
    assert read.settings.kept_days == RETENTION_DAYS == 1096


def test_a_later_version_says_how_long_data_are_kept() -> None:
    later = next_version((V1,), Settings(retention_days=30), NOON)

    assert msgspec.json.decode(canonical(later), type=PolicyVersion).settings.kept_days == 30
    desk = a_closed_case()
    context = a_context(policies=(V1, later), kept=KEPT)
    (draft,) = decide(desk.case, context, ERASE, ADAM, NOON + 31 * DAY)
    assert isinstance(draft.data, e.Erased)


@pytest.mark.parametrize("days", [-1, 36_526])
def test_data_are_not_kept_for_less_than_no_time_or_longer_than_a_century(days: int) -> None:
    with pytest.raises(InvalidPolicy) as invalid:
        next_version((V1,), Settings(retention_days=days), NOON)
    assert [one.field for one in invalid.value.errors] == ["settings.retention_days"]
