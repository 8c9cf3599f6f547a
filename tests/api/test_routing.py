"""How a request is received: faults are told in one order, versions are asked for, and nothing sent breaks anything."""

from collections.abc import AsyncIterator, Callable, Iterator
from itertools import combinations
from typing import Any

import msgspec
import pytest

from tests.api.driving import (
    Json,
    Service,
    a_purchase,
    an_inquiry,
    done,
    refused,
    token_of,
    wrong_fields,
)
from tests.api.routes import CASE, ROUTES, SIGNED, a_furnished_case
from tests.databases import PostgresServer, database_of

on_one_database = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)


# The order of faults.


class Attempt(msgspec.Struct):
    """A request to move a case that is under investigation; each fault spoils it in its own way."""

    token: str | None
    case_id: str
    if_match: str | None
    body: Json
    kind: str = "application/json"


def without_a_token(attempt: Attempt) -> None:
    attempt.token = None


def to_an_unknown_case(attempt: Attempt) -> None:
    attempt.case_id = "nowhere"


def by_somebody_who_never_may(attempt: Attempt) -> None:
    attempt.token = token_of("audrey")


def without_a_version(attempt: Attempt) -> None:
    attempt.if_match = None


def with_an_old_version(attempt: Attempt) -> None:
    attempt.if_match = '"1"'


def with_an_unknown_field(attempt: Attempt) -> None:
    attempt.body["mood"] = "good"


def in_another_format(attempt: Attempt) -> None:
    attempt.kind = "text/plain"


def with_too_much(attempt: Attempt) -> None:
    attempt.body["reason"] = "x" * 1_000_001


def for_another_state(attempt: Attempt) -> None:
    attempt.body |= {"trigger": "reopen", "data": {}}


def for_what_a_guard_refuses(attempt: Attempt) -> None:
    attempt.body |= {"trigger": "close", "data": {"resolution": "explained"}}


FAULTS: dict[Callable[[Attempt], None], tuple[int, str]] = {
    without_a_token: (401, "unauthorized"),
    to_an_unknown_case: (404, "not_found"),
    by_somebody_who_never_may: (403, "forbidden"),
    without_a_version: (428, "precondition_required"),
    with_an_old_version: (412, "stale_version"),
    with_too_much: (413, "too_large"),
    in_another_format: (415, "unsupported_media_type"),
    with_an_unknown_field: (422, "invalid"),
    for_another_state: (409, "no_such_transition"),
    for_what_a_guard_refuses: (409, "guard_refused"),
}


@on_one_database
@pytest.mark.parametrize(
    "pair", [*combinations(FAULTS, 2)], ids=lambda pair: " and ".join(one.__name__ for one in pair)
)
async def test_of_two_faults_the_earlier_is_told(
    pair: tuple[Callable[[Attempt], None], Callable[[Attempt], None]], service: Service
) -> None:
    case = await service.ana.investigate()
    body = {"trigger": "offer_adjustment", "reason": "as agreed", "data": {}}
    attempt = Attempt(token=service.ana.token, case_id=case["id"], if_match=f'"{case["version"]}"', body=body)
    for fault in reversed(pair):
        fault(attempt)

    response = await service.signed_in(attempt.token).send(
        "POST",
        f"/v1/cases/{attempt.case_id}/transitions",
        attempt.body,
        if_match=attempt.if_match,
        headers={"content-type": attempt.kind},
    )

    refused(response, *FAULTS[pair[0]])


# What is wrong with a request, in the order in which it is told.
ORDER = (401, 404, 403, 428, 412, 422)


