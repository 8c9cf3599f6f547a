"""A strict stand-in for Stripe: the part of its API that refunds need, over HTTP, with a ledger of its own.

As the real one, it answers the same key with the same answer (errors that came of work included), refuses the same
key with other parameters, refunds no more than was paid, and sends signed messages, as often and in whatever order a
test likes. `faults` say how the next refunds go wrong on their way, one each.
"""

import json
import threading
import time
from base64 import b64decode
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import stripe

KEY, WEBHOOK_SECRET = "sk_test_of_the_stand_in", "whsec_of_the_stand_in"
Json = dict[str, Any]
Answer = tuple[int, Json]

OPEN = frozenset({"succeeded", "pending", "requires_action"})
TAKEN = {
    "POST refunds": {"payment_intent", "charge", "amount", "metadata", "reason"},
    "GET refunds": {"payment_intent", "charge", "created", "limit", "starting_after"},
}
MAX_METADATA_KEY, MAX_METADATA_VALUE = 40, 500


class Fault(StrEnum):
    """What goes wrong with a request for a refund."""

    LOST = "the request never arrives"
    DROPPED = "the work is done, and the connection ends"
    LATE = "the work is done, and the answer comes after the client's patience"
    SLOW = "nothing happens until the client has lost patience; then the work is done"
    BROKEN = "the work is done, and the answer is an error of the server"
    BUSY = "nothing is done: too many requests"
    TWICE = "the work is done, and the answer is sent twice"


