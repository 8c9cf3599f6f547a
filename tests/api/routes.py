"""Every route of the service, with who may use it and a request that makes sense there."""

from functools import cache
from typing import Any

import msgspec
from fastapi.routing import APIRoute

from api.app import documented_routes
from storage import outbox
from storage.keys import ensure_key
from tests.api.driving import Json, Service, a_purchase, day, done, euros

AGENT, LEAD, APPROVER, AUDITOR, ADMIN = (frozenset({one}) for one in ("agent", "lead", "approver", "auditor", "admin"))
WORKERS = AGENT | LEAD
RECORDERS = WORKERS | APPROVER
READERS = RECORDERS | AUDITOR
EVERYONE = READERS | ADMIN


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """`body` None: none is sent. `if_match`: the version that was seen has to be said. `query` follows the path."""

    who: frozenset[str]
    body: Json | None = None
    if_match: bool = False
    query: str = ""


def change(who: frozenset[str], **body: Any) -> Route:
    return Route(who=who, body=body, if_match=True)


def addition(who: frozenset[str], **body: Any) -> Route:
    return Route(who=who, body=body)


READING = Route(who=READERS)
LOOKING_UP = Route(who=EVERYONE)
LOG_READING = Route(who=LEAD | AUDITOR | ADMIN)
OVERSEEING = Route(who=LEAD | AUDITOR)
OPEN_TO_ALL = Route(who=frozenset())
SIGNED = Route(who=frozenset(), body={})  # by another system, where one is configured

CASE = "/v1/cases/{case_id}"
PROPOSAL = f"{CASE}/proposals/{{proposal_id}}"
PERSON = "/v1/people/{person_id}"
FINDING = f"{CASE}/findings/{{finding_id}}"
DELIVERY = "/v1/deliveries/{delivery_id}"
WEBHOOK = "/v1/webhooks/{webhook_id}"
REPORTS = ("duties", "near-tiers", "overrides", "voided-approvals", "refusals")
BECAUSE = {"reason": "as agreed"}

