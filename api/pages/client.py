"""The client's page: their case by a secret link, with no account and no cookie; and how the desk makes such a link.

Whoever has no good link learns nothing, not even whether there ever was one: the same page, the same status.
"""

import asyncio
import hmac
import secrets
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from starlette.datastructures import FormData
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response

from api.client_links import USUAL, issue, path_of
from api.desk import Caller, Desk
from api.errors import RETRY_SECONDS, HttpProblem, problem_of
from api.limits import origin_of
from api.pages.client_seen import SLOT_FORMAT, Receipt, Seeing
from api.pages.client_words import ENGLISH, Words
from api.pages.frame import desk_page
from api.pages.rendering import TEMPLATES, page
from api.pages.routing import PageCall, Pages, address_of, field_of, from_elsewhere, is_private, read_form
from api.routing import Call, Handler, PageRoute
from storage import cases, client_links, consultations, people
from storage.batch import Entry
from storage.ledger import KeyInFlight
from storage.submissions import KeyReused, OutcomeUnknown, Unavailable
from storage.submissions import Receipt as Done
from workflow.cases import Case, ClientLink, case_number_text
from workflow.commands import (
    AddMessage,
    AnswerOffer,
    Command,
    Fire,
    RevokeClientLink,
    ScheduleConsultationData,
)
from workflow.deciding import LONGEST_CLIENT_LINK
from workflow.errors import BadInput, CaseworkError, GuardRefused, NoSuchTransition, NotFound, bad_field
from workflow.policy import version_in_force
from workflow.roles import CLIENTS, LINKERS, READERS, Actor
from workflow.states import Direction, Trigger

log = structlog.get_logger()
pages = Pages()

MAX_CHARACTERS = 20_000
MAX_SEQ_DIGITS = 9

# No script at all; and the address, which is a secret, is told to nobody.
HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-robots-tag": "noindex, nofollow, noarchive",
}


IN_FLIGHT = 50, 0.1  # how often, and how many seconds apart, a form that was sent twice at once is tried again


class Gone(Exception):
    """There is no good link with this secret."""


class TooOften(Exception):
    def __init__(self, seconds: int) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class ClientCall(Call):
    """One request by a client, who came by this link; `case` is as it was when the page was asked for."""

    __slots__ = ("case", "form", "link", "secret", "words")

    def __init__(self, request: Request, desk: Desk, case: Case, link: ClientLink, words: Words) -> None:
        actor = Actor(kind="client", id=link.id, roles=CLIENTS)
        super().__init__(request, desk, Caller(actor=actor))
        self.secret: str = request.path_params["secret"]
        self.case = case
        self.link = link
        self.words = words
        self.form = FormData()

    @property
    def via(self) -> str:
        return "page"

    @property
    def path(self) -> str:
        return path_of(self.secret)

    @property
    def csrf(self) -> str:
        """Nobody else can make it, and it tells nothing of the secret."""
        return hmac.digest(self.desk.secret, f"client {self.secret}".encode(), "sha256").hex()

    def field(self, name: str) -> str:
        return field_of(self.form, name)

    def take_form(self, form: FormData) -> None:
        """Raises HttpProblem for a form that was not sent from this link's own page."""
        self.form = form
        if came_from_elsewhere(self.request) or not hmac.compare_digest(
            self.field("csrf").encode(), self.csrf.encode()
        ):
            raise HttpProblem(HTTPStatus.FORBIDDEN, "elsewhere", "")
        if key := self.field("key"):
            route = self.request.scope["route"].path
            self.key_scope = f"{self.caller.actor.key}\nPOST\n{route}\n{key}"
            path = self.request.path_params
            sent = (path.get("answer") or path.get("slot"), self.field("offer"), self.field("text"))
            self.take_key(msgspec.json.encode(sent))


def came_from_elsewhere(request: Request) -> bool:
    """As for other pages; but a page that sends no referrer sends no origin either, where browsers say no more."""
    says_nothing = "sec-fetch-site" not in request.headers and request.headers.get("origin") == "null"
    return not says_nothing and from_elsewhere(request)


# How a client's request is answered.