@on_one_database
@pytest.mark.parametrize("name", [name for name, route in ROUTES.items() if route.body is not None and route != SIGNED])
async def test_every_change_tells_its_faults_in_the_same_order(name: str, service: Service) -> None:
    parts = await a_furnished_case(service)
    route = ROUTES[name]
    method, _, path = name.partition(" ")
    strangers = set(ROUTES["GET /v1/me"].who) - set(route.who)
    by_role = {"agent": service.ana, "lead": service.lou, "approver": service.cleo, "admin": service.adam}
    by_role["auditor"] = service.audrey
    faulty: dict[str, Any] = {"person": service.signed_in("cw_nobody's"), "ids": "nothing", "if_match": None}

    told = []
    for mended in (
        {},
        {"person": service.audrey},
        {"ids": ""},
        {"person": None},
        {"if_match": '"1"'},
        {"if_match": "*"},
    ):
        faulty |= mended
        if faulty["person"] is None:
            faulty["person"] = by_role[min(route.who - {"auditor"}, default="auditor")]
        ids = {part: faulty["ids"] or real for part, real in parts.items()}
        response = await faulty["person"].send(
            method, path.format(**ids), {"mood": "good"}, if_match=faulty["if_match"]
        )
        told.append(response.status_code)

    met = [401]
    met += [404] if "{" in path else [403 if "auditor" in strangers else 422]
    met += [403] if "auditor" in strangers else [422]
    met += [428, 412] if route.if_match else [422, 422]
    assert told == [*met, 422]


@on_one_database
async def test_a_part_that_is_not_there_comes_before_the_role_and_the_body(service: Service) -> None:
    parts = await a_furnished_case(service)

    for part in ("proposal_id", "ground_id", "message_id", "attachment_id", "token_id"):
        names = [name for name in ROUTES if f"{{{part}}}" in name]
        assert names
        for name in names:
            method, _, path = name.partition(" ")
            for person in (service.audrey, service.adam, service.cleo):
                response = await person.send(method, path.format(**parts | {part: "p99"}), {"mood": "good"})
                refused(response, 404, "not_found")


@on_one_database
async def test_what_is_asked_for_decides_who_may_before_anything_else_is_looked_at(service: Service) -> None:
    case = await service.ana.investigate()
    transitions, assignee = f"/v1/cases/{case['id']}/transitions", f"/v1/cases/{case['id']}/assignee"
    bodies: list[tuple[str, str, Json]] = [
        ("POST", transitions, {"trigger": "refund"}),
        ("POST", transitions, {"trigger": "resume", "data": {"reason_code": "payment_failed"}}),
        ("PUT", assignee, {"assignee": "bo", "mood": "good"}),
        ("PUT", assignee, {"assignee": None, "mood": "good"}),
    ]

    for method, path, body in bodies:
        for if_match in (None, '"1"', "*"):
            refused(await service.ana.send(method, path, body, if_match=if_match), 403, "forbidden")

    refused(await service.ana.send("POST", transitions, {"trigger": "resume"}), 428, "precondition_required")
    refused(await service.ana.send("PUT", assignee, {"assignee": "ana"}), 428, "precondition_required")
    refused(await service.ana.send("PUT", assignee, {"assignee": 5}), 428, "precondition_required")


@on_one_database
async def test_a_form_that_makes_no_sense_comes_after_the_case_and_the_role(service: Service) -> None:
    case = await service.ana.open()
    path = f"/v1/cases/{case['id']}/attachments"

    refused(await service.ana.send("POST", "/v1/cases/nowhere/attachments", {}), 404, "not_found")
    refused(await service.audrey.send("POST", path, {}), 403, "forbidden")
    refused(await service.ana.send("POST", path, {}), 415, "unsupported_media_type")


# Who asks.


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Basic YW5hOmFuYQ==",
        "cw_ana",
        "Bearer \xfc\xf1",
        "Bearer " + "x" * 10_000,
    ],
    ids=lambda text: text[:12],
)
@on_one_database
async def test_who_is_not_known_is_told_how_to_sign_in(authorization: str, service: Service) -> None:
    headers = {"authorization": authorization.encode("latin-1")}

    for method, body in (("GET", None), ("POST", an_inquiry())):
        response = await service.signed_in(None).send(method, "/v1/cases", body, headers=headers)  # type: ignore[arg-type]
        refused(response, 401, "unauthorized")
        assert response.headers["www-authenticate"] == 'Bearer realm="casework"'


