"""What a consultation sets in motion: its invitation, to the client and to its host, kept up with every change."""

from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from email.utils import format_datetime
from typing import TYPE_CHECKING

import msgspec

from api.calendars import Appointment, Party, appointment_after, invitation, plain
from api.carrying_out import Hopeless, Needless, Result
from api.letters.drafting import said_by_client
from api.letters.languages import Words, languages, recognised
from api.mail_addresses import Unmailable, mailbox_of
from api.sending import Outgoing
from storage import cases, people
from storage.outbox import Effect
from workflow.cases import Case, case_number_text
from workflow.effects import HOST, EffectKind, letter_name
from workflow.errors import NotFound
from workflow.events import Opened, Recorded
from workflow.policy import version_in_force
from workflow.replaying import replay

if TYPE_CHECKING:
    from api.desk import Desk


MOST_IN_SUBJECT = 120


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """An appointment with all that its invitations need besides."""

    case: Case
    recorded: Recorded
    appointment: Appointment
    words: Words  # the client's
    host_words: Words
    organizer: Party
    client: Party
    host: Party
    acknowledged: str = ""  # by the letter of this name, which began the conversation

    @property
    def name(self) -> str:
        """Of the client's letter, as replies to it refer to it."""
        return letter_name(self.case.mail_tag, self.recorded.hash, EffectKind.INVITE)

    @property
    def host_name(self) -> str:
        """Of the host's, which nobody answers: no reply and no return of it is of the case."""
        return f"{self.name}.host"

    @property
    def domain(self) -> str:
        return self.organizer.address.rpartition("@")[2] or "localhost"


async def invite(desk: "Desk", effect: Effect) -> Result:
    """To the client or the host, as the effect's target says; made again, it is the same mail about the same change."""
    told = await told_of(desk, effect)
    if isinstance(told, Needless):
        return told
    for_host = effect.target == HOST
    if for_host and not told.host.address:
        return Needless(code="no_address")
    try:
        mail = posted(told, for_host=for_host)
    except (MessageError, ValueError, IndexError, Unmailable):  # what an address book may hold is endless
        return Hopeless(code="address_unfit", detail="an address or a name cannot stand in a mail's header")
    return await desk.post.send(mail)


def posted(told: Told, *, for_host: bool) -> Outgoing:
    """As it is handed over. Raises as `invitation_mail`, and Unmailable."""
    mail, recipient = invitation_mail(told, for_host=for_host), told.host if for_host else told.client
    to, own = mailbox_of(recipient.address), mailbox_of(told.organizer.address)
    needs_utf8 = not (to.is_ascii and own.is_ascii)
    return Outgoing(
        name=told.host_name if for_host else told.name,
        sender=own.address if for_host else own.with_tag(told.case.mail_tag).address,
        recipient=to.address,
        content=mail.as_bytes(policy=SMTPUTF8 if needs_utf8 else SMTP),
        needs_utf8=needs_utf8,
    )


async def told_of(desk: "Desk", effect: Effect) -> Told | Needless:
    """What the event changes in calendars, or why nothing is to be said of it."""
    found = await cases.events_of(desk.database, effect.chain, until=effect.seq)
    history = [one for one, _ in found]
    case = replay(history)
    if case is None or case.version != effect.seq:
        raise NotFound("event")
    texts = await cases.texts_of(desk.database, case.id)
    appointment = appointment_after(history, texts)
    if appointment is None:
        return Needless(code="nothing_booked")
    if appointment.ends_at <= desk.clock():
        return Needless(code="past")
    address = texts.get(case.client_email, "")
    if not address or appointment.channel is None:
        return Needless(code="erased")
    host = (await people.names_by_id(desk.database, [appointment.host])).get(appointment.host, {})
    policies = (await desk.directory()).policies
    first = history[0]
    is_acknowledged = isinstance(first.data, Opened) and not first.data.silent
    timezone = version_in_force(policies, appointment.at).settings.timezone
    usual = desk.settings.language
    return Told(
        case=case,
        recorded=history[-1],
        appointment=appointment,
        words=Words(languages()[recognised(said_by_client(history, texts), usual)], timezone),
        host_words=Words(languages()[usual], timezone),
        organizer=Party(address=desk.settings.support_address, name=desk.settings.organisation),
        client=Party(address=address, name=texts.get(case.client_name, "")),
        host=Party(address=host.get("email", ""), name=host.get("name", "")),
        acknowledged=letter_name(case.mail_tag, first.hash, EffectKind.ACKNOWLEDGE) if is_acknowledged else "",
    )


# The mail.


def invitation_mail(told: Told, *, for_host: bool = False) -> EmailMessage:
    """A text, the invitation as mail programs act on it, and the same as a file.

    A client is told nobody's address but ours; who holds the consultation is told the client's. Raises as `address_of`
    and `organizer`.
    """
    appointment = told.appointment
    kind = "off" if appointment.is_off else "booked" if appointment.is_new else "moved"
    words, recipient = (told.host_words, told.host) if for_host else (told.words, told.client)
    subject = words(f"invitation.{kind}", when=words.moment(appointment.starts_at))
    about = f"[{case_number_text(told.case.number)}]" if for_host else f"[#{told.case.mail_tag}]"
    mail = EmailMessage()
    mail["From"] = address_of(told.organizer)
    mail["To"] = address_of(recipient)
    mail["Subject"] = f"{subject[:MOST_IN_SUBJECT]} {about}"
    mail["Date"] = format_datetime(told.recorded.at)
    mail["Message-ID"] = f"<{told.host_name if for_host else told.name}@{told.domain}>"
    if told.acknowledged and not for_host:
        mail["References"] = f"<{told.acknowledged}@{told.domain}>"
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's holiday notice is to answer it
    mail.set_content("\n".join(lines(told, words, kind, for_host=for_host)), cte="quoted-printable")
    method = "CANCEL" if appointment.is_off else "REQUEST"
    host = told.host if for_host else Party(address="")
    octets = invitation(appointment, words.timezone, organizer(told, for_host=for_host), [told.client], host)
    mail.add_alternative(octets, "text", "calendar", params={"method": method, "charset": "utf-8"})
    mail.add_attachment(octets, "application", "ics", filename="cancel.ics" if appointment.is_off else "invite.ics")
    mail["Content-Language"] = words.language.code  # now, since it would have become the text's alone
    return mail


def lines(told: Told, words: Words, kind: str, *, for_host: bool) -> list[str]:
    appointment = told.appointment
    minutes = round((appointment.ends_at - appointment.starts_at).total_seconds() / 60)
    said = "host" if for_host and kind == "booked" else kind
    facts = [
        words("consultation.when", starts=words.moment(appointment.starts_at)),
        words("consultation.long", minutes=minutes),
        words("consultation.how", channel=plain(appointment.channel or "")),
        words("invitation.case", number=appointment.number),
    ]
    last = [words("invitation.file"), *([] if for_host or appointment.is_off else [words("invitation.reply")])]
    return [words(f"invitation.{said}.said"), "", *facts, "", *last, ""]


def organizer(told: Told, *, for_host: bool) -> Party:
    """Whom calendar programs tell whether somebody comes: of the client, the address that leads to the case.

    Raises Unmailable.
    """
    if for_host:
        return told.organizer
    own = mailbox_of(told.organizer.address)
    return msgspec.structs.replace(told.organizer, address=own.with_tag(told.case.mail_tag).address)


def address_of(party: Party) -> Address:
    """Raises ValueError, IndexError or MessageError for what no header can hold."""
    return Address(display_name=plain(party.name), addr_spec=party.address)
