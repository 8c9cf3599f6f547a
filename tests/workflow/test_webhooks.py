"""What other systems are told of, and what never."""

import re
from pathlib import Path
from typing import get_type_hints

import pytest

from storage.chains import TRIGGERS
from tests.workflow.builders import ADAM, LOU, NOON
from workflow import events as e
from workflow.errors import BadInput, Forbidden
from workflow.roles import system_actor
from workflow.states import Verdict
from workflow.webhooks import (
    ALLOWED,
    BY_EVENT,
    OVERLAP,
    PING,
    REFUSED,
    TYPES,
    VERDICTS,
    AddWebhook,
    ChangeWebhook,
    DisableWebhook,
    Retiring,
    RotateWebhookSecret,
    Webhook,
    Webhooks,
    decide_webhook,
    telling_of,
)

DOCS = Path(__file__).parents[2] / "docs" / "webhooks.md"
CRM = Webhook(id="crm", url="https://crm.example/", types=(ALLOWED,), description="", added_at=NOON)
ONE = Webhooks(version=1, head="0" * 64, changed_at=NOON, endpoints=(CRM,))


def test_every_transition_is_told_as_allowed_and_nothing_else_is() -> None:
    transitions = {e.EVENT_TYPES[name] for name in TRIGGERS}
    assert {data for data, telling in BY_EVENT.items() if telling.type == ALLOWED} == transitions


def test_what_is_told_is_there_and_nothing_by_which_somebody_could_get_in() -> None:
    for data, telling in (*BY_EVENT.items(), *((e.VerdictGiven, one) for one in VERDICTS.values())):
        assert set(telling.fields) <= get_type_hints(data).keys()
    told = {field for telling in BY_EVENT.values() for field in telling.fields}
    assert not told & {"mail_tag", "payment_reference", "commitment", "link"}


def test_only_a_refused_transition_is_told_as_one() -> None:
    attempts = {"Fire": REFUSED, "GiveVerdict": "casework.attempt.refused"}
    for command, kind in attempts.items():
        telling = telling_of(e.AttemptRefused(code="forbidden", command=command))
        assert telling is not None
        assert telling.type == kind
    assert telling_of(e.NoteAdded()) is None
    for verdict, kind in ((Verdict.APPROVE, "approved"), (Verdict.REFUSE, "refused")):
        telling = telling_of(e.VerdictGiven(proposal="p1", verdict=verdict, digest="", roles=()))
        assert telling is not None
        assert telling.type == f"casework.proposal.{kind}"


def test_the_documentation_lists_every_type() -> None:
    listed = re.findall(r"^\| `(casework\.[a-z.]+)` \|", DOCS.read_text(), re.MULTILINE)
    assert sorted(listed) == sorted((*TYPES, PING))


def test_two_secrets_sign_for_a_day_and_never_more_than_two() -> None:
    rotated = decide_webhook(ONE, RotateWebhookSecret(webhook_id="crm"), ADAM, NOON)
    assert rotated is not None
    assert rotated.data == e.WebhookSecretRotated(webhook="crm", generation=2, previous_until=NOON + OVERLAP)
    overlapping = Webhook(
        **{field: getattr(CRM, field) for field in ("id", "url", "types", "description", "added_at")},
        generation=3,
        retiring=Retiring(generation=2, until=NOON + OVERLAP),
    )
    assert overlapping.generations(NOON) == (3, 2)
    assert overlapping.generations(NOON + OVERLAP) == (3,)


def test_the_desk_itself_only_switches_off_and_a_person_does_the_rest() -> None:
    gone = DisableWebhook(webhook_id="crm", url=CRM.url, reason="gone")
    change = ChangeWebhook(webhook_id="crm", url=CRM.url, types=(ALLOWED,), active=False)
    system = system_actor("webhooks")
    assert decide_webhook(ONE, gone, system, NOON) is not None
    for command, actor in ((gone, ADAM), (change, system), (change, LOU)):
        with pytest.raises(Forbidden):
            decide_webhook(ONE, command, actor, NOON)
    assert (
        decide_webhook(ONE, ChangeWebhook(webhook_id="crm", url=CRM.url, types=(ALLOWED,), active=True), ADAM, NOON)
        is None
    )


def test_types_are_kept_once_and_in_one_order() -> None:
    added = decide_webhook(
        Webhooks(), AddWebhook(webhook_id="x", url=CRM.url, types=(*TYPES[::-1], ALLOWED)), ADAM, NOON
    )
    assert added is not None
    assert isinstance(added.data, e.WebhookAdded)
    assert added.data.types == TYPES
    with pytest.raises(BadInput):
        decide_webhook(ONE, AddWebhook(webhook_id="crm", url=CRM.url, types=TYPES), ADAM, NOON)
