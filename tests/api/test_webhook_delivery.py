"""What an endpoint is sent, and what comes of its answers: by real servers, and the reference library's verdict."""

import socket
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from api import webhook_delivery, webhook_post
from api.carrying_out import Done, Failed, Needless, NotYet, Result
from api.webhook_delivery import deliver
from storage import outbox
from storage.outbox import Effect
from tests.api.driving import Clock, Json, Service, done, running
from tests.api.receivers import HOST, Answer, Authority, Receiver, a_receiver, answering
from workflow.effects import EffectKind
from workflow.webhooks import TYPES

MINUTE = timedelta(minutes=1)


@pytest.fixture
def backend() -> str:
    """What is asked of the database here is tested on both in tests/storage."""
    return "sqlite"


@pytest.fixture
def clock() -> Clock:
    """The reference library looks at its own."""
    return Clock(datetime.now(UTC))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def trusted(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    webhook_post.trust.cache_clear()
    yield
    webhook_post.trust.cache_clear()


@pytest.fixture
def receiver(authority: Authority, trusted: None) -> Iterator[Receiver]:  # noqa: ARG001 - trusted
    with a_receiver(authority.certificate(HOST)) as receiver:
        yield receiver


class Names:
    """Leads every name to `answers`, one after the other, the last for good; `asked` counts."""

    def __init__(self, *answers: str) -> None:
        self.answers = [*answers]
        self.asked = 0

    async def __call__(self, _host: str, _port: int) -> list[str]:
        self.asked += 1
        return [self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]]


@pytest.fixture
async def service(desk_url: str, clock: Clock, tmp_path: Path) -> AsyncIterator[Service]:
    """A desk whose receivers are on this very machine."""
    async with running(desk_url, clock, key_folder=tmp_path / "keys", webhook_networks="127.0.0.0/8") as service:
        service.desk.network.resolve = Names("127.0.0.1")
        yield service


async def an_endpoint(service: Service, port: int, *types: str, url: str = f"https://{HOST}", **more: Any) -> Json:
    body = {"url": f"{url}:{port}/casework?from=desk", "types": types or TYPES} | more
    added: Json = done(await service.adam.post("/v1/webhooks", body), 201)
    return added


async def waiting(service: Service) -> list[Effect]:
    """What is due by now, claimed; events of one moment are a microsecond apart."""
    service.clock.advance(seconds=1)
    kinds = frozenset({EffectKind.WEBHOOK})
    return await outbox.claim(service.desk.database, kinds, service.clock(), lease=MINUTE, limit=100)


async def told_of_a_case(service: Service, receiver: Receiver) -> tuple[Json, Effect]:
    """An endpoint that hears of cases as they are opened, and what it is to be sent of one."""
    webhook = await an_endpoint(service, receiver.port, "casework.case.opened")
    await service.ana.open()
    (effect,) = await waiting(service)
    return webhook, effect


# What is sent.


async def test_an_event_is_told_as_a_signed_cloud_event_without_anything_personal(
    service: Service, receiver: Receiver
) -> None:
    webhook, effect = await told_of_a_case(service, receiver)

    assert await deliver(service.desk, effect) == Done(reference="http_204")

    (one,) = receiver.received
    assert one.headers["content-type"] == "application/cloudevents+json; charset=utf-8"
    assert (one.path, one.headers["host"]) == ("/casework?from=desk", f"{HOST}:{receiver.port}")
    event = Webhook(webhook["secret"]).verify(one.body, one.headers)
    (case,) = done(await service.ana.get("/v1/cases"))["items"]
    (opened,) = done(await service.ana.get(f"/v1/cases/{case['id']}/events"))["items"]
    directory = await service.desk.directory()
    assert event == {
        "specversion": "1.0",
        "id": f"{opened['chain']}/1/{opened['hash']}",
        "source": f"urn:uuid:{directory.log}",
        "type": "casework.case.opened",
        "subject": case["id"],
        "time": opened["at"],
        "datacontenttype": "application/json",
        "data": {
            "case": case["id"],
            "number": case["number"],
            "version": 1,
            "event": "opened",
            "state_after": "opened",
            "actor": "person:ana",
            "via": "api",
            "category": "billing",
            "received_at": opened["data"]["received_at"],
            "receipt": {"chain": opened["chain"], "seq": 1, "hash": opened["hash"]},
        },
    }
    for secret in ("Una", "una@", "banners", "never ran", opened["data"]["mail_tag"]):
        assert secret.encode() not in one.body