Endpoint = Callable[..., Awaitable[Response]]


def for_clients(method: str, path: str) -> Callable[[Endpoint], Endpoint]:
    def declare(endpoint: Endpoint) -> Endpoint:
        pages.routes.append(PageRoute(path, answering(endpoint), method))
        return endpoint

    return declare


def answering(endpoint: Endpoint) -> Handler:
    """Whatever goes wrong is a page of the client's, which says no more than what to do."""

    async def handle(request: Request) -> Response:
        desk: Desk = request.app.state.desk
        words = Words(ENGLISH, desk.settings.timezone)
        try:
            words = await words_of(desk)
            call = await call_of(request, desk, words)
            parts = {name: value for name, value in request.path_params.items() if name != "secret"}
            return await endpoint(call, **parts)
        except (Gone, NotFound):
            return failure(desk, words, "gone", HTTPStatus.NOT_FOUND)
        except TooOften as often:
            headers = {"retry-after": str(often.seconds)}
            return failure(desk, words, "often", HTTPStatus.TOO_MANY_REQUESTS, headers, seconds=often.seconds)
        except ClientDisconnect:
            return Response(status_code=400)
        except HttpProblem as problem:
            kind = "elsewhere" if problem.status == HTTPStatus.FORBIDDEN else "large"
            return failure(desk, words, "plain" if problem.code == "plain" else kind, problem.status)
        except BadInput:
            return failure(desk, words, "unfit", HTTPStatus.UNPROCESSABLE_ENTITY)
        except CaseworkError as refused:
            said, headers = problem_of(refused, "")
            return failure(desk, words, "away", said["status"], headers)
        except Exception:
            request_id = request.scope["request_id"]
            log.exception("page_failed", request_id=request_id, path=request.scope["route"].path)
            return failure(desk, words, "bug", HTTPStatus.INTERNAL_SERVER_ERROR, request_id=request_id)

    return handle


async def words_of(desk: Desk) -> Words:
    policies = (await desk.directory()).policies
    return Words(ENGLISH, version_in_force(policies, desk.clock()).settings.timezone)


async def call_of(request: Request, desk: Desk, words: Words) -> ClientCall:
    """Raises Gone, TooOften, HttpProblem, and BadInput for a form that nothing can keep."""
    if not is_private(request):
        raise HttpProblem(HTTPStatus.FORBIDDEN, "plain", "")
    now, limits, origin = desk.clock(), desk.client_limits, origin_of(request)
    may_go_on(limits.reads_from.take(origin, now))
    found = await client_links.by_secret(desk.database, digest_of(request.path_params["secret"]))
    link = found[0].client_link(found[1]) if found else None
    if found is None or link is None or not link.is_good(now):
        may_go_on(limits.wrong.take(origin, now))
        raise Gone
    may_go_on(limits.reads_by.take(link.id, now))
    call = ClientCall(request, desk, found[0], link, words)
    request.scope["actor"] = call.caller.actor.key
    if request.method == "POST":
        call.take_form(await read_form(request, desk.settings.max_body_bytes))
    return call


def may_go_on(seconds: int) -> None:
    if seconds:
        raise TooOften(seconds)


def digest_of(secret: str) -> str:
    return people.secret_hash(secret if secret.isascii() else "")


def failure(
    desk: Desk, words: Words, kind: str, status: int, headers: dict[str, str] | None = None, **facts: Any
) -> Response:
    request_id = facts.get("request_id", "")
    return client_page(
        desk,
        words,
        "client_failure.html",
        status,
        headers,
        heading=words(f"{kind}.title"),
        said=words(kind, **facts),
        advice=words("gone.do") if kind == "gone" else "",
        request_id=request_id,
    )


def client_page(
    desk: Desk, words: Words, template: str, status: int = 200, headers: dict[str, str] | None = None, **facts: Any
) -> Response:
    return page(
        template,
        status,
        HEADERS | (headers or {}),
        words=words,
        organisation=desk.settings.organisation,
        support=desk.settings.support_address,
        **facts,
    )


# The page itself.


@for_clients("GET", "/c/{secret}")
async def look(call: ClientCall) -> Response:
    return await shown(call)


