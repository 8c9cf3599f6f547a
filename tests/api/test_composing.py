"""What letters say: what was recorded, in the client's language, and nothing else."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from api.letters.composing import acknowledgement, draft, footer, subject_of, tagged
from api.letters.languages import languages
from tests.api.writing import about, context_of, drafted, letter, recorded_figures, unrecorded
from tests.workflow.builders import (
    ANA,
    CHECK,
    CLEO,
    DAY,
    DIRK,
    NOON,
    V1,
    Desk,
    a_desk,
    a_fresh_desk,
    a_letter,
    closing,
    euros,
    lead_to,
    proposes,
    refunds,
    verifies,
)
from tests.workflow.test_random_desk import Walk
from workflow import events as e
from workflow.letters import RESTS_ON, bases, rests_on
from workflow.policy import Category, Clause, ClauseId
from workflow.states import CaseState, LetterKind, Resolution

LANGUAGES = ("de", "en", "uk")


def led_to(state: CaseState) -> Desk:
    desk = a_desk()
    lead_to(state, desk)
    return desk


def fully_refunded() -> Desk:
    """590.00 EUR, before anything was delivered (P5)."""
    desk = a_fresh_desk()
    proposal = desk.do(ANA, proposes(euros("590.00"))).proposals[-1]
    desk.do(DIRK, refunds(proposal))
    return desk


def nothing_due(**changes: Any) -> Desk:
    desk = Desk()
    desk.open(**changes)
    desk.investigate()
    if desk.case.purchase is not None:
        desk.do(ANA, CHECK)
    return desk


DESKS: dict[LetterKind, Callable[[], Desk]] = {
    LetterKind.ADJUSTMENT: lambda: led_to(CaseState.ADJUSTMENT_OFFERED),
    LetterKind.CONSULTATION: lambda: led_to(CaseState.CONSULTATION_SCHEDULED),
    LetterKind.COMPENSATION: lambda: led_to(CaseState.COMPENSATION_ISSUED),
    LetterKind.REFUND_FULL: fully_refunded,
    LetterKind.REFUND_PART: lambda: led_to(CaseState.REFUNDED),
    LetterKind.NO_REFUND: nothing_due,
    LetterKind.CLOSING: lambda: led_to(CaseState.CLOSED),
}

# What each letter has to tell, as each language writes it.
TOLD: dict[LetterKind, dict[str, tuple[str, ...]]] = {
    LetterKind.ADJUSTMENT: {
        "en": ("C-1", "another audience", "12 March 2026", "P3", "P7", "nobody is guaranteed"),
        "de": ("C-1", "another audience", "12. März 2026", "P3", "Ein bestimmtes Ergebnis"),
        "uk": ("C-1", "another audience", "12 березня 2026 року", "P3", "певного результату"),
    },
    LetterKind.CONSULTATION: {
        "en": ("8 March 2026, 14:00 (Europe/Kyiv)", "30 min", "by phone", "P3"),
        "de": ("8. März 2026, 14:00 Uhr (Europe/Kyiv)", "30 Min.", "by phone", "P3"),
        "uk": ("8 березня 2026 року, 14:00 (Europe/Kyiv)", "30 хв", "by phone", "P3"),
    },
    LetterKind.COMPENSATION: {
        "en": ("A credit for our services worth 50.00 EUR", "for the trouble", "P3"),
        "de": ("Ein Guthaben für unsere Leistungen im Wert von 50,00 EUR", "for the trouble", "P3"),
        "uk": ("Кредит на наші послуги вартістю 50,00 EUR", "for the trouble", "P3"),
    },
    LetterKind.REFUND_FULL: {
        "en": ("refunded 590.00 EUR", "TR-1", "5 March 2026", "P5", "7-day period", "had not begun yet"),
        "de": ("590,00 EUR erstattet", "TR-1", "5. März 2026", "P5", "7-tägigen Frist", "noch nicht begonnen"),
        "uk": ("повернули Вам 590,00 EUR", "TR-1", "5 березня 2026 року", "P5", "7-денного", "ще не почалося"),
    },
    LetterKind.REFUND_PART: {
        "en": (
            "300.00 EUR of the 20,000.00 EUR",
            "- an error in billing: 300.00 EUR",
            "TR-1",
            "P6",
            "few working days",
        ),
        "de": ("300,00 EUR von den bezahlten 20.000,00 EUR", "- ein Abrechnungsfehler: 300,00 EUR", "TR-1", "P6"),
        "uk": ("300,00 EUR із сплачених 20\u00a0000,00 EUR", "- помилка в рахунку: 300,00 EUR", "TR-1", "P6"),
    },
    LetterKind.NO_REFUND: {
        "en": ("no refund is due", "after the 7-day period", "P4: Work", "a change to your service", "consultation"),
        "de": ("keine Erstattung", "nach der 7-tägigen Frist", "P4: Geleistete", "eine Änderung an Ihrer Leistung"),
        "uk": ("підстав для повернення коштів немає", "7-денного строку", "P4: ", "зміну послуги"),
    },
    LetterKind.CLOSING: {
        "en": ("closed your case C-1", "explained", "4 April 2026, 15:00 (Europe/Kyiv)"),
        "de": ("Fall C-1 abgeschlossen", "erklärt", "4. April 2026, 15:00 Uhr (Europe/Kyiv)"),
        "uk": ("закрили Вашу справу C-1", "пояснили", "4 квітня 2026 року, 15:00 (Europe/Kyiv)"),
    },
}


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", LetterKind)
def test_a_letter_tells_what_was_recorded_and_what_the_rules_say(kind: LetterKind, language: str) -> None:
    desk = DESKS[kind]()

    written = drafted(desk, kind, language)

    assert written is not None
    for said in TOLD[kind][language]:
        assert said in written.text, written.text
    assert "Una Quill" in written.text.splitlines()[0]
    assert written.text.endswith("Ana\nStep-Into")
    assert (written.subject, written.language) == ("Re: The banners [#TAGA]", language)
    assert isinstance(desk.histories["A"][written.basis - 1].data, RESTS_ON[kind])
    assert "{" not in written.text


@pytest.mark.parametrize("kind", LetterKind)
def test_of_each_outcome_there_is_one_letter(kind: LetterKind) -> None:
    desk = DESKS[kind]()

    assert [*bases(desk.case, context_of(desk), desk.now)] == [kind]


def test_of_a_case_that_nobody_has_decided_anything_about_there_is_no_letter() -> None:
    opened = Desk()
    opened.open()
    unexamined = a_desk(affected=None)
    unexamined.ground(euros("10.00"), verified_by=None)

    assert bases(opened.case, context_of(opened), NOON) == {}
    assert bases(unexamined.case, context_of(unexamined), NOON) == {}
    assert bases(a_desk().case, context_of(a_desk()), NOON) == {}  # something is due


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"purchase": None}, "We found no purchase"),
        ({"purchase": None, "category": Category.RESULTS}, "below expectation are by themselves no ground"),
        ({"category": Category.RESULTS}, "P7: Marketing"),
        ({}, "the service had begun and results of our work had been handed over"),
        ({}, "None of this is on record: an error in billing; a technical failure"),
    ],
)
def test_why_there_is_no_refund_is_told_by_its_reasons(changes: dict[str, Any], said: str) -> None:
    assert said in letter(nothing_due(**changes), LetterKind.NO_REFUND)


def test_a_claim_that_was_examined_and_not_found_so_is_said_to_be_that() -> None:
    desk = nothing_due()
    desk.ground(euros("10.00"), verified_by=None)
    assert drafted(desk, LetterKind.NO_REFUND) is None

    desk.do(CLEO, verifies(desk.case.grounds[-1], verified=False))

    assert "could not confirm: an error in billing" in letter(desk, LetterKind.NO_REFUND)


def test_a_refund_of_all_that_errors_cost_is_full_and_names_each() -> None:
    desk = a_desk(affected="20000.00")
    proposal = desk.do(ANA, proposes(euros("20000.00"))).proposals[-1]
    for approver in (CLEO, DIRK):
        desk.approve(proposal, approver)
    desk.do(replace(CLEO, id="eli"), refunds(proposal))

    text = letter(desk, LetterKind.REFUND_FULL)

    assert "- an error in billing: 20,000.00 EUR" in text
    assert "P6" in text
    assert "P5:" not in text


@pytest.mark.parametrize("resolution", [one for one in Resolution if one is not Resolution.REMEDY_ACCEPTED])
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_closing_letter_says_how_it_ended_but_nobody_writes_to_spam(resolution: Resolution, language: str) -> None:
    desk = a_desk()
    desk.do(ANA, a_letter())
    desk.do(ANA, closing(resolution))

    written = drafted(desk, LetterKind.CLOSING, language)

    assert (written is None) is (resolution is Resolution.SPAM)
    if written is not None:
        assert languages()[language].texts[f"closing.{resolution}"].format(number="C-1") in written.text


def test_an_offer_whose_time_is_over_a_call_that_has_begun_and_a_case_closed_for_good_give_no_letters() -> None:
    for kind, days in ((LetterKind.ADJUSTMENT, 8), (LetterKind.CONSULTATION, 3), (LetterKind.CLOSING, 31)):
        desk = DESKS[kind]()
        desk.now += days * DAY
        assert drafted(desk, kind) is None


def test_a_desk_that_words_a_clause_itself_is_quoted() -> None:
    own = [Clause(id=one.id, text="We always find a way." if one.id is ClauseId.P3 else one.text) for one in V1.clauses]
    desk = Desk(replace(V1, clauses=tuple(own)))
    desk.open()
    desk.investigate()
    lead_to(CaseState.ADJUSTMENT_OFFERED, desk)

    assert "P3: We always find a way." in letter(desk, LetterKind.ADJUSTMENT, "uk")


def test_what_was_erased_is_in_no_letter() -> None:
    desk = DESKS[LetterKind.ADJUSTMENT]()
    (basis,) = bases(desk.case, context_of(desk), desk.now).values()
    assert draft(about(desk, texts={}), basis, "Ana") is None


# Around them.


def test_the_acknowledgement_says_what_happens_next_and_repeats_nothing_of_the_client() -> None:
    desk = Desk()
    desk.open()
    opened = desk.histories["A"][0].data
    assert isinstance(opened, e.Opened)
    for language, due in (("en", "6 March 2026, 14:00"), ("de", "6. März 2026, 14:00 Uhr"), ("uk", "6 березня")):
        text = acknowledgement(about(desk, language), opened, "https://desk.example/c/secret")
        assert due in text
        assert all(said in text for said in ("C-1", "[#TAGA]", "\nhttps://desk.example/c/secret\n"))
        assert not any(said in text for said in ("Una", "banners", "example.com"))
    assert "/c/" not in acknowledgement(about(desk), opened, None)


@pytest.mark.parametrize(
    ("subject", "automatic", "said"),
    [
        ("The banners", True, "Your inquiry C-1 [#TAGA]"),
        ("The banners", False, "Re: The banners [#TAGA]"),
        ("AW: Re: The banners", False, "Re: The banners [#TAGA]"),
        ("Verify your account at evil-bank.com/login", True, "Your inquiry C-1 [#TAGA]"),
        ("Buy at https://evil.example", False, "Re: Buy at https://evil.example [#TAGA]"),
        ("  ", False, "Re: Your inquiry C-1 [#TAGA]"),
        ("a\r\nBcc: everybody@example.com", False, "Re: a Bcc: everybody@example.com [#TAGA]"),
        ("x" * 500, False, f"Re: {'x' * 77}… [#TAGA]"),
    ],
)
def test_a_subject_is_one_line_with_the_tag(subject: str, automatic: bool, said: str) -> None:
    desk = Desk()
    desk.open()

    assert subject_of(about(desk, texts={"1/subject": subject}), automatic=automatic) == said
    assert tagged(said, "TAGA") == said


def test_below_a_letter_stands_how_to_answer_and_the_clients_page() -> None:
    desk = DESKS[LetterKind.CLOSING]()

    assert footer(about(desk), "https://desk.example/c/s").endswith("for you alone: https://desk.example/c/s")
    assert "/c/" not in footer(about(desk), None)


# No letter states what was not recorded.

LAST_STEP: dict[LetterKind, type[e.EventData]] = {
    LetterKind.ADJUSTMENT: e.AdjustmentOffered,
    LetterKind.CONSULTATION: e.ConsultationScheduled,
    LetterKind.COMPENSATION: e.CompensationIssued,
    LetterKind.REFUND_FULL: e.Refunded,
    LetterKind.REFUND_PART: e.Refunded,
    LetterKind.CLOSING: e.Closed,
}


@pytest.mark.parametrize("seed", range(4))
def test_no_letter_states_what_was_not_recorded(seed: int) -> None:
    """Whatever happens to three cases in whatever order."""
    walk, seen = Walk(seed), Counter[LetterKind]()
    for _ in range(90):
        walk.go(6)
        for case_id in "ABC":
            seen.update(letters_are_true(walk.desk, case_id))
    assert len(seen) >= 4, seen


def letters_are_true(desk: Desk, case_id: str) -> list[LetterKind]:
    case, history, context = desk.cases[case_id], desk.histories[case_id], context_of(desk)
    last_step = [one for one in history if one.event.trigger is not None][-1]
    found = bases(case, context, desk.now)
    for kind, basis in found.items():
        if kind in LAST_STEP:
            assert isinstance(last_step.data, LAST_STEP[kind])
            assert rests_on(kind, history) == last_step.event.seq
        else:
            assert isinstance(last_step.data, e.InvestigationStarted | e.Resumed | e.Reopened)
        data = last_step.data
        for language in LANGUAGES:
            written = drafted(desk, kind, language, case_id)
            assert written is not None
            words = about(desk, language, case_id).words
            version = context.policy_for(case)
            figures = recorded_figures(case, words, basis=basis, policy=version, event=data)
            assert unrecorded(written.text, figures) == []
            if isinstance(data, e.Refunded):
                assert words.money(data.amount) in written.text
                assert data.payment_reference in written.text
            if isinstance(data, e.AdjustmentOffered):
                assert written.basis == case.remedies[-1].seq
    return [*found]


def test_a_letter_that_states_something_else_is_noticed() -> None:
    """The control of the test above."""
    desk = DESKS[LetterKind.REFUND_PART]()
    writing = about(desk)
    (basis,) = bases(desk.case, writing.context, desk.now).values()
    figures = recorded_figures(desk.case, writing.words, basis=basis, policy=V1)

    assert unrecorded(letter(desk, LetterKind.REFUND_PART), figures) == []
    assert {"301.00", "2026."} <= {*unrecorded("We have refunded 301.00 EUR on 6 April 2026.", figures)}
