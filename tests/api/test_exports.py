"""The log and the cases are taken away in four formats, by those who may, and the desk keeps a record of it."""

import csv
import io
import json
from collections.abc import AsyncGenerator, MutableMapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from api.exporting import Format, Order, harmless
from api.exports import Download
from storage.exports import Wanted
from tests.api.driving import Json, Person, Service, a_purchase, day, done, refused, token_of, wrong_fields
from tests.api.routes import a_furnished_case
from tests.databases import raw_sql
from tests.processes import casework
from workflow.canonical import canonical, leaf_hash
from workflow.events import EVENT_TYPES
from workflow.policy import Category
from workflow.states import CaseState

EVENTS, CASES = "/v1/exports/events", "/v1/exports/cases"


async def taken(person: Person, path: str, **query: Any) -> str:
    response = await person.get(path, **query)
    assert response.status_code == 200, response.text
    return response.text


def lines(text: str) -> list[Json]:
    return [json.loads(line) for line in text.splitlines()]


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


# JSON Lines.


async def test_the_log_is_taken_away_as_it_was_hashed(service: Service) -> None:
    await a_furnished_case(service)
    feed = done(await service.lou.get("/v1/events", limit=1000))["items"]

    log = lines(await taken(service.audrey, EVENTS))

    assert [one["position"] for one in log] == list(range(1, len(log) + 1))
    assert all(leaf_hash(canonical(one["event"])) == one["hash"] for one in log)
    assert [one["hash"] for one in log][: len(feed)] == [one["event"]["hash"] for one in feed]
    assert {*log[-1]} == {"position", "hash", "event"}


async def test_cases_are_taken_away_as_they_stand(service: Service) -> None:
    case_id = (await a_furnished_case(service))["case_id"]

    (line,) = lines(await taken(service.lou, CASES))

    assert {*line} == {"case"}
    assert (line["case"]["id"], line["case"]["state"]) == (case_id, "investigating")
    assert line["case"]["version"] == (await service.lou.read(case_id))["version"]


@pytest.mark.parametrize("path", [EVENTS, CASES])
async def test_personal_texts_leave_only_when_they_are_asked_for(service: Service, path: str) -> None:
    await a_furnished_case(service)
    for form in Format if path == EVENTS else (Format.JSONL, Format.CSV):
        plain, personal = [await taken(service.audrey, path, format=form, personal=asked) for asked in (False, True)]

        assert "una@example.com" not in plain
        assert "charged twice" not in plain
        assert "una@example.com" in personal


# CSV.


SIGNS = ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠", " =", "\u3000=", "\ufeff=", "\u200b =", "\x01="]  # noqa: RUF001


@pytest.mark.parametrize("sign", SIGNS)
def test_no_cell_is_a_formula(sign: str) -> None:
    assert harmless(f"{sign}SUM(A1)") == f"'{sign}SUM(A1)"


@pytest.mark.parametrize("cell", ["", "a=b", "x@y.example", "'=1", " plain", "5-3", 7, -7, None])
def test_a_cell_that_is_no_formula_stays_as_it_is(cell: str | int | None) -> None:
    assert harmless(cell) == cell


async def test_what_a_client_writes_calculates_nothing_in_a_spreadsheet(service: Service) -> None:
    formula = '=HYPERLINK("http://x.example";"a, b")\r\n@x'
    name = "\uff1d1+1"
    await service.ana.open(subject=formula, client={"name": name, "email": "una@example.com"})

    text = await taken(service.lou, CASES, format="csv", personal=True)

    (row,) = rows(text)
    assert (row["subject"], row["client_name"]) == (f"'{formula}", f"'{name}")
    assert "\r\n" in text
    assert all(not line.startswith(("=", "+", "-", "@")) for line in text.split('"'))


async def test_a_table_of_cases_has_their_money_and_times(service: Service) -> None:
    await service.ana.open(purchase=a_purchase())

    (row,) = rows(await taken(service.lou, CASES, format="csv"))

    assert (row["number"], row["state"], row["assignee"]) == ("C-1001", "opened", "")
    assert (row["purchase"], row["currency"], row["paid"], row["refunded"]) == ("D-1", "EUR", "2000.00", "0.00")
    assert row["received_at"] == "2026-03-05T12:00:00.000000Z"
    assert "subject" not in row


async def test_a_table_of_events_has_what_the_log_has(service: Service) -> None:
    await a_furnished_case(service)
    log = lines(await taken(service.lou, EVENTS, chains="case"))

    table = rows(await taken(service.lou, EVENTS, chains="case", format="csv", personal=True))

    assert [(int(row["position"]), row["hash"]) for row in table] == [(one["position"], one["hash"]) for one in log]
    for row, one in zip(table, log, strict=True):
        event = one["event"]
        assert (row["chain"], int(row["seq"]), row["trigger"]) == (
            event["chain"],
            event["seq"],
            event.get("trigger", ""),
        )
        assert (json.loads(row["data"]), json.loads(row["commitments"])) == (event["data"], event["personal"])
    assert json.loads(table[0]["texts"])["message"] == "They never ran."