class StripeStandIn:
    def __init__(self) -> None:
        self.url = ""
        self.lock = threading.RLock()
        self.sales: dict[str, Json] = {}
        self.refunds: dict[str, Json] = {}  # oldest first
        self.answers: dict[str, tuple[str, Answer]] = {}  # by idempotency key: what was asked, and said
        self.faults: deque[Fault] = deque()
        self.outcome = "succeeded"  # of new refunds
        self.client_acts = False  # on one that waits for that, just before somebody calls it off
        self.patience = 1.0  # how long clients wait, about
        self.asked: list[str] = []
        self.messages: list[Json] = []
        self.worked = threading.Event()  # a refund has been made
        self.hold = threading.Event()  # what LATE and SLOW wait for, at most; set at the end
        self.made = 0
        self.in_hand = 0
        self.quiet = threading.Condition()

    # What happens at the provider without anybody asking.

    def sell(self, sale_id: str, amount: int, currency: str = "eur", **metadata: str) -> str:
        kind = "payment_intent" if sale_id.startswith("pi_") else "charge"
        self.sales[sale_id] = {
            "id": sale_id,
            "object": kind,
            "amount": amount,
            "currency": currency,
            "status": "succeeded",
            "metadata": metadata,
        }
        return sale_id

    def settle(self, refund_id: str, status: str, reason: str | None = None) -> Json:
        """The bank has answered, or sent the money back; the message about it."""
        with self.lock:
            refund = self.refunds[refund_id]
            refund |= {"status": status} | ({"failure_reason": reason} if reason else {})
            return self.tell("refund.failed" if status == "failed" else "refund.updated", refund)

    def refund_by_hand(self, sale_id: str, amount: int) -> Json:
        """On the provider's own pages."""
        with self.lock:
            kind = self.sales[sale_id]["object"]
            refund = self.new_refund({kind: sale_id, "amount": amount, "metadata": {}})
            charge = {"id": sale_id, "object": "charge"}
            self.tell("charge.refunded", charge)
            return refund

    def forget_keys(self) -> None:
        """As after 24 hours: nothing that was asked for before is still on its way."""
        with self.quiet:
            assert self.quiet.wait_for(lambda: not self.in_hand, timeout=10)
        with self.lock:
            self.answers.clear()

    # The ledger, by which tests judge.

    def paid(self, case_id: str | None = None) -> list[int]:
        """What has left for the case, or for all, refund by refund."""
        with self.lock:
            return [
                one["amount"]
                for one in self.refunds.values()
                if one["status"] in OPEN and case_id in {None, one["metadata"].get("casework_case")}
            ]

    # Messages.

    def tell(self, kind: str, about: Json) -> Json:
        message = {
            "id": f"evt_{len(self.messages) + 1}",
            "object": "event",
            "type": kind,
            "created": int(time.time()),
            "data": {"object": json.loads(json.dumps(about))},
        }
        self.messages.append(message)
        return message

    @staticmethod
    def signed(message: Json, secret: str = WEBHOOK_SECRET, age: float = 0) -> tuple[bytes, dict[str, str]]:
        """The body and the headers with which it is delivered."""
        body = json.dumps(message)
        header = stripe.WebhookSignature.generate_signature_header(body, secret, int(time.time() - age))
        return body.encode(), {"stripe-signature": header, "content-type": "application/json"}

    # The API.

    def answer(self, method: str, path: str, form: Json, key: str | None) -> Answer:
        parts = path.removeprefix("/v1/").split("/")
        with self.lock:
            match (method, *parts):
                case ("GET", "payment_intents" | "charges" as kind, "search"):
                    return self.search(kind, form)
                case ("GET", "payment_intents" | "charges", sale_id):
                    return found(self.sales.get(sale_id), sale_id)
                case ("GET", "refunds"):
                    return self.list(form)
                case ("GET", "refunds", refund_id):
                    return found(self.refunds.get(refund_id), refund_id)
                case ("POST", "refunds"):
                    return self.once(form, key)
                case ("POST", "refunds", refund_id, "cancel") if refund_id in self.refunds:
                    return self.cancel(self.refunds[refund_id])
                case _:
                    return refusal(404, "invalid_request_error", f"Unrecognized request URL ({method}: {path})")

    def once(self, form: Json, key: str | None) -> Answer:
        """Refusals before any work are no answer that is kept."""
        asked = json.dumps(form, sort_keys=True)
        known = self.answers.get(key) if key else None
        if known is not None and known[0] != asked:
            return refusal(400, "idempotency_error", "Keys for idempotent requests can only be used with the same…")
        if known is not None:
            return known[1]
        wrong = self.what_is_wrong(form)
        answer = wrong or (200, self.new_refund(form))
        if key:
            self.answers[key] = asked, answer
        return answer

    def what_is_wrong(self, form: Json) -> Answer | None:
        sale_ids = [form[kind] for kind in ("payment_intent", "charge") if kind in form]
        if unknown := form.keys() - TAKEN["POST refunds"]:
            return refusal(400, "invalid_request_error", f"Received unknown parameter: {unknown}", "parameter_unknown")
        if len(sale_ids) != 1 or sale_ids[0] not in self.sales:
            return refusal(404, "invalid_request_error", "No such payment", "resource_missing")
        for name, value in form.get("metadata", {}).items():
            if len(name) > MAX_METADATA_KEY or len(value) > MAX_METADATA_VALUE:
                return refusal(400, "invalid_request_error", "Metadata is too long")
        sale, amount = self.sales[sale_ids[0]], form["amount"]
        left = sale["amount"] - self.refunded(sale["id"])
        if left <= 0:
            return refusal(400, "invalid_request_error", "The charge has been refunded.", "charge_already_refunded")
        if not str(amount).isdigit() or not 0 < int(amount) <= left:
            return refusal(
                400, "invalid_request_error", f"Refund amount ({amount}) is greater than unrefunded ({left})"
            )
        return None

    def refunded(self, sale_id: str) -> int:
        made = [one for one in self.refunds.values() if sale_id in {one["payment_intent"], one["charge"]}]
        return sum(one["amount"] for one in made if one["status"] in OPEN)

    def new_refund(self, form: Json) -> Json:
        self.made += 1
        sale = self.sales[form.get("payment_intent") or form["charge"]]
        refund = {
            "id": f"re_{self.made}",
            "object": "refund",
            "amount": int(form["amount"]),
            "currency": sale["currency"],
            "created": int(time.time()),
            "payment_intent": form.get("payment_intent"),
            "charge": form.get("charge"),
            "metadata": form.get("metadata", {}),
            "status": self.outcome,
            "failure_reason": "lost_or_stolen_card" if self.outcome == "failed" else None,
        }
        self.refunds[refund["id"]] = refund
        self.tell("refund.created", refund)
        self.worked.set()
        return refund

    def cancel(self, refund: Json) -> Answer:
        if self.client_acts and refund["status"] == "requires_action":
            self.settle(refund["id"], "pending")
        if refund["status"] != "requires_action":
            return refusal(400, "invalid_request_error", "It cannot be canceled any more")
        refund["status"] = "canceled"
        self.tell("refund.updated", refund)
        return 200, refund

    def list(self, form: Json) -> Answer:
        if unknown := form.keys() - TAKEN["GET refunds"]:
            return refusal(400, "invalid_request_error", f"Received unknown parameter: {unknown}", "parameter_unknown")
        wanted = [
            one
            for one in reversed(self.refunds.values())
            if all(form.get(kind) in {None, one[kind]} for kind in ("payment_intent", "charge"))
            and one["created"] >= int(form.get("created", {}).get("gte", 0))
        ]
        if (after := form.get("starting_after")) is not None:
            ids = [one["id"] for one in wanted]
            wanted = wanted[ids.index(after) + 1 :]
        limit = int(form.get("limit", 10))
        page = {"object": "list", "url": "/v1/refunds", "data": wanted[:limit], "has_more": len(wanted) > limit}
        return 200, page

    def search(self, kind: str, form: Json) -> Answer:
        wanted = form["query"].split("'")[3]
        data = [
            one
            for one in self.sales.values()
            if f"{one['object']}s" == kind and one["metadata"].get("casework_purchase") == wanted
        ]
        return 200, {"object": "search_result", "url": f"/v1/{kind}/search", "data": data, "has_more": False}


