"""Mail from one's own server: what is acknowledged is there, and each recipient gets an answer."""

import asyncio
import os
import random
import smtplib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest

from api import lmtp, mail_intake, receiving
from api.desk import Desk
from api.health import ready_view
from api.receiving import Receiving, Reception
from api.settings import Settings
from tests.api.imap import between
from tests.api.mailing import (
    Clock,
    a_mail,
    acknowledgements,
    all_cases,
    cases_by_letter,
    events_written,
    examples,
    expected,
    in_some_order,
    opened_desk,
    set_aside,
    with_the_tag,
)
from tests.databases import copy_sqlite

T = TypeVar("T")

LINES = int(os.environ.get("TEST_LINES", "1"))

DESK, CLIENT = "support@step-into.example", "orla@kiosk.example.com"


class Service:
    """A desk that listens."""

    def __init__(self, desk: Desk, receiving: Receiving) -> None:
        self.desk = desk
        self.receiving = receiving

    @property
    def listener(self) -> lmtp.Listener:
        (source,) = self.receiving.sources
        assert isinstance(source, lmtp.Listener)
        return source

    @property
    def port(self) -> int:
        return int(self.listener.address[1])

    async def says(self, talk: Callable[[smtplib.LMTP], T], port: int | None = None) -> T:
        """What comes of it when a mail server talks with the desk."""

        def spoken() -> T:
            server = smtplib.LMTP("127.0.0.1", port or self.port, timeout=30)
            try:
                server.ehlo("mx.step-into.example")
                return talk(server)
            finally:
                server.close()

        return await asyncio.to_thread(spoken)

    async def deliver(self, raw: bytes, *recipients: str, sender: str = CLIENT, port: int | None = None) -> list[Any]:
        """The answers: to each recipient, or, where all of those are fine, for each after the mail."""
        return await self.says(lambda server: delivered(server, raw, recipients or (DESK,), sender), port)


def delivered(server: smtplib.LMTP, raw: bytes, recipients: tuple[str, ...], sender: str) -> list[Any]:
    server.mail(sender)
    answers = [server.rcpt(one)[0] for one in recipients]
    if set(answers) != {250}:
        return answers
    code, _ = server.docmd("DATA")
    assert code == 354
    server.send(smtplib._quote_periods(raw) + b"\r\n.\r\n")  # type: ignore[attr-defined]  # noqa: SLF001
    return [server.getreply()[0] for _ in recipients]


@asynccontextmanager
async def listening(url: str, place: str = "127.0.0.1:0", **given: Any) -> AsyncIterator[Service]:
    async with opened_desk(url, Clock(), lmtp=place, **given) as desk:
        receiving = Receiving(desk)
        receiving.open()
        service = Service(desk, receiving)
        async with asyncio.timeout(30):
            while service.listener.address is None and service.receiving.states[0].problem is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        try:
            yield service
        finally:
            await receiving.close()


@pytest.fixture
def url(sqlite_template: str, tmp_path: Path) -> str:
    return copy_sqlite(sqlite_template, tmp_path / "casework.db")


@pytest.fixture
async def service(url: str) -> AsyncIterator[Service]:
    async with listening(url) as service:
        yield service


async def test_a_mail_that_is_acknowledged_has_opened_its_case(service: Service) -> None:
    assert await service.deliver(a_mail()) == [250]

    assert len(await all_cases(service.desk)) == 1
    assert service.receiving.states[0].received_at is not None


async def test_how_it_goes_is_told_and_counted(service: Service) -> None:
    counted = receiving.RECEIVED.labels("opened")._value  # noqa: SLF001 - the library's own tests do so
    before = counted.get()

    await service.deliver(a_mail())

    assert counted.get() == before + 1
    (source,) = (await ready_view(service.desk))["mail"]
    assert (source["name"], source["problem"]) == ("lmtp", None)
    service.receiving.states[0].problem = "cannot_listen"
    assert "no mail is received from lmtp: cannot_listen" in (await ready_view(service.desk))["warnings"]


async def test_lines_that_begin_with_a_period_arrive_as_they_were(service: Service) -> None:
    await service.deliver(a_mail(text="One.\r\n.\r\n..two"))

    assert len(await cases_by_letter(service.desk)) == 1
    (case,) = await all_cases(service.desk)
    texts = await texts_of(service.desk, case.id)
    assert texts["1/message"].split() == ["One.", ".", "..two"]


async def texts_of(desk: Desk, case_id: str) -> dict[str, str]:
    from storage import cases  # noqa: PLC0415 - the name means something else above

    return await cases.texts_of(desk.database, case_id)