async def test_a_signature_is_of_the_body_the_name_and_the_time(service: Service, receiver: Receiver) -> None:
    webhook, effect = await told_of_a_case(service, receiver)
    await deliver(service.desk, effect)
    (one,) = receiver.received
    verifier = Webhook(webhook["secret"])
    verifier.verify(one.body, one.headers)

    timestamp = str(int(one.headers["webhook-timestamp"]) + 1)
    for body, changed in (
        (one.body + b" ", {}),
        (one.body, {"webhook-id": "msg_another"}),
        (one.body, {"webhook-timestamp": timestamp}),
    ):
        with pytest.raises(WebhookVerificationError):
            verifier.verify(body, one.headers | changed)


async def test_every_attempt_at_a_message_has_its_name_and_no_other_message_has(
    service: Service, receiver: Receiver
) -> None:
    _, effect = await told_of_a_case(service, receiver)
    other = await an_endpoint(service, receiver.port, "casework.case.opened")
    await deliver(service.desk, effect)
    await deliver(service.desk, effect)
    await service.ana.open()
    for one in await waiting(service):
        await deliver(service.desk, one)

    names = [one.headers["webhook-id"] for one in receiver.received]
    assert other["id"] != effect.target
    assert names[0] == names[1]
    assert len(set(names)) == 3


async def test_for_a_day_after_a_rotation_both_secrets_verify(service: Service, receiver: Receiver) -> None:
    webhook, effect = await told_of_a_case(service, receiver)
    rotated = done(await service.adam.post(f"/v1/webhooks/{webhook['id']}/secrets", None), 201)
    old, new = Webhook(webhook["secret"]), Webhook(rotated["secret"])

    await deliver(service.desk, effect)
    for verifier in (old, new):
        verifier.verify(receiver.received[-1].body, receiver.received[-1].headers)

    service.clock.advance(hours=24, seconds=1)
    await deliver(service.desk, effect)
    one = receiver.received[-1]
    present = one.headers["webhook-signature"]
    at = datetime.fromtimestamp(int(one.headers["webhook-timestamp"]), UTC)
    assert present == new.sign(one.headers["webhook-id"], at, one.body.decode())


async def test_a_refusal_is_told_with_its_codes_and_a_refund_with_its_sum(service: Service, receiver: Receiver) -> None:
    await an_endpoint(service, receiver.port, "casework.transition.refused", "casework.transition.allowed")
    case = await service.ana.investigate()
    assert (await service.ana.fire(case["id"], "refund", proposal=None, payment_reference="T-1")).status_code == 403
    assert (await service.ana.fire(case["id"], "investigate")).status_code == 409

    for effect in await waiting(service):
        await deliver(service.desk, effect)

    told = [(one.event["type"], one.event["subject"], one.event["data"]) for one in receiver.received]
    assert [kind for kind, _, _ in told] == [
        "casework.transition.allowed",
        "casework.transition.refused",
        "casework.transition.refused",
    ]
    assert {subject for _, subject, _ in told} == {case["id"]}
    started, forbidden, impossible = (data for _, _, data in told)
    assert (started["trigger"], started["state_before"], started["state_after"]) == (
        "investigate",
        "opened",
        "investigating",
    )
    assert (forbidden["code"], forbidden["trigger"], forbidden["refusals"]) == ("forbidden", "refund", ["role"])
    assert (impossible["code"], impossible["version"]) == ("no_such_transition", started["version"])


# What comes of the answers.


