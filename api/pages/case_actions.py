"""What can be done to a case from its page: each action with the form it takes and the command it becomes."""

import uuid
from collections.abc import Awaitable, Callable
from typing import Any, get_args

import msgspec
from pydantic import BaseModel

from api import inputs as i
from api.attachments import as_evidence
from api.cases import ALLOWED_TRIGGER_ROLES
from api.letters.drafting import letter_of
from api.pages.routing import PageCall
from api.pages.showing import TRIGGER_KEYS, words
from storage import cases
from workflow import commands as c
from workflow.cases import Case, NewAttachment
from workflow.deciding import COMMAND_ROLES
from workflow.errors import bad_field
from workflow.money import Money
from workflow.policy import GroundKind
from workflow.roles import Role
from workflow.states import CompensationKind, Direction, LetterKind, RemedyKind, Trigger


class Asked(msgspec.Struct, frozen=True):
    """A form that makes sense: `body` is its model, `part` the ground, the proposal or the message it is about."""

    call: PageCall
    body: Any
    part: str


class Nothing(i.Input):
    """A file comes beside the fields, and needs none."""


Trial = Callable[[Case, str, Money], c.Command]


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """`fixed` is what the page fills in by itself. One that is not `moving` may cross with anything.

    `trial` is a command such as the form would make, about a part and some money: what the rules say against it, they
    say against any.
    """

    name: str
    title: str
    model: type[BaseModel]
    command: type[c.Command]
    make: Callable[[Asked], Awaitable[c.Command]]
    fixed: dict[str, Any] = {}
    moving: bool = True
    button: str = ""
    key: str = ""
    has_draft: bool = False
    trial: Trial | None = None
    needs: frozenset[str] = frozenset()  # what the model leaves open, because another action with it has no use for it

    @property
    def roles(self) -> frozenset[Role]:
        return ALLOWED_TRIGGER_ROLES if self.command is c.Fire else COMMAND_ROLES[self.command]


# From form to command.


async def fire(asked: Asked) -> c.Command:
    data = i.trigger_data(asked.body)
    if isinstance(data, c.CloseData) and data.duplicate_of is not None:
        data = msgspec.structs.replace(data, duplicate_of=await case_named(asked.call, data.duplicate_of))
    return c.Fire(trigger=asked.body.trigger, reason=asked.body.reason, data=data)


async def link(asked: Asked) -> c.Command:
    return c.LinkCase(kind=asked.body.kind, case=await case_named(asked.call, asked.body.case))


async def case_named(call: PageCall, name: str) -> str:
    """People say numbers; a name of no case is left for the rules to refuse."""
    return await cases.find(call.desk.database, name.strip()) or name


async def file(asked: Asked) -> c.Command:
    """Raises HttpProblem or BadInput."""
    upload = asked.call.upload
    chosen = upload if upload is not None and (upload.name or upload.content) else None
    evidence = as_evidence(chosen, asked.call.desk.settings.max_attachment_bytes)
    return c.AddAttachment(
        attachment=NewAttachment(
            id=str(uuid.uuid4()),
            name=evidence.name,
            content_type=evidence.content_type,
            content=evidence.content,
        )
    )


async def message(asked: Asked) -> c.Command:
    body: i.MessageIn = asked.body
    return c.AddMessage(direction=body.direction, text=body.text, awaits_reply=body.awaits_reply)


# What a draft that fills a reply brings along, by the names of hidden fields.
LETTER_FIELDS = ("letter", "basis", "language")
MAX_SEQ_DIGITS = 9


async def reply(asked: Asked) -> c.Command:
    """Raises BadInput and NotFound."""
    sent = c.AddMessage(direction=asked.body.direction, text=asked.body.text, awaits_reply=asked.body.awaits_reply)
    kind, basis, language = (asked.call.field(name) for name in LETTER_FIELDS)
    if not kind:
        return sent
    if kind not in KINDS or not basis.isdecimal() or len(basis) > MAX_SEQ_DIGITS:
        raise bad_field("letter", "is none that this page has drafted")
    case_id = await case_named(asked.call, asked.call.request.path_params["name"])
    letter = await letter_of(asked.call, case_id, LetterKind(kind), int(basis), language)
    return msgspec.structs.replace(sent, letter=letter)


KINDS = frozenset(LetterKind)


async def propose(asked: Asked) -> c.Command:
    body: i.ProposalIn = asked.body
    return c.Propose(
        remedy=body.remedy,
        amount=body.amount.money,
        reason=body.reason,
        kind=body.kind,
        grounds=tuple(body.grounds or ()),
    )


async def ground(asked: Asked) -> c.Command:
    body: i.GroundIn = asked.body
    return c.RecordGround(kind=body.kind, affected=body.affected.money, statement=body.statement)