def found(one: Json | None, name: str) -> Answer:
    if one is None:
        return refusal(404, "invalid_request_error", f"No such object: '{name}'", "resource_missing")
    return 200, one


def refusal(status: int, kind: str, message: str, code: str | None = None) -> Answer:
    return status, {"error": {"type": kind, "message": message, **({"code": code} if code else {})}}


def as_tree(pairs: list[tuple[str, str]]) -> Json:
    """`metadata[a]=b` as Stripe reads forms."""
    tree: Json = {}
    for name, value in pairs:
        outer, _, inner = name.partition("[")
        if inner:
            tree.setdefault(outer, {})[inner.removesuffix("]")] = value
        else:
            tree[outer] = value
    return tree


class Requests(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    standin: StripeStandIn

    def do_GET(self) -> None:
        self.serve(urlsplit(self.path).query)

    def do_POST(self) -> None:
        self.serve(self.rfile.read(int(self.headers.get("content-length", 0))).decode())

    def serve(self, query: str) -> None:
        standin = self.standin
        with standin.quiet:
            standin.in_hand += 1
        try:
            self.take(query)
        finally:
            with standin.quiet:
                standin.in_hand -= 1
                standin.quiet.notify_all()

    def take(self, query: str) -> None:
        standin, path = self.standin, urlsplit(self.path).path
        standin.asked.append(f"{self.command} {path}")
        form, key = as_tree(parse_qsl(query)), self.headers.get("idempotency-key")
        if not self.is_known():
            self.send(refusal(401, "invalid_request_error", "Invalid API Key provided"))
            return
        fault = None
        if (self.command, path) == ("POST", "/v1/refunds") and standin.faults:
            fault = standin.faults.popleft()
        if fault is Fault.LOST:
            self.close_connection = True
            return
        if fault is Fault.BUSY:
            self.send(refusal(429, "rate_limit_error", "Too many requests", "rate_limit"))
            return
        if fault is Fault.SLOW:
            standin.hold.wait(standin.patience * 1.5)
        answer = standin.answer(self.command, path, form, key)
        if fault is Fault.BROKEN:
            answer = refusal(500, "api_error", "Something went wrong on our end")
            with standin.lock:
                if key in standin.answers:
                    standin.answers[key] = standin.answers[key][0], answer
        if fault is Fault.DROPPED:
            self.close_connection = True
            return
        if fault is Fault.LATE:
            standin.hold.wait(standin.patience * 1.5)
        self.send(answer)
        if fault is Fault.TWICE:
            self.send(answer)

    def is_known(self) -> bool:
        kind, _, secret = self.headers.get("authorization", "").partition(" ")
        given = b64decode(secret).decode().partition(":")[0] if kind == "Basic" else secret
        return given == KEY

    def send(self, answer: Answer) -> None:
        status, content = answer
        body = json.dumps(content).encode()
        with suppress(OSError):  # whoever asked may be gone
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def handle(self) -> None:
        with suppress(OSError):
            super().handle()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the library names it
        """Say nothing."""


@contextmanager
def open_for_business() -> Iterator[StripeStandIn]:
    standin = StripeStandIn()
    handler = type("StandInRequests", (Requests,), {"standin": standin})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.block_on_close = False
    standin.url = f"http://127.0.0.1:{server.server_address[1]}"
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    serving.start()
    try:
        yield standin
    finally:
        standin.hold.set()
        server.shutdown()
        server.server_close()
        serving.join()