@on_one_database
async def test_the_scheme_is_written_in_any_case(service: Service) -> None:
    headers = {"authorization": f"bearer   {service.ana.token}"}

    assert done(await service.signed_in(None).send("GET", "/v1/me", headers=headers))["name"] == "Ana"


# Which version was seen.


async def test_a_late_change_is_told_what_happened_since(service: Service) -> None:
    case = await service.ana.open()
    seen = f'"{case["version"]}"'
    await service.bo.add(case["id"], "notes", text="called back")
    done(await service.bo.fire(case["id"], "investigate"))

    late = {"trigger": "close", "reason": "spam", "data": {"resolution": "spam"}}
    response = await service.ana.post(f"/v1/cases/{case['id']}/transitions", late, if_match=seen)

    problem = refused(response, 412, "stale_version")
    assert problem["current_version"] == case["version"] + 2
    assert problem["events_since"] == ["note_added", "investigation_started"]
    assert response.headers["etag"] == f'"{case["version"] + 2}"'


@pytest.mark.parametrize(
    ("if_match", "accepted"),
    [
        ('"{now}"', True),
        ('"1", "{now}", "99"', True),
        ('"{now}","nonsense"', True),
        ("*", True),
        (" * ", True),
        ('W/"{now}"', False),
        ('W/"1", W/"{now}"', False),
        ('"0{now}"', False),
        ('"+{now}"', False),
        ("{now}", False),
        ('"', False),
        ("", False),
        ('"-1"', False),
        ('"0"', False),
        ('"99999999999999999999999999"', False),
        ('"*"', False),
        ('"²"', False),
    ],
)
@on_one_database
async def test_only_a_strong_tag_of_the_current_version_matches(
    if_match: str, accepted: bool, service: Service
) -> None:
    case = await service.ana.investigate(purchase=a_purchase())
    given = if_match.format(now=case["version"])
    path = f"/v1/cases/{case['id']}/category"

    response = await service.ana.send("PUT", path, {"category": "delay"}, headers={"if-match": given.encode("latin-1")})  # type: ignore[dict-item]

    if accepted:
        assert done(response)["category"] == "delay"
    else:
        assert refused(response, 412, "stale_version")["current_version"] == case["version"]


@on_one_database
async def test_tags_may_come_in_several_lines(service: Service) -> None:
    case = await service.ana.open()
    headers = [
        ("authorization", f"Bearer {service.ana.token}"),
        ("if-match", '"99"'),
        ("if-match", f'"{case["version"]}"'),
    ]

    response = await service.client.put(f"/v1/cases/{case['id']}/category", json={"category": "delay"}, headers=headers)

    assert done(response)["category"] == "delay"


async def test_every_answer_about_a_case_carries_its_current_version(service: Service) -> None:
    parts = await a_furnished_case(service)
    case_id = parts["case_id"]
    cleo, untold = service.cleo, {"GET /v1/cases", "POST /v1/cases"}

    for name, route in ROUTES.items():
        method, _, path = name.partition(" ")
        if "{case_id}" not in name or name in untold:
            continue
        form = {"file": ("letter.txt", b"Dear desk", "text/plain")} if name == f"POST {CASE}/attachments" else None
        for person, if_match in ((cleo, "*"), (cleo, None), (cleo, '"1"'), (service.audrey, "*")):
            response = await person.send(method, path.format(**parts), route.body, if_match=if_match, files=form)
            version = done(await service.lou.get(f"/v1/cases/{case_id}"))["version"]
            assert response.headers.get("etag") == f'"{version}"', (name, response.status_code)