async def test_an_erased_text_reads_erased(service: Service, desk_url: str) -> None:
    await service.ana.open()
    with raw_sql(desk_url) as raw:
        raw.run("DELETE FROM personal WHERE chain LIKE 'case:%' AND field = 'subject'")

    (row,) = rows(await taken(service.lou, CASES, format="csv", personal=True))

    assert (row["subject"], row["client_name"]) == ("erased", "Una")


# XES (IEEE 1849-2023).

XES = "{http://www.xes-standard.org/}"
KEYS = {"string", "date", "int", "float", "boolean", "id", "list", "container"}


async def test_xes_is_a_log_of_traces_with_the_four_extensions(service: Service) -> None:
    case_id = (await a_furnished_case(service))["case_id"]
    await service.ana.open(subject="control \x01 characters")

    log = ET.fromstring(await taken(service.lou, EVENTS, format="xes", personal=True))  # noqa: S314 - our own

    assert (log.tag, log.get("xes.version")) == (f"{XES}log", "1849.2023")
    assert is_in_order([one.tag.removeprefix(XES) for one in log], ["extension", "global", "classifier", "trace"])
    prefixes = {one.get("prefix"): one.get("uri") for one in log.iter(f"{XES}extension")}
    assert prefixes == {name: f"http://www.xes-standard.org/{name}.xesext" for name in PREFIXES}
    first, second = log.iter(f"{XES}trace")
    assert values(first) | {"concept:name": "C-1001", "id": case_id, "state": "investigating"} == values(first)
    recorded = [
        one for one in lines(await taken(service.lou, EVENTS, chains="case")) if one["event"]["chain"][5:] == case_id
    ]
    events = [values(one) for one in first.iter(f"{XES}event")]
    assert [(one["concept:name"], one["time:timestamp"], one["org:resource"], one["hash"]) for one in events] == [
        (one["event"]["type"], one["event"]["at"], one["event"]["actor"], one["hash"]) for one in recorded
    ]
    assert {one["lifecycle:transition"] for one in events} == {"complete"}
    (opened,) = (values(one) for one in second.iter(f"{XES}event"))
    assert json.loads(opened["texts"])["subject"] == "control \x01 characters"


async def test_every_xes_attribute_is_of_a_known_type_and_extension(service: Service) -> None:
    await a_furnished_case(service)

    log = ET.fromstring(await taken(service.lou, EVENTS, format="xes"))  # noqa: S314 - our own

    for owner in (*log.iter(f"{XES}trace"), *log.iter(f"{XES}event"), *log.iter(f"{XES}global")):
        attributes = [one for one in owner if one.tag.removeprefix(XES) not in {"event", "trace"}]
        keys = [str(one.get("key")) for one in attributes]
        assert len(keys) == len({*keys})
        assert {one.tag.removeprefix(XES) for one in attributes} <= KEYS
        assert {key.partition(":")[0] for key in keys if ":" in key} <= PREFIXES
        assert all(one.get("value", "").isdecimal() for one in attributes if one.tag == f"{XES}int")
    wanted = {key for one in log.findall(f"{XES}global[@scope='event']") for key in values(one)}
    assert all(wanted <= values(one).keys() for one in log.iter(f"{XES}event"))


PREFIXES = {"concept", "time", "org", "lifecycle"}


def is_in_order(tags: list[str], order: list[str]) -> bool:
    return tags == sorted(tags, key=order.index)


def values(owner: ET.Element) -> dict[str, str]:
    return {str(one.get("key")): str(one.get("value")) for one in owner if one.get("key")}


async def test_xes_of_nothing_is_an_empty_log(service: Service) -> None:
    log = ET.fromstring(await taken(service.lou, EVENTS, format="xes"))  # noqa: S314 - our own

    assert list(log.iter(f"{XES}trace")) == []


# OCEL 2.0.

JSON_TYPES = {"string": str, "integer": int}