async def shown(call: ClientCall, status: int = 200, *, text: str = "", fault: str = "") -> Response:
    """`text` is what they have written and `fault` why it was not taken."""
    seen = (await seeing(call)).seen(all_messages="all" in call.request.query_params)
    return client_page(
        call.desk,
        call.words,
        "client.html",
        status,
        seen=seen,
        until=call.words.day(call.link.expires_at),
        fault=fault,
        **form_of(call, text),
    )


async def seeing(call: ClientCall) -> Seeing:
    """The case as it is now."""
    call.case, history = await cases.with_history(call.desk.database, call.case.id)
    proposed = call.case.proposed_slots
    return Seeing(
        taken=await consultations.calendar(call.desk.database, proposed.host, call.desk.clock()) if proposed else (),
        case=call.case,
        history=history,
        texts=await cases.texts_of(call.desk.database, call.case.id),
        context=await call.desk.context(),
        words=call.words,
        organisation=call.desk.settings.organisation,
        now=call.desk.clock(),
    )


def form_of(call: ClientCall, text: str) -> dict[str, Any]:
    """What every form of the page holds."""
    return {
        "path": call.path,
        "csrf": call.csrf,
        "key": secrets.token_hex(16),
        "text": text,
        "limit": f"{MAX_CHARACTERS:,}",
    }


@for_clients("POST", "/c/{secret}")
async def write(call: ClientCall) -> Response:
    """A message, which is recorded like one by mail."""
    text = call.field("text")
    fault = call.words("answer.empty") if not text else fault_of(call.words, text)
    if fault:
        return await shown(call, HTTPStatus.UNPROCESSABLE_ENTITY, text=text, fault=fault)
    if not (await seeing(call)).may_write:
        return await shown(call, HTTPStatus.CONFLICT, text=text, fault=call.words("answer.ended"))
    command = AddMessage(direction=Direction.INBOUND, text=text)
    return await recorded(call, command, lambda status, said: shown(call, status, text=text, fault=said))


def fault_of(words: Words, text: str) -> str:
    """What is wrong with a text, if anything is."""
    if len(text) <= MAX_CHARACTERS:
        return ""
    return words("answer.long", limit=f"{MAX_CHARACTERS:,}", count=f"{len(text):,}")


Again = Callable[[int, str], Awaitable[Response]]


async def recorded(call: ClientCall, command: Command, again: Again, gone: str = "offer.gone") -> Response:
    """Hands the command over, and on to its receipt; or the form `again`, with the reason why not.

    `gone` is the word for what is no longer there to be answered. Raises Gone where the link ended meanwhile.
    """
    seconds = wait_to_write(call)
    if seconds:
        response = await again(HTTPStatus.TOO_MANY_REQUESTS, call.words("answer.often", seconds=seconds))
        response.headers["retry-after"] = str(seconds)
        return response
    try:
        receipt = await submitted(call, command)
    except (GuardRefused, NoSuchTransition) as refused:
        if "link_is_good" in refused.codes:
            raise Gone from refused
        return await again(HTTPStatus.CONFLICT, call.words(gone))
    except KeyReused:
        return await again(HTTPStatus.UNPROCESSABLE_ENTITY, call.words("answer.again"))
    except (Unavailable, OutcomeUnknown) as away:
        said = "answer.unknown" if isinstance(away, OutcomeUnknown) else "answer.away"
        response = await again(HTTPStatus.SERVICE_UNAVAILABLE, call.words(said))
        response.headers["retry-after"] = str(RETRY_SECONDS)
        return response
    return to(f"{call.path}/receipts/{receipt.seq}")


async def submitted(call: ClientCall, command: Command) -> Done:
    """Whoever presses the button twice waits for the first answer, and gets it."""
    times, seconds = IN_FLIGHT
    for _ in range(times):
        try:
            return await call.desk.submit(call, command, call.case.id)
        except KeyInFlight:
            await asyncio.sleep(seconds)
    return await call.desk.submit(call, command, call.case.id)