async def slots(asked: Asked) -> c.Command:
    body: i.SlotsIn = asked.body
    return c.ProposeSlots(slots=tuple(body.slots), minutes=body.minutes, channel=body.channel, text=body.text)


async def consultation(asked: Asked) -> c.Command:
    body: i.ConsultationIn = asked.body
    return c.MoveConsultation(starts_at=body.starts_at, minutes=body.minutes, channel=body.channel, reason=body.reason)


def plainly(make: Callable[[Any, str], c.Command]) -> Callable[[Asked], Awaitable[c.Command]]:
    async def made(asked: Asked) -> c.Command:
        return make(asked.body, asked.part)

    return made


def about_proposal(command: Any) -> Callable[[Asked], Awaitable[c.Command]]:
    return plainly(lambda body, part: command(proposal=part, reason=body.reason))


# All of them, by name.

FORMS: dict[Trigger, type[BaseModel]] = {
    get_args(form.model_fields["trigger"].annotation)[0]: form for form in get_args(get_args(i.TransitionIn)[0])
}

TRANSITIONS = tuple(
    Action(
        name=trigger.value.replace("_", "-"),
        title=words(trigger).capitalize(),
        model=FORMS[trigger],
        command=c.Fire,
        make=fire,
        fixed={"trigger": trigger.value},
        key=f"t {TRIGGER_KEYS[trigger]}",
    )
    for trigger in Trigger
)

CONVERSATION = (
    Action(
        name="reply",
        title="Reply",
        button="Send to the client",
        model=i.MessageIn,
        command=c.AddMessage,
        make=reply,
        fixed={"direction": Direction.OUTBOUND.value},
        key="r",
        has_draft=True,
    ),
    Action(
        name="note",
        title="Internal note",
        button="Keep the note",
        model=i.NoteIn,
        command=c.AddNote,
        make=plainly(lambda body, _: c.AddNote(text=body.text)),
        moving=False,
        key="n",
        has_draft=True,
    ),
    Action(
        name="message",
        title="From the client, by phone or letter",
        button="Write it down",
        model=i.MessageIn,
        command=c.AddMessage,
        make=message,
        fixed={"direction": Direction.INBOUND.value, "awaits_reply": False},
        moving=False,
        key="m",
        has_draft=True,
    ),
    Action(
        name="no-answer",
        title="Needs no answer",
        model=i.ReasonIn,
        command=c.WaiveAnswer,
        make=plainly(lambda body, part: c.WaiveAnswer(message=part, reason=body.reason)),
        moving=False,
    ),
    Action(
        name="file",
        title="Add evidence",
        button="Add the file",
        model=Nothing,
        command=c.AddAttachment,
        make=file,
        moving=False,
        key="e",
    ),
    Action(
        name="link",
        title="Link a case",
        button="Link",
        model=i.LinkIn,
        command=c.LinkCase,
        make=link,
        moving=False,
    ),
)

CONSULTATION = (
    Action(
        name="propose-slots",
        title="Propose times for a consultation",
        button="Propose these times",
        model=i.SlotsIn,
        command=c.ProposeSlots,
        make=slots,
        key="c p",
    ),
    Action(
        name="move-consultation",
        title="Move the consultation",
        button="Move it",
        model=i.ConsultationIn,
        command=c.MoveConsultation,
        make=consultation,
        key="c m",
    ),
    Action(
        name="attendance",
        title="Record who came",
        button="Record it",
        model=i.AttendanceIn,
        command=c.RecordAttendance,
        make=plainly(lambda body, _: c.RecordAttendance(attended=body.attended, text=body.text)),
        key="c a",
        trial=lambda *_: c.RecordAttendance(attended=True, text="-"),
    ),
)

FACTS = (
    Action(
        name="purchase",
        title="Record the purchase",
        model=i.PurchaseIn,
        command=c.RecordPurchase,
        make=plainly(lambda body, _: c.RecordPurchase(purchase=body.purchase)),
        trial=lambda case, _, __: c.RecordPurchase(reference=case.purchase.reference if case.purchase else "-"),
    ),
    Action(
        name="known-purchase",
        title="Link a known purchase",
        model=i.PurchaseReferenceIn,
        command=c.RecordPurchase,
        make=plainly(lambda body, _: c.RecordPurchase(reference=body.reference)),
        trial=lambda *_: c.RecordPurchase(reference="-"),
    ),
    Action(
        name="check",
        title="Check the purchase against the books",
        button="It is as the books have it",
        model=i.ReasonIn,
        command=c.CheckPurchase,
        make=plainly(lambda body, _: c.CheckPurchase(reason=body.reason)),
        key="f p",
        trial=lambda *_: c.CheckPurchase(reason="-"),
    ),
    Action(
        name="ground",
        title="Record a ground",
        model=i.GroundIn,
        command=c.RecordGround,
        make=ground,
        key="f g",
        trial=lambda _, __, some: c.RecordGround(kind=GroundKind.BILLING_ERROR, affected=some, statement="-"),
    ),
    Action(
        name="verify",
        title="Verify",
        button="Record what was found",
        model=i.VerificationIn,
        command=c.VerifyGround,
        make=plainly(
            lambda body, part: c.VerifyGround(ground=part, verified=body.verified, evidence=body.evidence),
        ),
        trial=lambda _, part, __: c.VerifyGround(ground=part, verified=True, evidence="-"),
    ),
)