async def test_each_recipient_is_answered_for(service: Service) -> None:
    assert await service.deliver(a_mail(), DESK, "Support+7K3M9Q2F@step-into.example") == [250, 250]

    assert len(await all_cases(service.desk)) == 1


@pytest.mark.parametrize(
    "recipient",
    ["somebody@step-into.example", "support@elsewhere.example", "supporter@step-into.example", "postmaster"],
)
async def test_mail_for_others_is_refused(service: Service, recipient: str) -> None:
    assert await service.deliver(a_mail(), DESK, recipient) == [250, 550]

    assert await all_cases(service.desk) == []


async def test_the_tag_in_the_address_that_was_written_to_leads_to_the_case(service: Service) -> None:
    await service.deliver(a_mail())
    (case,) = await all_cases(service.desk)

    await service.deliver(a_mail(), f"support+{case.mail_tag.lower()}@step-into.example")

    assert [len(one.client_messages) for one in await all_cases(service.desk)] == [2]


async def test_mail_without_anybody_to_answer_opens_nothing(service: Service) -> None:
    assert await service.deliver(a_mail(), sender="") == [250]

    ((reason, _),) = await set_aside(service.desk)
    assert reason == "empty_return_path"


async def test_the_same_mail_again_is_acknowledged_and_does_nothing(service: Service) -> None:
    raw = a_mail()

    assert [await service.deliver(raw) for _ in range(3)] == [[250]] * 3
    assert len(await all_cases(service.desk)) == 1


async def test_while_the_desk_can_take_nothing_the_server_keeps_it(service: Service) -> None:
    await service.desk.ledger.close()

    assert await service.deliver(a_mail(), DESK, DESK) == [451, 451]


async def test_a_mail_that_fails_stays_with_the_server_and_people_are_told_once(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any, **__: Any) -> Any:
        raise RecursionError

    monkeypatch.setattr(mail_intake, "parse_mail", failing)
    raw = a_mail()

    answers = [await service.deliver(raw) for _ in range(receiving.ATTEMPTS + 2)]

    assert answers == [[451]] * (receiving.ATTEMPTS + 2)
    ((reason, _),) = await set_aside(service.desk)
    assert reason == "failed: RecursionError"
    monkeypatch.undo()
    assert await service.deliver(raw) == [250]
    assert len(await all_cases(service.desk)) == 1


async def test_it_says_what_it_can(service: Service) -> None:
    features = await service.says(lambda server: server.esmtp_features)

    assert features.keys() >= {"size", "pipelining", "8bitmime", "smtputf8", "enhancedstatuscodes"}
    assert features["size"] == str(lmtp.MAIL_BYTES)


