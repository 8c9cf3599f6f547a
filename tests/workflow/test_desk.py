"""Commands about the desk itself: its policy, and what is recorded beside the cases."""

import pytest

from tests.workflow.builders import ADAM, ANA, AUDREY, CLEO, DAY, LOU, MAIL, NOON, V1
from workflow.desk import AddPolicy, RecordRead, RecordRefusal, SetMailAside, decide_policy, single_event
from workflow.errors import Forbidden, InvalidPolicy
from workflow.events import AttemptRefused, CaseRead, MailSetAside, PolicyAdded
from workflow.policy import Settings
from workflow.roles import Actor


def test_an_admin_adds_the_next_version_of_the_policy_and_the_log_has_all_of_it() -> None:
    command = AddPolicy(settings=Settings(window_days=14), effective_from=NOON + DAY)

    draft, version = decide_policy((V1,), command, ADAM, NOON)

    assert (version.version, version.effective_from, version.settings.window_days) == (2, NOON + DAY, 14)
    assert draft.data == PolicyAdded(version=version)


def test_a_version_of_the_policy_holds_from_now_at_the_earliest() -> None:
    _, version = decide_policy((V1,), AddPolicy(settings=Settings()), ADAM, NOON)
    assert version.effective_from == NOON

    with pytest.raises(InvalidPolicy):
        decide_policy((V1,), AddPolicy(settings=Settings(), effective_from=NOON - DAY), ADAM, NOON)


@pytest.mark.parametrize("actor", [ANA, LOU, CLEO, AUDREY, MAIL])
def test_only_an_admin_changes_the_policy(actor: Actor) -> None:
    with pytest.raises(Forbidden):
        decide_policy((V1,), AddPolicy(settings=Settings()), actor, NOON)


def test_mail_that_opened_nothing_is_kept_without_its_words_in_the_event() -> None:
    kind, draft = single_event(SetMailAside(reason="newsletter", sender="n@example.com", subject="News", text="Buy!"))

    assert (kind, draft.data) == ("set_aside", MailSetAside(reason="newsletter"))
    assert draft.personal == {"sender": "n@example.com", "subject": "News", "text": "Buy!"}


def test_reads_and_early_refusals_are_events_of_their_own() -> None:
    read = RecordRead(case="A", version=3, what="case")
    refused = RecordRefusal(code="forbidden", attempted="GET /v1/refusals", case="A")

    kind, draft = single_event(read)
    assert (kind, draft.data) == ("read", CaseRead(case="A", version=3, what="case"))
    kind, draft = single_event(refused)
    assert (kind, draft.data) == (
        "refusal",
        AttemptRefused(code="forbidden", command="GET /v1/refusals", case="A"),
    )