async def test_ocel_names_its_types_and_refers_to_nothing_that_is_not_there(service: Service) -> None:
    await a_furnished_case(service)
    await service.bo.open(purchase=a_purchase())

    log = json.loads(await taken(service.lou, EVENTS, format="ocel"))

    assert {*log} == {"objectTypes", "eventTypes", "events", "objects"}
    ids = [one["id"] for one in log["objects"]]
    assert len(ids) == len({*ids})
    for things, kinds in ((log["events"], log["eventTypes"]), (log["objects"], log["objectTypes"])):
        declared = {kind["name"]: {one["name"]: one["type"] for one in kind["attributes"]} for kind in kinds}
        for thing in things:
            its = declared[thing["type"]]
            assert all(isinstance(one["value"], JSON_TYPES[its[one["name"]]]) for one in thing["attributes"])
            assert all({*one} == {"objectId", "qualifier"} for one in thing["relationships"])
            assert {one["objectId"] for one in thing["relationships"]} <= {*ids}
    assert all({*one} == {"id", "type", "time", "attributes", "relationships"} for one in log["events"])
    assert all({*one} == {"id", "type", "attributes", "relationships"} for one in log["objects"])
    assert all({*it} == {"name", "time", "value"} for one in log["objects"] for it in one["attributes"])
    assert {one["name"] for one in log["eventTypes"]} <= EVENT_TYPES.keys()


async def test_ocel_relates_events_to_all_that_they_are_about(service: Service) -> None:
    case_id = (await a_furnished_case(service))["case_id"]
    await service.bo.open(purchase=a_purchase())

    log = json.loads(await taken(service.lou, EVENTS, format="ocel"))

    kinds = [one["type"] for one in log["objects"]]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "case": 2,
        "proposal": 1,
        "client": 1,
        "purchase": 1,
        "staff": 2,
    }
    chain = f"case:{case_id}"
    (client,) = (one["id"] for one in log["objects"] if one["type"] == "client")
    related = {one["id"]: {(it["qualifier"], it["objectId"]) for it in one["relationships"]} for one in log["events"]}
    assert related[f"{chain}/1"] == {("case", chain), ("actor", "person:ana"), ("client", client)}
    assert related[f"{chain}/2"] == {("case", chain), ("actor", "person:ana"), ("purchase", "purchase:D-1")}
    assert related[f"{chain}/3"] == {("case", chain), ("actor", "person:ana"), ("assignee", "person:ana")}
    assert related[f"{chain}/7"] == {("case", chain), ("actor", "person:ana"), ("proposal", f"{chain}/p7")}
    assert "una@example.com" not in json.dumps(log)


async def test_a_client_has_the_same_pseudonym_in_every_export_of_a_desk(service: Service) -> None:
    await service.ana.open()
    clients = [
        [
            one["id"]
            for one in json.loads(await taken(service.lou, EVENTS, format="ocel"))["objects"]
            if one["type"] == "client"
        ]
        for _ in range(2)
    ]

    assert clients[0] == clients[1]
    assert len(clients[0][0]) == len("client:") + 32


# The filter.


async def test_every_filter_leaves_what_it_says(service: Service) -> None:
    await service.ana.investigate()
    service.clock.advance(days=1)
    await service.ana.open(category="delay")

    for query, numbers in (
        ({}, [1001, 1002]),
        ({"state": "opened"}, [1002]),
        ({"category": "billing"}, [1001]),
        ({"assignee": "ana@step-into.example"}, [1001]),
        ({"assignee": "ana", "state": "opened"}, []),
        ({"assignee": ""}, [1002]),
        ({"opened_from": day(0.5)}, [1002]),
        ({"opened_until": day(0.5)}, [1001]),
        ({"changed_from": day(0.5), "changed_until": day(0.6)}, []),
    ):
        found = lines(await taken(service.lou, CASES, **query))
        assert [one["case"]["number"] for one in found] == numbers, query


# Who, and what is said instead.


async def test_whoever_takes_an_export_away_is_recorded(service: Service) -> None:
    query = {
        "format": "csv",
        "personal": True,
        "state": "opened",
        "assignee": "ana@step-into.example",
        "chains": "case",
    }
    await taken(service.audrey, EVENTS, **query)
    await taken(service.lou, CASES)

    recorded = [one["event"] for one in lines(await taken(service.lou, EVENTS, chains="read"))]

    assert [(one["actor"], one["type"], one["data"]) for one in recorded] == [
        (
            "person:audrey",
            "export_taken",
            {"what": "events", "format": "csv", "personal": True, "only": "state=opened&assignee=ana&chains=case"},
        ),
        ("person:lou", "export_taken", {"what": "cases", "format": "jsonl"}),
        ("person:lou", "export_taken", {"what": "events", "format": "jsonl", "only": "chains=read"}),
    ]


@pytest.mark.parametrize("path", [EVENTS, CASES])
async def test_exports_are_for_leads_and_auditors(service: Service, path: str) -> None:
    for person in (service.ana, service.cleo, service.adam):
        refused(await person.get(path), 403, "forbidden")
    refused(await service.signed_in(None).get(path), 401, "unauthorized")