async def answered(service: Service, receiver: Receiver, answer: Answer) -> Result:
    _, effect = await told_of_a_case(service, receiver)
    receiver.answer = answer
    return await deliver(service.desk, effect)


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (answering(200), Done(reference="http_200")),
        (answering(202), Done(reference="http_202")),
        (answering(301, location="https://hooks.example/"), Failed(code="http_301")),
        (answering(304), Failed(code="http_304")),
        (answering(400), Failed(code="http_400")),
        (answering(404), Failed(code="http_404")),
        (answering(429), Failed(code="http_429")),
        (answering(429, retry_after="7"), NotYet(after=timedelta(seconds=7))),
        (answering(503, retry_after="0"), NotYet(after=timedelta(seconds=1))),
        (answering(503, retry_after="9" * 30), NotYet(after=timedelta(hours=1))),
        (answering(503, retry_after="soon"), Failed(code="http_503")),
        (answering(500, retry_after="7"), Failed(code="http_500")),
    ],
)
async def test_what_an_answer_means(service: Service, receiver: Receiver, answer: Answer, result: Result) -> None:
    assert await answered(service, receiver, answer) == result
    assert len(receiver.received) == 1


async def test_later_can_be_a_date_and_nobody_is_asked_for_later_for_ever(service: Service, receiver: Receiver) -> None:
    _, effect = await told_of_a_case(service, receiver)
    service.clock.now = service.clock.now.replace(microsecond=0)
    receiver.answer = answering(503, retry_after=format_datetime(service.clock.now + 5 * MINUTE, usegmt=True))

    assert await deliver(service.desk, effect) == NotYet(after=5 * MINUTE)
    service.clock.advance(days=3, seconds=1)
    assert await deliver(service.desk, effect) == Failed(code="http_503")


async def test_an_endpoint_that_is_gone_is_switched_off_and_the_log_says_so(
    service: Service, receiver: Receiver
) -> None:
    webhook, effect = await told_of_a_case(service, receiver)
    receiver.answer = answering(410)

    assert await deliver(service.desk, effect) == Needless(code="webhook_gone")

    shown = done(await service.adam.get(f"/v1/webhooks/{webhook['id']}"))
    assert (shown["active"], shown["reason"]) == (False, "gone")
    feed = done(await service.lou.get("/v1/events", limit=1000))["items"]
    (told,) = (one["event"] for one in feed if one["event"]["type"] == "webhook_changed")
    assert (told["actor"], told["data"]["reason"]) == ("system:webhooks", "gone")
    await service.ana.open()
    assert await waiting(service) == []  # but for the one that is claimed
    assert await deliver(service.desk, effect) == Needless(code="webhook_disabled")
    assert len(receiver.received) == 1


async def test_nothing_is_sent_to_an_endpoint_that_was_removed(service: Service, receiver: Receiver) -> None:
    webhook, effect = await told_of_a_case(service, receiver)
    done_with = await service.adam.send("DELETE", f"/v1/webhooks/{webhook['id']}")
    assert (done_with.status_code, done_with.content) == (204, b"")

    assert await deliver(service.desk, effect) == Needless(code="webhook_removed")
    assert receiver.received == []


async def test_what_is_on_its_way_goes_where_the_endpoint_is_by_now(
    service: Service, receiver: Receiver, authority: Authority
) -> None:
    webhook, effect = await told_of_a_case(service, receiver)
    with a_receiver(authority.certificate(HOST)) as new:
        body = {"url": f"https://{HOST}:{new.port}/", "types": webhook["types"], "active": True}
        done(await service.adam.put(f"/v1/webhooks/{webhook['id']}", body))

        assert await deliver(service.desk, effect) == Done(reference="http_204")
        assert (len(receiver.received), len(new.received)) == (0, 1)


# Receivers that mean no good.


async def test_a_redirect_is_never_followed_wherever_it_leads(service: Service, receiver: Receiver) -> None:
    metadata = answering(302, location="http://169.254.169.254/latest/meta-data/")
    own = answering(307, location=f"https://{HOST}:{receiver.port}/again")

    assert await answered(service, receiver, metadata) == Failed(code="http_302")
    receiver.answer = own
    await service.ana.open()
    (effect,) = await waiting(service)
    assert await deliver(service.desk, effect) == Failed(code="http_307")
    assert len(receiver.received) == 2


async def test_a_name_that_leads_elsewhere_by_now_is_refused_at_the_next_attempt(
    service: Service, receiver: Receiver
) -> None:
    _, effect = await told_of_a_case(service, receiver)
    service.desk.network.allowed = ()

    service.desk.network.resolve = Names("127.0.0.1")
    assert await deliver(service.desk, effect) == Failed(code="address_refused")
    assert receiver.received == []