async def test_a_mail_that_is_too_large_is_refused_before_it_is_sent_and_after(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lmtp, "MAIL_BYTES", 1_000_000)

    def too_large(server: smtplib.LMTP) -> tuple[int, bytes]:
        return server.mail(CLIENT, [f"SIZE={lmtp.MAIL_BYTES + 1}"])

    code, said = await service.says(too_large)
    assert (code, said[:6]) == (552, b"5.0.0 ")
    line = b"x" * 70 + b"\r\n"
    assert await service.deliver(a_mail() + line * (lmtp.MAIL_BYTES // 72 + 1), DESK, DESK) == [552, 552]
    assert await all_cases(service.desk) == []


async def test_a_line_without_an_end_is_refused_for_each_recipient(service: Service) -> None:
    assert await service.deliver(a_mail(text="x" * (lmtp.LINE_BYTES + 1)), DESK, DESK) == [500, 500]

    assert await service.deliver(a_mail(text="x" * (lmtp.LINE_BYTES // 2))) == [250]


async def test_a_mail_without_an_end_fills_no_memory(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmtp, "MAIL_BYTES", 100_000)
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(f"LHLO x\r\nMAIL FROM:<{CLIENT}>\r\nRCPT TO:<{DESK}>\r\nDATA\r\n".encode())
    await reader.readuntil(b"354 ")

    with suppress(ConnectionError):
        async with asyncio.timeout(10):
            for _ in range(20):
                writer.write(b"x" * 50_000)
                await writer.drain()
            await reader.read()
    writer.close()

    async with asyncio.timeout(10):
        while service.listener.sessions:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
    assert await service.deliver(a_mail()) == [250]


async def test_several_commands_can_come_at_once(service: Service) -> None:
    commands = f"LHLO x\r\nMAIL FROM:<{CLIENT}>\r\nRCPT TO:<{DESK}>\r\nRCPT TO:<else@x.example>\r\nDATA\r\n".encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)

    writer.write(commands)
    said = await reader.readuntil(b"354 ")
    said += await reader.readline()
    writer.write(a_mail() + b".\r\nQUIT\r\n")
    said += await reader.read()
    writer.close()

    codes = [line[:9] for line in said.splitlines() if line[3:4] == b" "]
    assert codes[1:] == [
        b"250 ENHAN",
        b"250 2.0.0",
        b"250 2.1.5",
        b"550 5.1.1",
        b"354 End d",
        b"250 2.0.0",
        b"221 2.0.0",
    ]


@pytest.mark.parametrize("greeting", ["HELO x", "EHLO x"])
async def test_it_speaks_nothing_else(service: Service, greeting: str) -> None:
    assert (await service.says(lambda server: server.docmd(greeting)))[0] == 500


async def test_too_many_connections_are_turned_away_for_now(service: Service) -> None:
    lines = [await asyncio.open_connection("127.0.0.1", service.port) for _ in range(lmtp.MAX_SESSIONS)]
    for reader, _ in lines:
        assert (await reader.readline()).startswith(b"220 ")

    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    assert (await reader.read()).startswith(b"421 ")
    writer.close()
    for _, one in lines:
        one.close()
    async with asyncio.timeout(10):
        while service.listener.sessions:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)

    assert await service.deliver(a_mail()) == [250]


async def test_it_listens_at_a_socket_of_this_machine_and_replaces_one_that_was_left_behind(
    url: str, tmp_path: Path
) -> None:
    path = tmp_path / "lmtp"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))

    async with listening(url, f"unix:{path}") as service:
        reader, writer = await asyncio.open_unix_connection(path)
        assert (await reader.readline()).startswith(b"220 ")
        writer.close()

        other = lmtp.Listener(Reception(service.desk), f"unix:{path}")
        with pytest.raises(receiving.SourceProblem) as problem:
            await other.run()
        assert problem.value.code == "address_in_use"


async def test_where_somebody_listens_already_it_waits(url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        async with listening(url, f"127.0.0.1:{taken.getsockname()[1]}") as service:
            assert service.receiving.states[0].problem == "address_in_use"


@pytest.mark.parametrize(
    ("given", "is_fine"),
    [
        ({"lmtp": "127.0.0.1:24"}, True),
        ({"lmtp": "[::1]:24"}, True),
        ({"lmtp": "localhost:24"}, True),
        ({"lmtp": "unix:/run/casework/lmtp"}, True),
        ({"lmtp": "10.0.0.5:24"}, False),
        ({"lmtp": "0.0.0.0:24"}, False),
        ({"lmtp": "0.0.0.0:24", "lmtp_anywhere": True}, True),
        ({"lmtp": "24"}, False),
        ({"lmtp": "127.0.0.1:x"}, False),
        ({"lmtp": "127.0.0.1:70000"}, False),
    ],
)
def test_it_is_offered_to_other_machines_only_on_purpose(given: dict[str, Any], is_fine: bool) -> None:
    if is_fine:
        assert Settings.model_validate(given).lmtp == given["lmtp"]
        return
    with pytest.raises(ValueError, match="lmtp"):
        Settings.model_validate(given)


@pytest.mark.parametrize("seed", range(LINES))
async def test_all_inquiries_lead_to_the_cases_they_should_however_often_the_line_breaks(url: str, seed: int) -> None:
    chance = random.Random(seed)
    index = examples("published")

    async with listening(url) as service, between(service.port) as line:
        soon = iter([chance.randint(1, 800) for _ in range(12)])
        line.cut_after = lambda: next(soon, chance.randint(1, 200_000))

        async def queued(raw: bytes) -> None:
            """As a mail server has it: until it is acknowledged."""
            async with asyncio.timeout(60):
                while True:
                    with suppress(smtplib.SMTPException, OSError):
                        if await service.deliver(raw, port=line.port) == [250]:
                            return

        first = in_some_order([one for one in index if "tag_placeholder" not in one[0]], chance)
        for _, raw in first:
            await queued(raw)
        last = [
            await with_the_tag(service.desk, index, entry, raw) for entry, raw in index if "tag_placeholder" in entry
        ]
        for raw in last:
            await queued(raw)
        assert await cases_by_letter(service.desk) == expected(index)
        before = await events_written(service.desk)

        again = [*last, *(raw for _, raw in first)]
        chance.shuffle(again)
        await asyncio.gather(*map(queued, again))

        assert await cases_by_letter(service.desk) == expected(index)
        assert await events_written(service.desk) == before
        assert await acknowledgements(service.desk) == len(await all_cases(service.desk))
    assert line.cuts >= 8