ROUTES: dict[str, Route] = {
    "POST /v1/cases": addition(
        RECORDERS, subject="", message="Hello", client={"name": "", "email": "una@example.com"}, category="other"
    ),
    "GET /v1/cases": READING,
    f"GET {CASE}": READING,
    f"GET {CASE}/transitions": READING,
    f"POST {CASE}/transitions": change(RECORDERS, trigger="issue_compensation", data={"proposal": None}, **BECAUSE),
    f"PUT {CASE}/purchase": change(RECORDERS, **a_purchase()),
    f"POST {CASE}/purchase/checks": change(RECORDERS, **BECAUSE),
    f"POST {CASE}/grounds": change(RECORDERS, kind="billing_error", affected=euros("9.00"), statement="twice"),
    f"POST {CASE}/grounds/{{ground_id}}/verifications": change(RECORDERS, verified=True, evidence="statement"),
    f"POST {CASE}/proposals": change(RECORDERS, remedy="refund", amount=euros("9.00"), **BECAUSE),
    f"POST {PROPOSAL}/verdicts": change(LEAD | APPROVER, verdict="refuse", digest="another", **BECAUSE),
    f"POST {PROPOSAL}/payouts": change(APPROVER, **BECAUSE),
    f"POST {PROPOSAL}/payout-failures": change(APPROVER, **BECAUSE),
    f"POST {PROPOSAL}/payment-reversals": change(APPROVER, **BECAUSE),
    f"POST {PROPOSAL}/withdrawal": change(RECORDERS, **BECAUSE),
    f"POST {CASE}/slots": change(WORKERS, slots=[day(3)], minutes=30, channel="by phone"),
    f"PUT {CASE}/consultation": change(WORKERS, starts_at=day(3), minutes=30, channel="by phone", **BECAUSE),
    f"POST {CASE}/attendance": change(WORKERS, attended=True),
    f"PUT {CASE}/assignee": change(LEAD, assignee="bo"),  # and an agent, to take it
    f"PUT {CASE}/category": change(RECORDERS, category="other"),
    f"PUT {CASE}/requested-at": change(LEAD, requested_at=day(-1), **BECAUSE),
    f"PUT {CASE}/participants": addition(RECORDERS, participants=["una@example.org"]),
    f"POST {CASE}/notes": addition(RECORDERS, text="called back"),
    f"GET {CASE}/messages": READING,
    f"GET {CASE}/letters": READING,
    f"POST {CASE}/messages": addition(RECORDERS, text="Hello", direction="inbound"),
    f"POST {CASE}/messages/{{message_id}}/no-answer-needed": addition(RECORDERS, **BECAUSE),
    f"GET {CASE}/attachments": READING,
    f"GET {CASE}/attachments/{{attachment_id}}": READING,
    f"POST {CASE}/attachments": Route(who=RECORDERS),  # a form
    f"POST {CASE}/links": addition(RECORDERS, kind="related", case="the other"),
    f"POST {CASE}/client-links": addition(WORKERS),
    f"POST {CASE}/client-links/{{link_id}}/revocation": addition(WORKERS, **BECAUSE),
    f"GET {CASE}/events": READING,
    f"GET {CASE}/replay": READING,
    f"GET {CASE}/difference": msgspec.structs.replace(READING, query="from=1"),
    f"GET {CASE}/decisions": READING,
    f"GET {CASE}/decisions/{{seq}}": READING,
    "GET /v1/replay": READING,
    "GET /v1/reads": OVERSEEING,
    "GET /v1/changes": LOG_READING,
    "POST /v1/samples": addition(AUDITOR, size=1),
    "GET /v1/samples": OVERSEEING,
    "GET /v1/samples/{sample_id}": OVERSEEING,
    "GET /v1/findings": READING,
    f"GET {FINDING}": READING,
    f"POST {CASE}/findings": addition(AUDITOR, seq=1, hash="another", severity="minor", text="why?"),
    f"POST {FINDING}/answers": addition(RECORDERS, text="because"),
    f"POST {FINDING}/closing": addition(AUDITOR, text="settled"),
    **{f"GET /v1/reports/{what}": OVERSEEING for what in REPORTS},
    f"GET {CASE}/bundle": Route(who=LEAD | AUDITOR),
    **{f"GET /v1/exports/{what}": Route(who=LEAD | AUDITOR) for what in ("events", "cases", "log")},
    f"PUT {CASE}/hold": addition(LEAD | ADMIN, **BECAUSE),
    f"POST {CASE}/hold/release": addition(LEAD | ADMIN, **BECAUSE),
    "POST /v1/erasures": addition(ADMIN, client="una@example.com", legal_basis="GDPR Art. 17(1)(a)", **BECAUSE),
    "GET /v1/erasures": Route(who=LEAD | AUDITOR | ADMIN),
    **{f"GET {CASE}/diagram.{ending}": READING for ending in ("svg", "mmd", "dot")},
    "GET /v1/lifecycle": LOOKING_UP,
    **{f"GET /v1/lifecycle/diagram.{ending}": LOOKING_UP for ending in ("svg", "mmd", "dot")},
    "GET /v1/events": READING,
    "GET /v1/deliveries": LOOKING_UP,
    f"GET {DELIVERY}": LOOKING_UP,
    f"POST {DELIVERY}/retries": addition(WORKERS | ADMIN, **BECAUSE),
    f"POST {DELIVERY}/cancellation": addition(WORKERS | ADMIN, **BECAUSE),
    **{f"GET /audit/{what}": LOG_READING for what in ("checkpoint", "tile/{tile}")},
    "GET /audit/proofs/inclusion": msgspec.structs.replace(LOG_READING, query="position=1"),
    "GET /audit/proofs/consistency": msgspec.structs.replace(LOG_READING, query="from=1"),
    "GET /v1/refusals": Route(who=LEAD | AUDITOR),
    "GET /v1/set-aside": READING,
    "GET /v1/policy": LOOKING_UP,
    "POST /v1/policy": addition(ADMIN, settings={"window_days": 14}),
    "POST /v1/policy/evaluate": addition(EVERYONE, requested_at=day(0), category="other", purchase=None),
    "GET /v1/me": LOOKING_UP,
    "GET /v1/people": LOOKING_UP,
    "POST /v1/people": addition(ADMIN, email="kim@step-into.example", name="Kim", roles=["agent"]),
    f"PUT {PERSON}/roles": addition(ADMIN, roles=["agent"]),
    f"POST {PERSON}/tokens": addition(ADMIN),
    f"POST {PERSON}/tokens/{{token_id}}/revocation": addition(ADMIN, **BECAUSE),
    f"POST {PERSON}/disabling": addition(ADMIN, **BECAUSE),
    "POST /v1/payments/stripe": SIGNED,
    "POST /v1/compensations/confirmations": SIGNED,
    "GET /v1/webhooks": Route(who=AUDITOR | ADMIN),
    "POST /v1/webhooks": addition(ADMIN, url="https://9.9.9.9/casework", types=["casework.case.opened"]),
    f"GET {WEBHOOK}": Route(who=AUDITOR | ADMIN),
    f"PUT {WEBHOOK}": addition(ADMIN, url="https://9.9.9.9/elsewhere", types=["casework.case.opened"], active=True),
    f"POST {WEBHOOK}/secrets": Route(who=ADMIN),
    f"POST {WEBHOOK}/pings": Route(who=ADMIN),
    f"POST {WEBHOOK}/replays": addition(ADMIN, after=0),
    f"GET {WEBHOOK}/deliveries": Route(who=AUDITOR | ADMIN),
    f"DELETE {WEBHOOK}": Route(who=ADMIN),
    "GET /healthz": OPEN_TO_ALL,
    "GET /readyz": OPEN_TO_ALL,
    "GET /metrics": OPEN_TO_ALL,
}