MONEY = (
    Action(
        name="propose-refund",
        title="Propose a refund",
        button="Propose",
        model=i.ProposalIn,
        command=c.Propose,
        make=propose,
        fixed={"remedy": RemedyKind.REFUND.value, "kind": None},
        key="p r",
        trial=lambda _, __, some: c.Propose(remedy=RemedyKind.REFUND, amount=some, reason="-"),
    ),
    Action(
        name="propose-compensation",
        title="Propose a compensation",
        button="Propose",
        model=i.ProposalIn,
        command=c.Propose,
        make=propose,
        fixed={"remedy": RemedyKind.COMPENSATION.value, "grounds": None},
        needs=frozenset({"kind"}),
        key="p c",
        trial=lambda _, __, some: c.Propose(
            remedy=RemedyKind.COMPENSATION, amount=some, reason="-", kind=CompensationKind.DISCOUNT
        ),
    ),
    Action(
        name="withdraw",
        title="Withdraw",
        model=i.ReasonIn,
        command=c.WithdrawProposal,
        make=about_proposal(c.WithdrawProposal),
        trial=lambda _, part, __: c.WithdrawProposal(proposal=part, reason="-"),
    ),
    Action(
        name="begin-payout",
        title="Begin the payout",
        model=i.ReasonIn,
        command=c.BeginPayout,
        make=about_proposal(c.BeginPayout),
        trial=lambda _, part, __: c.BeginPayout(proposal=part, reason="-"),
    ),
    Action(
        name="fail-payout",
        title="The payout failed",
        button="Record the failure",
        model=i.ReasonIn,
        command=c.FailPayout,
        make=about_proposal(c.FailPayout),
        trial=lambda _, part, __: c.FailPayout(proposal=part, reason="-"),
    ),
    Action(
        name="reverse-payment",
        title="The money came back",
        button="Record that it came back",
        model=i.ReasonIn,
        command=c.ReversePayment,
        make=about_proposal(c.ReversePayment),
        trial=lambda _, part, __: c.ReversePayment(proposal=part, reason="-"),
    ),
)

CASE = (
    Action(
        name="assign",
        title="Give it to somebody",
        button="Assign",
        model=i.AssigneeIn,
        command=c.Assign,
        make=plainly(lambda body, _: c.Assign(assignee=body.assignee, reason=body.reason)),
        trial=lambda *_: c.Assign(assignee=None),
    ),
    Action(
        name="category",
        title="File it elsewhere",
        button="File",
        model=i.CategoryIn,
        command=c.Recategorize,
        make=plainly(lambda body, _: c.Recategorize(category=body.category, reason=body.reason)),
        trial=lambda case, _, __: c.Recategorize(category=case.category),
    ),
    Action(
        name="requested-at",
        title="Correct when it was received",
        button="Correct",
        model=i.RequestedAtIn,
        command=c.CorrectRequestedAt,
        make=plainly(lambda body, _: c.CorrectRequestedAt(requested_at=body.requested_at, reason=body.reason)),
        trial=lambda case, _, __: c.CorrectRequestedAt(requested_at=case.received_at, reason="-"),
    ),
    Action(
        name="participants",
        title="Change whose mail counts",
        button="Change",
        model=i.ParticipantsIn,
        command=c.SetParticipants,
        make=plainly(lambda body, _: c.SetParticipants(participants=tuple(body.participants))),
        moving=False,
    ),
    Action(
        name="hold",
        title="Place a legal hold",
        model=i.ReasonIn,
        command=c.PlaceHold,
        make=plainly(lambda body, _: c.PlaceHold(reason=body.reason)),
        moving=False,
    ),
    Action(
        name="release",
        title="Release the legal hold",
        model=i.ReasonIn,
        command=c.ReleaseHold,
        make=plainly(lambda body, _: c.ReleaseHold(reason=body.reason)),
        moving=False,
        trial=lambda *_: c.ReleaseHold(reason="-"),
    ),
)

ACTIONS = {one.name: one for one in (*TRANSITIONS, *CONVERSATION, *CONSULTATION, *FACTS, *MONEY, *CASE)}