def wait_to_write(call: ClientCall) -> int:
    """The seconds until they may; counted if they may now."""
    now, origin, limits = call.desk.clock(), origin_of(call.request), call.desk.client_limits
    counted = ((limits.writes_by, call.link.id), (limits.writes_from, origin))
    seconds = max(limit.wait(key, now) for limit, key in counted)
    for limit, key in counted if not seconds else ():
        limit.count(key, now)
    return seconds


def to(path: str) -> Response:
    return RedirectResponse(path, HTTPStatus.SEE_OTHER, {"cache-control": "no-store", **HEADERS})


# An offer, in two steps.


@for_clients("GET", "/c/{secret}/{answer}")
async def ask(call: ClientCall, answer: str) -> Response:
    return await asked(call, answer)


async def asked(call: ClientCall, answer: str, status: int = 200, *, text: str = "", fault: str = "") -> Response:
    """Whether they are sure. Raises NotFound."""
    if answer not in {"accept", "decline"}:
        raise NotFound("page")
    offer = (await seeing(call)).offer()
    if offer is None:
        return await shown(call, HTTPStatus.CONFLICT, text=text, fault=call.words("offer.gone"))
    return client_page(
        call.desk,
        call.words,
        "client_offer.html",
        status,
        answer=answer,
        offer=offer,
        number=case_number_text(call.case.number),
        fault=fault,
        **form_of(call, text),
    )


@for_clients("POST", "/c/{secret}/{answer}")
async def answer_offer(call: ClientCall, answer: str) -> Response:
    """Of the offer that they have read: another one may have come since."""
    text, offer = call.field("text"), number_in(call.field("offer"))
    if answer not in {"accept", "decline"} or offer is None:
        raise NotFound("page")
    if fault := fault_of(call.words, text):
        return await asked(call, answer, HTTPStatus.UNPROCESSABLE_ENTITY, text=text, fault=fault)

    async def again(status: int, said: str) -> Response:
        if status == HTTPStatus.CONFLICT:
            return await shown(call, status, text=text, fault=said)
        return await asked(call, answer, status, text=text, fault=said)

    return await recorded(call, AnswerOffer(offer=offer, accepted=answer == "accept", text=text), again)