@pytest.mark.parametrize(
    ("path", "query", "field"),
    [
        (EVENTS, {"format": "xls"}, "format"),
        (EVENTS, {"chains": "case,people"}, "chains"),
        (EVENTS, {"chains": "case,desk", "format": "xes"}, "chains"),
        (EVENTS, {"opened_from": "yesterday"}, "opened_from"),
        (EVENTS, {"assignee": "zoe@step-into.example"}, "assignee"),
        (EVENTS, {"assignee": "zoe"}, "assignee"),
        (EVENTS, {"limit": 5}, "limit"),
        (CASES, {"format": "ocel"}, "format"),
        (CASES, {"chains": "case"}, "chains"),
        (CASES, {"state": "lost"}, "state"),
    ],
)
async def test_an_export_that_makes_no_sense_is_refused_and_not_recorded(
    service: Service, path: str, query: dict[str, Any], field: str
) -> None:
    assert wrong_fields(await service.lou.get(path, **query)) == [field]

    assert lines(await taken(service.lou, EVENTS, chains="read"))[0]["event"]["data"] == {
        "what": "events",
        "format": "jsonl",
        "only": "chains=read",
    }


async def test_it_is_a_file_that_nobody_keeps_on_the_way(service: Service) -> None:
    response = await service.lou.get(EVENTS, format="ocel")

    assert response.headers["content-disposition"] == 'attachment; filename="casework-events.ocel.json"'
    assert response.headers["cache-control"] == "no-store"
    assert "content-length" not in response.headers


# Streaming.

Message = MutableMapping[str, Any]


async def send_all(service: Service, path: str, query: str) -> list[Message]:
    """The messages that the app answers with."""
    told: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        told.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "query_string": query.encode(),
        "headers": [(b"authorization", f"Bearer {token_of('lou')}".encode())],
        "asgi": {"version": "3.0", "spec_version": "2.4"},
    }
    await service.app(scope, receive, send)
    return told


async def test_a_large_export_leaves_in_blocks(service: Service) -> None:
    for _ in range(4):
        await service.ana.open(message="x" * 50_000)

    told = await send_all(service, EVENTS, "personal=true")

    bodies = [len(one["body"]) for one in told if one["type"] == "http.response.body"]
    assert len(bodies) > 2
    assert max(bodies) < 200_000


async def test_whoever_goes_away_leaves_no_reading_behind() -> None:
    is_open = True

    async def blocks() -> AsyncGenerator[bytes]:
        nonlocal is_open
        try:
            while True:
                yield b"more"
        finally:
            is_open = False

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message.get("body") == b"more":
            raise OSError

    rest = blocks()
    with pytest.raises(Exception):  # noqa: B017, PT011 - what the server makes of it
        await Download(await anext(rest), rest, Order())(
            {"type": "http", "asgi": {"spec_version": "2.4"}}, receive, send
        )

    assert not is_open


def test_the_filter_is_recorded_as_a_query_string() -> None:
    wanted = Wanted(state=CaseState.OPENED, category=Category.DELAY, assignee="")

    assert Order(wanted=wanted).only == "state=opened&category=delay&assignee="
    assert Order().only == ""


# The command.


def test_casework_export_writes_every_format(empty_url: str, tmp_path: Path) -> None:
    letter = tmp_path / "letter.eml"
    letter.write_bytes(b"From: Una <una@example.com>\nMessage-ID: <1@x>\nSubject: =x\n\nThey never ran.\n")
    for command in (("migrate",), ("import-mail", letter)):
        assert casework(*command, url=empty_url).returncode == 0

    def export(*arguments: str) -> str:
        made = casework("export", *arguments, url=empty_url)
        assert (made.returncode, made.stderr) == (0, ""), made.stderr
        return str(made.stdout)

    assert [one["event"]["type"] for one in lines(export("--state", "opened", "--personal"))] == ["opened"]
    (row,) = rows(export("cases", "--format", "csv", "--personal"))
    assert (row["subject"], row["client_email"]) == ("'=x", "una@example.com")
    assert "una@example.com" not in export("--format", "ocel")
    target = tmp_path / "log.xes"
    assert export("--format", "xes", "--output", str(target)) == ""
    assert len(list(ET.parse(target).iter(f"{XES}event"))) == 1  # noqa: S314 - our own


@pytest.mark.parametrize(
    "arguments",
    [
        ("export", "people"),
        ("export", "--format", "xls"),
        ("export", "cases", "--format", "xes"),
        ("export", "--format", "ocel", "--chains", "desk"),
        ("export", "--opened-from", "yesterday"),
    ],
)
def test_an_export_that_makes_no_sense_is_a_usage_error(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    refused = casework(*arguments, url=f"sqlite:///{tmp_path / 'desk.db'}")

    assert (refused.returncode, refused.stdout) == (2, "")