async def test_what_was_changed_is_receipted_and_what_was_not_is_not(service: Service) -> None:
    response = await service.ana.post("/v1/cases", an_inquiry())
    case = done(response, 201)
    (last,) = done(await service.ana.get(f"/v1/cases/{case['id']}/events"))["items"]
    path = f"/v1/cases/{case['id']}/category"

    assert response.headers["audit-receipt"] == f"case:{case['id']}/1/{last['hash']}"
    assert response.headers["location"] == f"/v1/cases/{case['id']}"
    assert "audit-receipt" in (await service.ana.put(path, {"category": "delay"})).headers
    assert "audit-receipt" not in (await service.ana.put(path, {"category": "delay"})).headers


# Headers of all answers.


@on_one_database
async def test_every_answer_has_a_request_id_of_its_own(service: Service) -> None:
    answers = [await service.ana.get(path) for path in ("/v1/me", "/v1/cases", "/v1/cases/x", "/nowhere", "/healthz")]
    answers.append(await service.signed_in(None).get("/v1/me"))
    answers.append(await service.ana.send("DELETE", "/v1/cases"))

    assert [one.status_code for one in answers] == [200, 200, 404, 404, 200, 401, 405]
    assert len({one.headers["x-request-id"] for one in answers}) == len(answers)
    assert {one.headers["x-content-type-options"] for one in answers} == {"nosniff"}


@on_one_database
async def test_a_method_that_is_not_there_is_told_which_are(service: Service) -> None:
    case = await service.ana.open()

    for path, allowed in (
        ("/v1/cases", "GET, POST"),
        (f"/v1/cases/{case['id']}", "GET"),
        (f"/v1/cases/{case['id']}/messages", "GET, POST"),
        (f"/v1/cases/{case['id']}/assignee", "PUT"),
        ("/v1/policy", "GET, POST"),
        ("/healthz", "GET"),
        ("/openapi.json", "GET, HEAD"),
    ):
        response = await service.ana.send("DELETE", path)
        refused(response, 405, "method_not_allowed")
        assert response.headers["allow"] == allowed


@on_one_database
async def test_a_path_with_a_slash_too_many_is_none_of_ours(service: Service) -> None:
    for path in ("/v1/cases/", "/healthz/", "/v1/policy/"):
        refused(await service.ana.get(path), 404, "not_found")


# What is sent.


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"1",
        b"NaN",
        b"[" * 100_000,
        b'{"subject":' * 50_000,
        b"\xff\xfe{}",
        b"\xef\xbb\xbf{}",
        b'{"subject": "\xff"}',
        b'{"subject": "a", "subject": "b"',
        b"9" * 100_000,
    ],
    ids=lambda body: repr(body[:14]),
)
@on_one_database
async def test_a_body_that_is_no_object_is_refused(body: bytes, service: Service) -> None:
    assert wrong_fields(await service.ana.post("/v1/cases", body)) == ["body"]


@on_one_database
async def test_no_body_at_all_is_a_missing_one(service: Service) -> None:
    assert wrong_fields(await service.ana.send("POST", "/v1/cases")) == ["body"]


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonp"]
)
@on_one_database
async def test_another_format_is_refused(kind: str, service: Service) -> None:
    response = await service.ana.send("POST", "/v1/cases", an_inquiry(), headers={"content-type": kind})

    refused(response, 415, "unsupported_media_type")
    assert response.headers["accept"] == "application/json"


@pytest.mark.parametrize(
    "kind", ["application/json", "application/json; charset=utf-8", "Application/JSON", "application/x+json"]
)
@on_one_database
async def test_json_is_accepted_however_its_name_is_written(kind: str, service: Service) -> None:
    done(await service.ana.send("POST", "/v1/cases", an_inquiry(), headers={"content-type": kind}), 201)


