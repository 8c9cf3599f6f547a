"""What the case page shows of a case to one reader."""

import secrets
from collections.abc import Mapping
from typing import Any

import msgspec
from markupsafe import Markup

from api import views as v
from api.cases import ALLOWED_TRIGGER_ROLES
from api.letters.languages import languages
from api.pages.case_actions import ACTIONS, CASE, CONSULTATION, CONVERSATION, FACTS, KINDS, TRANSITIONS, Action
from api.pages.case_forms import NOT_ENDED, CaseForms, Form, Returned, Standing, Why, concerns
from api.pages.forms import text_in
from api.pages.history import Told
from api.pages.routing import PageCall
from api.pages.showing import words
from api.pages.telling import sum_of
from diagrams.path import path_diagram
from diagrams.svg import as_svg
from workflow import commands as c
from workflow import events as e
from workflow.cases import case_number_text
from workflow.errors import Refused
from workflow.permissions import permissions
from workflow.policy import Decision, ReasonCode, Refund, approvals_needed
from workflow.roles import LINKERS, WORKERS
from workflow.states import MailKind, ProposalStatus

SHOWN_ENTRIES = 40  # of a conversation, unless all of it is asked for
SHOWN_EVENTS = 60
SHOWN_CHARACTERS = 2_500  # of one message before the rest is folded away
MOST_CHARACTERS = 20_000  # of one message, unless all of it is asked for
SHORT_DIGEST = 12
SPEAKS_FOR_A_REFUND = frozenset({ReasonCode.BEFORE_DELIVERY, ReasonCode.GROUND_VERIFIED})
OF_ANOTHER_STAGE = frozenset(
    {
        "payout_is_under_way",
        "refund_was_paid",
        "case_stands_without_it",
        "proposal_is_open",
        "proposal_is_of_this_remedy",
    }
)
SAID = frozenset({e.Opened, e.MessageReceived, e.MessageSent, e.OfferAnswered, e.NoteAdded})


class NotNow(msgspec.Struct, frozen=True, kw_only=True):
    """What cannot be done now, and why."""

    titles: tuple[str, ...]
    whys: tuple[Why, ...]

    @property
    def needs_another_state(self) -> bool:
        """And nothing else."""
        return len(self.whys) == 1 and bool(self.whys[0].sources)