async def test_a_connection_goes_to_the_address_that_was_looked_at_whatever_the_name_means_a_moment_later(
    service: Service, receiver: Receiver, authority: Authority
) -> None:
    with a_receiver(authority.certificate(HOST)) as inside:
        _, effect = await told_of_a_case(service, receiver)
        names = service.desk.network.resolve = Names("127.0.0.1", "127.0.0.99")
        assert await deliver(service.desk, effect) == Done(reference="http_204")
        assert (names.asked, len(receiver.received), len(inside.received)) == (1, 1, 0)
        assert await deliver(service.desk, effect) == Failed(code="connection_failed")  # looked up anew


def dripping(handler: BaseHTTPRequestHandler) -> None:
    for octet in b"HTTP/1.1 200 OK\r\n" * 100:
        handler.wfile.write(bytes((octet,)))
        handler.wfile.flush()
        time.sleep(0.05)


async def test_a_receiver_that_answers_octet_by_octet_is_left_after_a_while(
    service: Service, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_delivery, "ANSWER_SECONDS", 0.5)

    assert await answered(service, receiver, dripping) == Failed(code="timed_out")


def without_end(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b"!" * 65536)


def all_head(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.flush_headers()
    while True:
        handler.wfile.write(b"x-more: " + b"!" * 1000 + b"\r\n")


def hanging_up(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.flush()


def nonsense(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"220 mail.example ESMTP\r\n")


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (without_end, Done(reference="http_200")),
        (all_head, Failed(code="answer_unreadable")),
        (hanging_up, Failed(code="answer_unreadable")),
        (nonsense, Failed(code="answer_unreadable")),
    ],
)
async def test_what_makes_no_sense_or_has_no_end_harms_nobody(
    service: Service, receiver: Receiver, answer: Answer, result: Result
) -> None:
    assert await answered(service, receiver, answer) == result


async def test_whoever_cannot_prove_the_name_is_told_nothing(
    service: Service,
    authority: Authority,
    trusted: None,  # noqa: ARG001 - sets the environment
    tmp_path: Path,
) -> None:
    for certificate in (authority.certificate("other.example"), Authority(tmp_path).certificate(HOST)):
        with a_receiver(certificate) as impostor:
            await an_endpoint(service, impostor.port, "casework.case.opened")
            await service.ana.open()
            *_, effect = await waiting(service)
            assert await deliver(service.desk, effect) == Failed(code="certificate_refused")
            assert impostor.received == []


async def test_a_server_without_tls_and_one_that_is_not_there_fail_by_name(service: Service, trusted: None) -> None:  # noqa: ARG001
    with a_receiver() as plain:
        _, effect = await told_of_a_case(service, plain)
        assert await deliver(service.desk, effect) == Failed(code="tls_failed")
    assert await deliver(service.desk, effect) == Failed(code="connection_failed")


async def test_within_ones_own_network_no_tls_is_needed(service: Service) -> None:
    with a_receiver() as plain:
        await an_endpoint(service, plain.port, "casework.case.opened", url="http://127.0.0.1")
        await service.ana.open()
        (effect,) = await waiting(service)
        assert await deliver(service.desk, effect) == Done(reference="http_204")


async def test_no_proxy_of_the_environment_is_asked(
    service: Service, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.settimeout(0.1)
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")

        assert isinstance(await answered(service, receiver, answering(204)), Done)
        with pytest.raises(TimeoutError):  # nobody has come
            proxy.accept()


async def test_without_the_desks_secret_nothing_is_sent_unsigned(service: Service, receiver: Receiver) -> None:
    _, effect = await told_of_a_case(service, receiver)
    service.desk.settings = service.desk.settings.model_copy(update={"secret_key": None})

    assert await deliver(service.desk, effect) == Failed(code="secret_key_missing")
    assert receiver.received == []


async def test_the_largest_message_stays_below_what_receivers_take(service: Service, receiver: Receiver) -> None:
    await an_endpoint(service, receiver.port)
    case = await service.ana.investigate()
    await service.ana.fire(case["id"], "close", resolution="duplicate", duplicate_of=case["id"])
    await service.ana.fire(case["id"], "refund", proposal=None, payment_reference="T" * 400)
    for effect in await waiting(service):
        assert isinstance(await deliver(service.desk, effect), Done)

    assert receiver.received
    assert max(len(one.body) for one in receiver.received) < 20_000