def number_in(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= MAX_SEQ_DIGITS else None


# A slot for a consultation, in two steps.


@for_clients("GET", "/c/{secret}/slots/{slot}")
async def choose(call: ClientCall, slot: str) -> Response:
    return await chosen(call, slot)


async def chosen(call: ClientCall, slot: str, status: int = 200, *, fault: str = "") -> Response:
    """Whether they are sure; of a slot that is not to be had, the others. Raises NotFound for what is no slot."""
    starts_at = moment_in(slot)
    proposed = (await seeing(call)).slots()
    wanted = next((one for one in proposed.times if one.starts_at == starts_at), None) if proposed else None
    if proposed is None or wanted is None or not wanted.is_free:
        return await shown(call, HTTPStatus.CONFLICT, fault=fault or call.words("slots.gone"))
    return client_page(
        call.desk,
        call.words,
        "client_slot.html",
        status,
        proposed=proposed,
        slot=wanted,
        number=case_number_text(call.case.number),
        fault=fault,
        **form_of(call, ""),
    )


@for_clients("POST", "/c/{secret}/slots/{slot}")
async def pick_slot(call: ClientCall, slot: str) -> Response:
    """Of the proposal that they have read: another one may have come since."""
    starts_at, offer = moment_in(slot), number_in(call.field("offer"))
    if offer is None:
        raise NotFound("page")
    proposed = (await seeing(call)).slots()
    if proposed is None or proposed.seq != offer:
        return await not_picked(call, offer, starts_at)
    data = ScheduleConsultationData(
        starts_at=starts_at, minutes=proposed.minutes, channel=proposed.channel, slot_of=offer
    )
    command = Fire(trigger=Trigger.SCHEDULE_CONSULTATION, reason=PICKED, data=data)

    async def again(status: int, said: str) -> Response:
        if status == HTTPStatus.CONFLICT:
            return await not_picked(call, offer, starts_at)
        return await chosen(call, slot, status, fault=said)

    try:
        return await recorded(call, command, again, gone="slots.gone")
    except BadInput:  # it has begun since
        return await not_picked(call, offer, starts_at)


async def not_picked(call: ClientCall, offer: int, starts_at: datetime) -> Response:
    """The receipt, if they have picked it before; else why not, with the slots that are left."""
    seq = (await seeing(call)).picked(offer, starts_at)
    if seq is not None:
        return to(f"{call.path}/receipts/{seq}")
    return await shown(call, HTTPStatus.CONFLICT, fault=call.words("slots.gone"))


def moment_in(slot: str) -> datetime:
    """Such as 20260308T1200Z. Raises NotFound."""
    try:
        return datetime.strptime(slot if slot.isascii() else "", SLOT_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        raise NotFound("page") from None


PICKED = "The client picked this time on their page"


# What was recorded, to be kept.


@for_clients("GET", "/c/{secret}/receipts/{seq}")
async def receipt(call: ClientCall, seq: str) -> Response:
    number = number_in(seq)
    found: Receipt | None = (await seeing(call)).receipt(number) if number else None
    if found is None:
        raise NotFound("receipt")
    return client_page(call.desk, call.words, "client_receipt.html", receipt=found, path=call.path)


# The desk's side: links are made, listed and revoked.

DAYS = (7, 30, USUAL.days, 180, LONGEST_CLIENT_LINK.days)
TEMPLATES.globals |= {"client_link_days": DAYS, "client_link_usual": USUAL.days}


@pages.get("/cases/{number}/client-links", READERS)
async def list_links(call: PageCall, number: str) -> Response:
    return await links_page(call, await entry_of(call, number))


@pages.post("/cases/{number}/client-links", LINKERS)
async def make_link(call: PageCall, number: str) -> Response:
    """The address is shown in this answer, and never again."""
    entry = await entry_of(call, number)
    try:
        expires_at = expiry_in(call.field("days"), call.desk.clock())
        made, _ = await issue(call, entry.case.id, expires_at)
    except (BadInput, GuardRefused) as refused:
        problem, _ = problem_of(refused, call.request_id)
        reasons = [one["text"] for one in problem.get("refusals", [])]
        reasons += [f"{one['field']} {one['message']}" for one in problem.get("errors", [])]
        return await links_page(call, entry, problem["status"], reasons=reasons)
    address = f"{address_of(call)}{made['path']}"
    return await links_page(call, await entry_of(call, number), made=made, address=address)


@pages.post("/cases/{number}/client-links/{link_id}/revoke", LINKERS)
async def revoke_link(call: PageCall, number: str, link_id: str) -> Response:
    entry = await entry_of(call, number)
    if entry.case.client_link(link_id) is not None:  # whoever presses twice wants the same
        await call.desk.submit(call, RevokeClientLink(link_id=link_id, reason=call.field("reason")), entry.case.id)
    back = call.field("back")
    target = f"/cases/{case_number_text(entry.case.number)}"
    return RedirectResponse(f"{target}{'#' if back == 'case' else '/'}client-links", HTTPStatus.SEE_OTHER)


def expiry_in(days: str, now: datetime) -> datetime:
    """Raises BadInput."""
    if days not in map(str, DAYS):
        raise bad_field("days", f"has to be one of {', '.join(map(str, DAYS))}")
    return now + timedelta(days=int(days))


async def entry_of(call: PageCall, number: str) -> Entry:
    """Raises NotFound."""
    case_id = await cases.find(call.desk.database, number)
    entry = await cases.one(call.desk.database, case_id) if case_id else None
    if entry is None:
        raise NotFound("case")
    return entry


async def links_page(call: PageCall, entry: Entry, status: int = 200, **facts: Any) -> Response:
    case = entry.case
    if call.request.method == "GET":
        await call.desk.record_read(call, case.id, case.version, "client links")
    return await desk_page(
        call,
        "client_link.html",
        here="",
        status=status,
        **({"reasons": [], "made": None, "address": ""} | facts),
        number=case_number_text(case.number),
        title=entry.texts.get(case.title, ""),
        links=case.issued_links,
        now=call.desk.clock(),
        may_link=call.caller.actor.may(LINKERS),
        key=secrets.token_hex(16),
    )