@on_one_database
async def test_too_much_is_refused_whether_it_is_announced_or_not(service: Service) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b'{"subject": "'
        for _ in range(100):
            yield b"x" * 100_000

    for content, headers in (
        (b"x" * 1_000_001, {}),
        (endless(), {}),
        (b"{}", {"content-length": "1000001"}),
        (b"{}", {"content-length": "9" * 5000}),
    ):
        response = await service.client.post(
            "/v1/cases",
            content=content,
            headers={"authorization": f"Bearer {service.ana.token}", "content-type": "application/json", **headers},
        )
        refused(response, 413, "too_large")


@on_one_database
async def test_an_unknown_field_is_named_where_it_stands(service: Service) -> None:
    case = await service.ana.investigate()
    paths: list[tuple[str, str, Json, list[str]]] = [
        (
            "POST",
            "/v1/cases",
            an_inquiry(mood=1, client={"name": "", "email": "a@b.example", "age": 40}),
            ["client.age", "mood"],
        ),
        (
            "POST",
            "/v1/cases",
            an_inquiry(purchase=a_purchase(paid={"amount": "1", "currency": "EUR", "net": 1})),
            ["purchase.paid.net"],
        ),
        ("POST", "notes", {"text": "hm", "close": True, "<facts>": 1}, ["<facts>", "close"]),
        (
            "POST",
            "transitions",
            {"trigger": "reopen", "reason": "r", "data": {"mood": 1}, "close": 1},
            ["close", "data.mood"],
        ),
        ("PUT", "purchase", {"reference": "D-1", "<reference>": 1} | a_purchase(), ["<reference>"]),
    ]

    for method, path, body, fields in paths:
        url = path if path.startswith("/") else f"/v1/cases/{case['id']}/{path}"
        assert sorted(wrong_fields(await service.ana.send(method, url, body, if_match="*"))) == fields


NASTY: tuple[Any, ...] = (
    "\x00",
    "a\x00b",
    "\ud800",
    "\udfff tail",
    "",
    "   ",
    "\x01\x1f\x7f\u202e\ufeff",
    "x" * 300_000,
    "ﷺ" * 60_000,
    "\\u0000",
    None,
    True,
    -1,
    0,
    10**400,
    1e308,
    0.1,
    [],
    {},
    [[[[]]]],
    {"amount": "1e5", "currency": "EUR"},
    {"amount": "9" * 30, "currency": "EUR"},
    {"amount": "1", "currency": "€\x00"},
    "9999-12-31T23:59:59-23:59",
    "0001-01-01T00:00:00+23:59",
    "2026-02-30T00:00:00Z",
    "0500-01-01T00:00:00Z",
)

SURROGATES = ("\ud800", "\udfff tail")


