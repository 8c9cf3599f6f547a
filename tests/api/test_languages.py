"""A language is a file: found by being there, complete, and recognised in what clients write."""
# The words of many languages hold letters that look like others.

import json
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from api.letters.languages import FOLDER, Words, codes, languages, recognised
from api.mail_parsing import parse_mail
from api.settings import Settings
from tests.shared import shared_path
from workflow.money import Money
from workflow.states import LetterKind, Resolution

INVENTED = (FOLDER / "en.toml").read_text().replace('code = "en"', 'code = "tlh"')


def test_every_language_says_everything_and_names_the_same_facts() -> None:
    english = languages()["en"].placeholders()

    assert {*languages()} >= {"en", "de", "uk"}
    for code, language in languages().items():
        assert language.placeholders() == english, code
        assert len(language.formats.months) == len({*language.formats.months}) == 12
        assert all(text.strip() for text in language.texts.values())
    assert {f"closing.{one}" for one in Resolution if one is not Resolution.SPAM} <= english.keys()
    assert len({*english}) > len(LetterKind)


def test_a_file_is_named_after_its_language() -> None:
    assert [*languages()] == codes()


def test_a_language_is_added_by_adding_a_file(tmp_path: Path) -> None:
    for code in ("en", "de"):
        (tmp_path / f"{code}.toml").write_bytes((FOLDER / f"{code}.toml").read_bytes())
    invented = INVENTED.replace("the and you", "tlhingan hol nuqneh qastah maj").replace("Dear {name},", "{name}!")
    (tmp_path / "tlh.toml").write_text(invented)

    known = languages(tmp_path)

    assert [*known] == codes(tmp_path) == ["de", "en", "tlh"]
    assert known["tlh"].placeholders() == known["en"].placeholders()
    assert Words(known["tlh"], "UTC")("greeting.name", name="Worf") == "Worf!"
    assert recognised(["nuqneH! tlhIngan Hol qaStaH nuqneH. maj."], "en", known) == "tlh"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Guten Tag, ich habe die Rechnung noch nicht bekommen.", "de"),
        ("Добрий день! Коли я отримаю відповідь на свій лист?", "uk"),
        ("Hello, I have not had the invoice yet.", "en"),
        ("Bonjour, je n'ai pas encore reçu la facture, c'est très gênant pour nous.", "xx"),
        ("Здравствуйте, я ещё не получил счёт, и это неправильно. Когда вы ответите?", "xx"),
        ("Dzień dobry, nie dostałem jeszcze faktury i proszę o odpowiedź.", "xx"),
        ("請問什麼時候會收到發票?", "xx"),
        ("Hallo", "xx"),
        ("", "xx"),
        ("https://the.and.you.example/for/with/have the@and.example", "xx"),
        ("Danke, das ist nicht, was wir bestellt haben.\n> We have looked into it and you will have the refund.", "de"),
    ],
)
def test_a_language_is_recognised_or_left_open(text: str, code: str) -> None:
    assert recognised([text], "xx") == code


def test_what_was_said_last_is_heard_first() -> None:
    german = "Wir haben noch keine Antwort von Ihnen. " * 100
    assert recognised([german, "And this is what I wrote before, in the language that you have. " * 100], "xx") == "de"


def test_the_languages_of_the_inquiries_are_recognised() -> None:
    folder = shared_path("inquiries")
    for one in json.loads((folder / "index.json").read_text()):
        raw = (folder / one["file"]).read_bytes()
        mail = parse_mail(raw, arrived_at=datetime(2026, 3, 5, tzinfo=UTC), support_address="support@step-into.example")
        if one["kind"] in {"new", "follow_up"} and one.get("language"):
            spoken = one["language"] if one["language"] in languages() else "xx"
            assert recognised([mail.new_text, mail.subject], "xx") == spoken, one["file"]


@pytest.mark.parametrize(
    ("code", "euros", "yen", "day", "moment"),
    [
        ("en", "1,180.05 EUR", "48,000 JPY", "1 May 2026", "1 May 2026, 00:30 (Europe/Kyiv)"),
        ("de", "1.180,05 EUR", "48.000 JPY", "1. Mai 2026", "1. Mai 2026, 00:30 Uhr (Europe/Kyiv)"),
        ("uk", "1\u00a0180,05 EUR", "48\u00a0000 JPY", "1 травня 2026 року", "1 травня 2026 року, 00:30 (Europe/Kyiv)"),
    ],
)
def test_money_and_times_are_written_as_the_language_does(
    code: str, euros: str, yen: str, day: str, moment: str
) -> None:
    words = Words(languages()[code], "Europe/Kyiv")
    late = datetime(2026, 4, 30, 21, 30, tzinfo=UTC)

    assert words.money(Money(118005, "EUR")) == euros
    assert words.money(Money(48000, "JPY")) == yen
    assert words.day(late) == words.day(date(2026, 5, 1)) == day
    assert words.moment(late) == moment


def test_the_desks_own_language_has_to_be_there() -> None:
    assert Settings(language="uk").language == "uk"
    with pytest.raises(ValueError, match="none that letters are written in: de, en, uk"):
        Settings(language="tlh")