@cache
def served() -> dict[str, APIRoute]:
    """The routes that there are."""
    return {f"{method} {one.path_format}": one for one in documented_routes() for method in one.methods or ()}


async def a_furnished_case(service: Service) -> dict[str, str]:
    """What paths name: a case in which there is something of everything, and Bo with a token. The log is signed."""
    await ensure_key(service.desk.database, service.desk.settings.keys_in, service.clock())
    case = await service.ana.open(purchase=a_purchase())
    await furnish(service, case["id"])
    form = {"file": ("statement.txt", b"12 March: 300.00 twice", "text/plain")}
    file = await service.ana.send("POST", f"/v1/cases/{case['id']}/attachments", files=form)
    first = done(await service.ana.get(f"/v1/cases/{case['id']}/events"))["items"][0]
    about = {"seq": 1, "hash": first["hash"], "severity": "minor", "text": "why?"}
    finding = await service.audrey.add(case["id"], "findings", **about)
    link = await service.ana.add(case["id"], "client-links")
    endpoint = {"url": "https://9.9.9.9/casework", "types": ["casework.message.received"]}
    webhook = done(await service.adam.post("/v1/webhooks", endpoint), 201)
    sample = done(await service.audrey.post("/v1/samples", {"size": 1}), 201)
    await service.desk.sequencer.settle()
    return {
        "case_id": case["id"],
        "ground_id": "g5",
        "proposal_id": "p7",
        "message_id": "m1",
        "seq": "7",
        "attachment_id": file.json()["id"],
        "person_id": "bo",
        "token_id": "token-bo",
        "tile": "0/000.p/1",
        "finding_id": finding["id"],
        "link_id": link["id"],
        "sample_id": sample["id"],
        "delivery_id": str((await outbox.listed(service.desk.database))[0].id),
        "webhook_id": webhook["id"],
    }


async def furnish(service: Service, case_id: str) -> None:
    """Ana's refund of what was charged twice, proposed on what Bo has verified."""
    done(await service.ana.fire(case_id, "investigate"))
    await service.ana.add(case_id, "purchase/checks", reason="seen")
    claim = {"kind": "billing_error", "affected": euros("300.00"), "statement": "charged twice"}
    await service.ana.add(case_id, "grounds", **claim)
    await service.bo.add(case_id, "grounds/g5/verifications", verified=True, evidence="bank statement")
    refund = {"remedy": "refund", "amount": euros("300.00"), "reason": "charged twice"}
    await service.ana.add(case_id, "proposals", **refund)