def leaves(value: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where the body's values stand, the structures that hold them included."""
    if at:
        yield at
    inner: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from leaves(one, (*at, key))


def replaced(value: Any, at: tuple[str | int, ...], by: object) -> Any:
    if not at:
        return by
    copy = value.copy()
    copy[at[0]] = replaced(value[at[0]], at[1:], by)
    return copy


@pytest.mark.parametrize("name", [name for name, route in ROUTES.items() if route.body])
async def test_nothing_that_is_sent_breaks_anything(name: str, service: Service) -> None:
    parts = await a_furnished_case(service)
    route = ROUTES[name]
    method, _, path = name.partition(" ")
    alone = {frozenset({"admin"}): service.adam, frozenset({"auditor"}): service.audrey}
    person = alone.get(route.who) or (service.cleo if "approver" in route.who else service.lou)
    assert route.body is not None

    for at in leaves(route.body):
        for nasty in NASTY:
            response = await person.send(method, path.format(**parts), replaced(route.body, at, nasty), if_match="*")
            gone = {404} if name.endswith("/revocation") else set()
            assert response.status_code in {200, 201, 409, 413, 422} | gone, (at, nasty, response.text)
            if isinstance(nasty, str) and ("\x00" in nasty or nasty in SURROGATES):
                assert wrong_fields(response), (at, nasty)
    case = await service.lou.read(parts["case_id"])
    assert done(await service.lou.get(f"/v1/cases/{case['id']}/replay"))["matches_stored"]
    done(await service.lou.get("/v1/cases", limit=200, sort="deadline"))


@pytest.mark.parametrize("nasty", ["%00", "%ff", "%ed%a0%80", "x" * 5000, "C-1001", "\N{PILE OF POO}", "*"])
async def test_a_case_that_cannot_be_is_not_found(nasty: str, service: Service) -> None:
    await service.ana.open()

    for ending in ("", "/events", "/replay", "/diagram.svg", "/attachments/x"):
        refused(await service.ana.get(f"/v1/cases/{nasty}{ending}"), 404, "not_found")
    note = await service.ana.send("POST", f"/v1/cases/{nasty}/notes", {"text": "hm"})
    assert note.status_code in {404, 405}


@pytest.mark.parametrize(
    "path", [f"{CASE}/events", f"{CASE}/replay", "/v1/cases", "/v1/events", "/v1/refusals", "/v1/set-aside"]
)
async def test_a_question_that_makes_no_sense_is_named(path: str, service: Service) -> None:
    case = await service.ana.open()
    url = path.format(case_id=case["id"])

    assert wrong_fields(await service.lou.get(url, mood="good")) == ["mood"]
    assert wrong_fields(await service.lou.send("GET", f"{url}?mood=1&limit=1&limit=1")) in (
        ["limit", "mood"],
        ["limit", "mood", "limit"],
    )
    numbers = {"limit", "cursor", "after", "version", "at", "state", "overdue", "sort", "wait"} & set(KNOWN[path])
    for name in numbers:
        for nasty in ("", "\x00", "-1", "x", "1e3", "9" * 30, "1.5", "٣", "true\x00"):
            response = await service.lou.get(url, **{name: nasty})
            assert response.status_code == 422 or (name, nasty) in {
                ("cursor", "٣"),
                ("limit", "٣"),
                ("after", "٣"),
                ("wait", "٣"),
                ("version", "٣"),
            }


KNOWN = {
    f"{CASE}/events": ("after", "limit"),
    f"{CASE}/replay": ("version", "at"),
    "/v1/cases": ("limit", "cursor", "state", "overdue", "sort"),
    "/v1/events": ("after", "limit", "wait"),
    "/v1/refusals": ("cursor", "limit"),
    "/v1/set-aside": ("cursor", "limit"),
}


# When the database is away.


async def test_a_desk_that_is_closing_takes_no_more_commands(service: Service) -> None:
    await service.desk.ledger.close()

    response = await service.ana.post("/v1/cases", an_inquiry())

    refused(response, 503, "unavailable")
    assert int(response.headers["retry-after"]) > 0
    await service.desk.ledger.open()


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_while_the_database_is_away_everything_is_answered_and_then_goes_on(
    service: Service, desk_url: str, postgres: PostgresServer
) -> None:
    name = database_of(desk_url)
    case = await service.ana.open()
    postgres.admin.run(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")
    postgres.admin.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = ?1", name)

    for _ in range(2):
        for response in (
            await service.ana.get(f"/v1/cases/{case['id']}"),
            await service.ana.get("/v1/events"),
            await service.ana.post("/v1/cases", an_inquiry()),
            await service.ana.fire(case["id"], "investigate"),
        ):
            refused(response, 503, "unavailable")
            assert int(response.headers["retry-after"]) > 0
        not_ready = await service.ana.get("/readyz")
        assert (not_ready.status_code, not_ready.json()["status"]) == (503, "database_unreachable")
        assert done(await service.ana.get("/healthz")) == {"status": "alive"}

    postgres.admin.run(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true")
    assert done(await service.ana.fire(case["id"], "investigate"))["state"] == "investigating"
    assert done(await service.ana.get("/readyz"))["status"] == "ready"
