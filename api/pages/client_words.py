"""What a client reads on their page, in English. Nothing that they read is written anywhere else.

Another language is another table with the same keys, and its own way to write a date.
"""

from datetime import date, datetime

from workflow.money import Money
from workflow.timezones import zone

MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)

ENGLISH: dict[str, str] = {
    "language": "en",
    # Around everything.
    "title": "Your case {number}",
    "skip": "Skip to content",
    "footer.until": "This page is for you alone: whoever has its address can read it. It can be opened until {until}.",
    "footer.support": "You can always write to us by mail as well:",
    "back": "Back to your case",
    # Where it stands, by state; what is recorded besides makes variants.
    "where": "Where your case stands",
    "where.opened": "We have received your message of {received}. Nobody has begun to look into it yet.",
    "where.opened.asked": "We have received your message of {received}.",
    "where.investigating": "We are looking into your case and finding out what happened.",
    "where.investigating.again": "We are looking into your case again.",
    "where.investigating.payment_failed": "The refund of {amount} that we recorded on {at} came back to us."
    " We are looking into your case again.",
    "where.adjustment_offered": "We have offered you a change to your service, and it waits for your answer.",
    "where.adjustment_offered.over": "We offered you a change to your service. The time to answer it ended on {until}.",
    "where.adjustment_offered.accepted": "You accepted our offer on {answered}.",
    "where.adjustment_offered.declined": "You declined our offer on {answered}.",
    "where.consultation_scheduled": "A consultation is booked for {starts}: {minutes} minutes, {channel}.",
    "where.consultation_scheduled.past": "A consultation was booked for {starts}: {minutes} minutes, {channel}.",
    "where.consultation_scheduled.attended": "Our consultation took place on {starts}: {minutes} minutes, {channel}.",
    "where.consultation_scheduled.missed": "A consultation was booked for {starts}. We have noted that it did not take"
    " place.",
    "where.slots": "We have proposed times for a consultation, and wait for you to pick one.",
    "where.compensation_issued": "We have given you {what} worth {amount}. It was recorded on {at}.",
    "where.refunded": "We have refunded {amount}. It was recorded on {at}.",
    "where.closed.explained": "Your case was closed on {closed}, after we explained what happened.",
    "where.closed.no_refund_due": "Your case was closed on {closed}. Under our published rules no refund is due.",
    "where.closed.remedy_accepted": "Your case was closed on {closed}, with the solution that is listed below.",
    "where.closed.withdrawn": "Your case was closed on {closed}, because it was withdrawn.",
    "where.closed.no_response": "Your case was closed on {closed}, because we had no answer from you.",
    "where.closed.duplicate": "Your case was closed on {closed}, because the same matter had been recorded already.",
    "where.closed.spam": "Your case was closed on {closed}.",
    "where.offer": "The offer was:",
    "where.waiting": "We have asked you something and wait for your answer.",
    # What was given and still holds.
    "given": "What you have received",
    "given.refund": "Refund of {amount}, recorded on {at}",
    "given.compensation": "{What} worth {amount}, recorded on {at}",
    "given.consultation": "Consultation on {starts}, {minutes} minutes",
    "given.adjustment": "Change to your service, offered on {at}",
    "kind.service_credit": "a credit for our services",
    "kind.extra_service": "an extra service",
    "kind.discount": "a discount",
    "Kind.service_credit": "Credit for our services",
    "Kind.extra_service": "Extra service",
    "Kind.discount": "Discount",
    # What happens next, and by when.
    "next": "What happens next",
    "next.first_answer": "A person answers you by {due}.",
    "next.first_answer.late": "A person should have answered you by {due}. We are late, and we are sorry.",
    "next.next_update": "You hear from us by {due}.",
    "next.next_update.late": "You should have heard from us by {due}. We are late, and we are sorry.",
    "next.waiting": "As soon as we have your answer, we go on. The time that we have given ourselves stands still"
    " until then.",
    "next.consultation": "We speak with each other on {starts}.",
    "next.settled": "If this settles it, you need not do anything. If it does not, write to us below.",
    "next.closed": "Nothing more, unless you write to us. Until {until} your case can be taken up again.",
    "next.ended": "Nothing more. If something has come up since, write to us by mail: that becomes a new case.",
    # What is expected of them.
    "needs": "What we need from you",
    "needs.nothing": "Nothing at the moment. You can write to us whenever you like.",
    "needs.answer": "Please answer our message of {asked}.",
    "needs.offer": "Please tell us by the end of {until} whether you accept this offer:",
    "needs.offer.over": "If you still want what we offered, write to us below.",
    "needs.nothing.ended": "Nothing.",
    "needs.slots": "Please pick a time for a consultation of {minutes} minutes, {channel}:",
    "needs.slots.none": "We had proposed times for a consultation, and none of them is free any more. Write to us below"
    " which times would suit you.",
    "to_answer": "Go to the answer",
    # Messages.
    "messages": "Messages",
    "messages.earlier": "Earlier messages: {count}",
    "message.you": "You",
    "message.you.noted": "You, as we noted it",
    "message.us": "{organisation}",
    "message.us.automatic": "{organisation}, automatically",
    "message.accepted": "You accepted our offer.",
    "message.declined": "You declined our offer.",
    "message.files": "Files that came with it: {count}",
    "message.erased": "This text was erased.",
    "message.bounced": "This message came back to us: your mailbox did not take it.",
    # The answer.
    "answer": "Write to us",
    "answer.label": "Your message",
    "answer.hint": "At most {limit} characters.",
    "answer.send": "Send message",
    "answer.empty": "Please write something first.",
    "answer.long": "Please write at most {limit} characters; these are {count}.",
    "answer.again": "This form was sent before with another text, which is kept. Send it again to add this one.",
    "answer.ended": "This case was closed for good. If something has come up since, write to us by mail.",
    "answer.away": "Your text could not be kept just now. It is still here: please send it again in a moment.",
    "answer.unknown": "We do not know whether your text was kept. Look at the messages above before you send it again.",
    "answer.often": "You have sent very much in a short time. Your text is still here: please send it again in"
    " {seconds} seconds.",
    # An offer: taken or not, in two steps.
    "offer.accept": "Accept the offer",
    "offer.decline": "Decline the offer",
    "offer.sure.accept": "Accept this offer?",
    "offer.sure.decline": "Decline this offer?",
    "offer.text": "Our offer of {at}",
    "offer.once": "You can answer it once. We record your answer with the time, and you get a receipt.",
    "offer.words": "Is there anything you want to add?",
    "offer.words.hint": "You can leave this empty. At most {limit} characters.",
    "offer.yes.accept": "Yes, accept the offer",
    "offer.yes.decline": "Yes, decline the offer",
    "offer.no": "No, go back",
    "offer.gone": "This offer can no longer be answered here: it was answered already, its time is over, or another one"
    " has taken its place. Please look at where your case stands.",
    # A time for a consultation: picked in two steps.
    "slots.pick": "Pick this time",
    "slots.pick.which": "Pick {when}",
    "slots.taken": "not free any more",
    "slots.others": "If none of them suits you, write to us below.",
    "slots.sure": "Book this time?",
    "slots.when": "When",
    "slots.long": "How long",
    "slots.minutes": "{minutes} minutes",
    "slots.channel": "How",
    "slots.once": "We record your choice with the time, and you get a receipt.",
    "slots.yes": "Yes, book this time",
    "slots.no": "No, go back",
    "slots.gone": "This time is not to be had any more: somebody was faster, it has passed, or other times were"
    " proposed. Please look at what is left.",
    # The receipt.
    "receipt": "Receipt",
    "receipt.message": "We have recorded your message.",
    "receipt.accepted": "We have recorded that you accept our offer.",
    "receipt.declined": "We have recorded that you decline our offer.",
    "receipt.picked": "We have booked the time that you picked.",
    "receipt.consultation": "Consultation",
    "receipt.appointment": "{starts}, {minutes} minutes, {channel}",
    "receipt.case": "Case",
    "receipt.at": "Recorded on",
    "receipt.entry": "Entry",
    "receipt.proof": "Fingerprint",
    "receipt.offer": "The offer",
    "receipt.text": "What you wrote",
    "receipt.explained": "The fingerprint belongs to this entry alone: nobody can change what was recorded without"
    " changing it. Print this page or write the fingerprint down, and you can ask for the entry at any time.",
    # The rules.
    "rules": "The rules that apply",
    "rules.explained": "These are the clauses of our published rules that cases like yours are decided by"
    " (version {version}).",
    "rules.window": "Here that means {days} days.",
    "rules.decided": "Your refund rests on this clause.",
    # What else can happen.
    "gone.title": "This link does not lead anywhere",
    "gone": "It may have run out, it may have been replaced by another one, or it was not copied whole.",
    "gone.do": "Write to us, and we will send you a new one:",
    "often.title": "Too many tries",
    "often": "This page was asked for too often. Please try again in {seconds} seconds.",
    "plain.title": "Open this link with https://",
    "plain": "The address began with http://, so that others could read along. Put https:// in its place.",
    "elsewhere.title": "This form is too old",
    "elsewhere": "It did not come from your page as it is now. Open your link again; nothing was sent.",
    "large.title": "This was too much at once",
    "large": "Please send a shorter text. Nothing was sent.",
    "unfit.title": "There is something in your text that cannot be kept",
    "unfit": "Please go back and remove unusual characters that you have not typed yourself. Nothing was sent.",
    "away.title": "This does not work just now",
    "away": "Please try again in a moment. Nothing was sent.",
    "bug.title": "Something went wrong on our side",
    "bug": "It has been recorded and we will look into it. Please try again later, or write to us:",
    "request": "Request {id}",
}


class Words:
    """One language: texts by key, amounts, and dates in the desk's time zone."""

    def __init__(self, texts: dict[str, str], timezone: str) -> None:
        self.texts = texts
        self.timezone = timezone
        self.zone = zone(timezone)

    def __call__(self, key: str, **facts: object) -> str:
        return self.texts[key].format(**facts) if facts else self.texts[key]

    def money(self, amount: Money) -> str:
        """`1,180.00 EUR`."""
        whole, point, fraction = amount.decimal_text().partition(".")
        return f"{int(whole):,}{point}{fraction} {amount.currency}"

    def day(self, when: datetime | date) -> str:
        """`5 March 2026`."""
        local = when.astimezone(self.zone).date() if isinstance(when, datetime) else when
        return f"{local.day} {MONTHS[local.month - 1]} {local.year}"

    def moment(self, when: datetime) -> str:
        """`5 March 2026, 14:00 (Europe/Kyiv)`."""
        return f"{self.day(when)}, {when.astimezone(self.zone):%H:%M} ({self.timezone})"
