"""Commands about the desk itself rather than one case: policy versions, set-aside mail, reads, refusals, samples."""

from datetime import datetime

from workflow.commands import Command
from workflow.errors import Forbidden, Refusal
from workflow.events import AttemptRefused, CaseRead, Draft, ExportTaken, MailSetAside, PolicyAdded, SampleDrawn
from workflow.policy import PolicyVersion, Settings, next_version
from workflow.roles import ADMINS, Actor, in_order
from workflow.states import Trigger

POLICY_CHAIN = "desk:policy"
SETTINGS_CHAIN = "desk:settings"
SIGNING_CHAIN = "desk:signing"


class AddPolicy(Command, frozen=True, kw_only=True):
    """A later version of the policy, in force from `effective_from`, at the earliest (and by default) now."""

    settings: Settings
    effective_from: datetime | None = None


class SetMailAside(Command, frozen=True, kw_only=True):
    """Mail that opened nothing, kept for a person to look at."""

    reason: str
    sender: str
    subject: str
    text: str


class RecordRead(Command, frozen=True, kw_only=True):
    case: str
    version: int
    what: str


class RecordExport(Command, frozen=True, kw_only=True):
    what: str
    format: str
    personal: bool = False
    only: str = ""


class RecordRefusal(Command, frozen=True, kw_only=True):
    """An attempt that was refused before it became a command."""

    code: str
    attempted: str
    case: str | None = None
    version: int | None = None
    trigger: Trigger | None = None
    refusals: tuple[str, ...] = ()


class DrawSample(Command, frozen=True, kw_only=True):
    """An auditor has drawn this."""

    sample: SampleDrawn


SingleCommand = SetMailAside | RecordRead | RecordExport | RecordRefusal | DrawSample


def decide_policy(
    policies: tuple[PolicyVersion, ...], command: AddPolicy, actor: Actor, now: datetime
) -> tuple[Draft, PolicyVersion]:
    """Raises Forbidden or InvalidPolicy."""
    if not actor.may(ADMINS):
        raise Forbidden(Refusal(code="role", text="only an admin changes the policy", who=in_order(ADMINS)))
    version = next_version(policies, command.settings, now, command.effective_from)
    return Draft(data=PolicyAdded(version=version)), version


def single_event(command: SingleCommand) -> tuple[str, Draft]:
    """The kind of chain, and its only event."""
    match command:
        case SetMailAside():
            personal = {"sender": command.sender, "subject": command.subject, "text": command.text}
            return "set_aside", Draft(data=MailSetAside(reason=command.reason), personal=personal)
        case RecordRead():
            return "read", Draft(data=CaseRead(case=command.case, version=command.version, what=command.what))
        case RecordExport(what=what, format=form, personal=personal, only=only):
            return "read", Draft(data=ExportTaken(what=what, format=form, personal=personal, only=only))
        case DrawSample(sample=sample):
            return "sample", Draft(data=sample)
        case RecordRefusal():
            data = AttemptRefused(
                code=command.code,
                command=command.attempted,
                case=command.case,
                version=command.version,
                trigger=command.trigger,
                refusals=command.refusals,
            )
            return "refusal", Draft(data=data)