class CasePage(CaseForms):
    """One case, one reader, one moment."""

    def __init__(self, call: PageCall, found: Standing, left: Returned | None) -> None:
        super().__init__(call, found, left)
        self.most_bytes = call.desk.settings.max_attachment_bytes
        self.whole = "whole" in self.asked
        self.settings = found.context.settings_now(found.now)
        self.permissions = permissions(found.case, self.actor, found.now, found.context)

    def facts(self) -> dict[str, Any]:
        return {
            "case": self.view,
            "names": self.found.names,
            "now": self.now,
            "zone": self.found.zone,
            "whole": self.whole,
            "most_bytes": self.most_bytes,
            "reader": self.actor.id,
            "person": self.history.person,
            "returned": self.returned(),
            "done": self.done(),
            "next": self.next_steps(),
            "entries": self.entries(),
            "compose": [form for one in CONVERSATION if (form := self.compose_form(one)) is not None],
            "letters": self.letters_to_draft(),
            "files": self.files(),
            "policy": self.policy(),
            "money_bar": self.money_bar(),
            "forms": {one.name: self.form(one, **self.filled(one)) for one in (*FACTS, *CASE) if one.name != "verify"},
            "checked": self.checked(),
            "grounds": [self.ground(one) for one in self.view["grounds"]],
            "proposals": [self.proposal(one) for one in self.view["proposals"]],
            "neighbours": self.neighbours(),
            "may_link": self.actor.may(LINKERS),
            "link_key": secrets.token_hex(16),
            "path": self.path(),
            "history": self.history.told if self.whole else self.history.told[-SHOWN_EVENTS:],
            "earlier": 0 if self.whole else max(0, len(self.history.told) - SHOWN_EVENTS),
        }

    # What has just happened, or has not.

    def done(self) -> list[Told] | None:
        """What the form that led here has changed; empty if it was so already."""
        seq = self.asked.get("done", "")
        if not seq.isdecimal() or self.left is not None:
            return None
        first = next((one for one in self.history.told if str(one.seq) == seq), None)
        return [one for one in self.history.told if first is not None and one.request == first.request]

    def returned(self) -> dict[str, Any] | None:
        """The form that was not carried out: with what was typed, the reasons, and what happened since it was shown."""
        left, problem = self.left, self.problem
        if left is None or problem is None:
            return None
        refusals = left.failure.refusals if isinstance(left.failure, Refused) else ()
        form = self.form(left.action, left.part, refused=(), **self.filled(left.action))
        named = {field.field.name for field in form.fields} if form else set()
        seen = text_in(left.form, "version")
        is_moved = left.action.moving and seen.isdecimal() and int(seen) < self.case.version
        return {
            "problem": problem,
            "form": form,
            "whys": self.whys(refusals),
            "errors": [one for one in problem.get("errors", []) if not any(concerns(name, one) for name in named)],
            "since": [one for one in self.history.told if one.seq > int(seen)] if is_moved else [],
        }

    # What can be done next.

    def next_steps(self) -> dict[str, Any]:
        possible: list[Form] = []
        refused: list[NotNow] = []
        for action, permission in zip(TRANSITIONS, self.permissions, strict=True):
            if not permission.allowed:
                whys = self.whys(permission.refusals, permission.trigger)
                refused.append(NotNow(titles=(action.title,), whys=whys))
            elif (form := self.form(action, refused=(), **self.filled(action))) is not None:
                possible.append(form)
        for name in (*(one.name for one in CONSULTATION), "propose-refund", "propose-compensation"):
            form = self.form(ACTIONS[name], **self.filled(ACTIONS[name]))
            if form is not None and any(one.code == "consultation_is_booked" for one in form.refused):
                continue  # nobody looks for it there
            if form is not None and form.refused:
                refused.append(NotNow(titles=(form.title,), whys=form.refused))
            elif form is not None:
                possible.append(form)
        return {
            "possible": possible,
            "refused": [one for one in refused if not one.needs_another_state],
            "elsewhere": by_states([one for one in refused if one.needs_another_state]),
            "to_approve": [one for one in self.view["proposals"] if self.actor.id in one["can_approve"]],
            "take": self.take_form(),
            "is_worker": self.actor.may(ALLOWED_TRIGGER_ROLES),
        }

    def take_form(self) -> Form | None:
        """To take the case with one click."""
        take = c.Assign(assignee=self.actor.id)
        if self.case.assignee == self.actor.id or not self.actor.may(WORKERS) or self.refusals(take):
            return None
        form = self.form(ACTIONS["assign"], refused=())
        return None if form is None or form.is_above else form

    def letters_to_draft(self) -> dict[str, Any] | None:
        """What there is to choose from; None where nothing can be drafted, or not by whoever looks."""
        if not self.letters or not self.actor.may(ACTIONS["reply"].roles):
            return None
        return {
            "kinds": [one.kind for one in self.letters],
            "languages": list(languages().values()),
            "kind": self.letter.kind if self.letter else None,
            "language": self.writing.words.language.code,
            "gone": words(asked) if (asked := self.asked.get("letter")) in KINDS and self.letter is None else None,
        }

    def compose_form(self, action: Action) -> Form | None:
        if action.name == "reply" and (letter := self.letter) is not None:
            return self.form(action, values={"text": (letter.text,)})
        if action.name != "no-answer":
            return self.form(action)
        return None if self.case.is_answered else self.form(action, f"m{self.case.client_wrote_seq}")

    # What was said.

    def entries(self) -> dict[str, Any]:
        """Letters and notes in one order; of a long conversation the beginning and the end."""
        letters = {one["id"]: one for one in v.messages_of(self.found.history, self.found.texts)}
        files: dict[str, list[v.AttachmentView]] = {}
        for file in self.files():
            files.setdefault(file["message"] or "", []).append(file)
        all_of_them = [self.entry(one, letters, files) for one in self.found.history if type(one.data) in SAID]
        if self.whole or len(all_of_them) <= SHOWN_ENTRIES:
            return {"first": [], "hidden": 0, "last": all_of_them}
        return {
            "first": all_of_them[:1],
            "hidden": len(all_of_them) - SHOWN_ENTRIES,
            "last": all_of_them[1 - SHOWN_ENTRIES :],
        }

    def entry(
        self,
        one: e.Recorded,
        letters: Mapping[str, v.MessageView],
        files: Mapping[str, list[v.AttachmentView]],
    ) -> dict[str, Any]:
        event = one.event
        letter = letters.get(f"m{event.seq}")
        said = letter["text"] if letter else self.found.texts.get(f"{event.seq}/text", v.ERASED)
        is_client = isinstance(one.data, e.Opened | e.MessageReceived | e.OfferAnswered)
        sender = self.found.texts.get(f"{event.seq}/sender", "")
        most = len(said) if self.whole else MOST_CHARACTERS
        return {
            "id": f"{'m' if letter else 'n'}{event.seq}",
            "kind": "client" if is_client else "desk" if letter else "note",
            "at": event.at,
            "who": self.client_name(sender) if is_client else self.history.who(event.actor),
            "how": self.how(one),
            "subject": (letter["subject"] or "") if letter else "",
            "accepts": letter.get("accepts") if letter else None,
            "text": said[:SHOWN_CHARACTERS],
            "rest": said[SHOWN_CHARACTERS:most],
            "cut": max(0, len(said) - most),
            "length": len(said),
            "awaits_reply": letter is not None and letter["awaits_reply"],
            "files": files.get(f"m{event.seq}", []),
            "bounced": self.history.last(e.MessageBounced, message=f"m{event.seq}", mail=MailKind.MESSAGE),
            "unacknowledged": self.history.last(
                e.MessageBounced, message=f"m{event.seq}", mail=MailKind.ACKNOWLEDGEMENT
            ),
            "waived": self.history.last(e.AnswerWaived, message=f"m{event.seq}"),
            "is_mine": event.actor == self.actor.key and not is_client,
        }

    def client_name(self, sender: str) -> str:
        """Another participant is shown by their address."""
        client = self.view["client"]
        is_other = sender and sender.lower() != client["email"].lower()
        return sender if is_other else client["name"] or client["email"]

    def how(self, one: e.Recorded) -> str:
        """By which channel, as far as the log says."""
        if isinstance(one.data, e.NoteAdded):
            return "internal note"
        if one.event.via == "mail":
            return "by mail"
        if isinstance(one.data, e.MessageSent):
            return "" if one.event.actor.startswith("person:") else "automatic"
        if one.event.actor.startswith("client:"):
            return "on their page"
        return f"by phone or letter, written down by {self.history.who(one.event.actor)}"

    def files(self) -> list[v.AttachmentView]:
        return v.attachments_of(self.found.history, self.found.texts)

    # What is so.

    def policy(self) -> dict[str, Any]:
        decision, version = self.decision, self.context.policy_for(self.case)
        return {
            "headline": headline(decision),
            "impossible": self.impossible,
            "needs": self.tier(),
            "reasons": [(one.code in SPEAKS_FOR_A_REFUND, one.text) for one in decision.reasons] if decision else [],
            "clauses": decision.clauses if decision else (),
            "texts": version.clauses,
            "version": version.version,
            "remedies": [words(one) for one in decision.remedies] if decision else [],
        }

    def tier(self) -> str:
        """Who has to agree to a refund of the whole maximum."""
        decision = self.decision
        if decision is None or decision.maximum is None or not decision.maximum.amount_minor:
            return ""
        if not decision.needs_approval:
            return "no approval is needed; somebody other than the proposer confirms the payment"
        rule = approvals_needed(decision.maximum, self.settings)
        approvals = "one approval" if rule.count == 1 else f"{rule.count} approvals"
        return f"needs {approvals} by {' or '.join(rule.roles)}"

    def money_bar(self) -> tuple[int, int] | None:
        """How much of what was paid is refunded and reserved, in thousandths."""
        bought = self.case.purchase
        if bought is None or not bought.has_moved_money:
            return None
        paid = max(1, bought.paid.amount_minor)
        return bought.refunded_minor * 1000 // paid, bought.reserved_minor * 1000 // paid

    def checked(self) -> Told | None:
        """Who has checked the purchase, if it is checked."""
        if self.case.purchase is None or not self.case.purchase.checked:
            return None
        return self.history.last(e.PurchaseChanged, change="check") or self.history.last(
            e.PurchaseChanged, change="linked"
        )

    def ground(self, one: v.GroundView) -> dict[str, Any]:
        recorded = next(told for told in self.history.told if one["id"] == f"g{told.seq}")
        examined = self.history.last(e.GroundVerified, ground=one["id"])
        form = self.form(ACTIONS["verify"], one["id"])
        return {**one, "name": words(one["kind"]), "recorded": recorded, "examined": examined, "verify": form}

    def proposal(self, one: v.ProposalView) -> dict[str, Any]:
        actions = [ACTIONS[name] for name in ("begin-payout", "fail-payout", "reverse-payment", "withdraw")]
        forms = [form for action in actions if (form := self.form(action, one["id"])) is not None]
        return {
            **one,
            "name": words(one["kind"] or one["remedy"]),
            "seq": int(one["id"][1:]),
            "short_digest": one["digest"][:SHORT_DIGEST],
            "told": self.history.about("proposal", one["id"]),
            "with_provider": self.with_provider(one),
            "able": self.people(one["can_approve"]),
            "forms": [form for form in forms if not form.refused or form.is_above],
            "refused": [form for form in forms if form.refused and one["status"] in NOT_ENDED and self.is_near(form)],
        }

    def with_provider(self, one: v.ProposalView) -> dict[str, Any] | None:
        """Since when the payment provider has a payout that is under way; it may not have been asked yet."""
        begun = self.history.last(e.PayoutBegun, proposal=one["id"])
        if not self.provider or begun is None or one["status"] != ProposalStatus.PAYING:
            return None
        return {"name": self.provider, "since": begun.at, "is_asked": self.context.provider_is_asked}

    def is_near(self, form: Form) -> bool:
        """Whether what speaks against it can change, or only ever be so."""
        return not any(one.code in OF_ANOTHER_STAGE for one in form.refused)

    def neighbours(self) -> list[dict[str, Any]]:
        case, found = self.case, []
        for one in self.found.neighbours:
            why = [words(link.kind) for link in case.links if link.case == one.id]
            why += ["this case continues it"] if case.follows == one.id else []
            why += ["the sender referred to it"] if case.unverified_of == one.id else []
            why += ["the same purchase"] if case.purchase and one.purchase == case.purchase.reference else []
            found.append({"number": case_number_text(one.number), "state": one.state, "title": one.title, "why": why})
        return found

    def path(self) -> Markup:
        """Made by ourselves from states and times alone."""
        return Markup(as_svg(path_diagram(self.found.history, self.permissions), styled=False))  # noqa: S704


def by_states(refused: list[NotNow]) -> list[NotNow]:
    """Together where the same states are needed."""
    found: dict[object, NotNow] = {}
    for one in refused:
        before = found.get(one.whys[0].sources)
        titles = (*(before.titles if before else ()), *one.titles)
        found[one.whys[0].sources] = NotNow(titles=titles, whys=one.whys)
    return list(found.values())


def headline(decision: Decision | None) -> str:
    if decision is None:
        return "The recorded facts cannot all be true"
    if decision.refund is Refund.NONE or decision.maximum is None:
        return "No refund"
    amount = sum_of(decision.maximum)
    return (
        f"Refund of up to {amount}" if decision.needs_approval else f"Refund of {amount}: the client is entitled to it"
    )
