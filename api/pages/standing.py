"""The case as it stood after an event, line by line, with what is new against an earlier moment."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import msgspec

from api import views as v
from api.pages.showing import money, words
from api.pages.telling import Names, isolated, joined, minute, person, who


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """`key` names the line in every version. `text` is what somebody wrote, shown as such.

    `mark` is `new`, `changed` (from what it `was`), `gone` or nothing.
    """

    key: str
    label: str
    value: str
    text: str = ""
    state: str = ""
    mark: str = ""
    was: str = ""


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """`otherwise` says what there is to say of one without lines."""

    title: str
    lines: tuple[Line, ...]
    otherwise: str = ""


def sections(case: v.CaseView, names: Names) -> tuple[Section, ...]:
    """As `case_view` shows the case at a moment that is its own."""
    money_lines = tuple(money_of(case["purchase"])) if case["purchase"] else ()
    return (
        Section(title="The case", lines=tuple(state_of(case, names))),
        Section(title="Money", lines=money_lines, otherwise="No purchase has been linked."),
        Section(title="Claims", lines=tuple(of_each(ground, case["grounds"], names)), otherwise="None."),
        Section(title="Proposals", lines=tuple(of_each(proposal, case["proposals"], names)), otherwise="None."),
        Section(title="Remedies", lines=tuple(remedy(one, names) for one in case["remedies"]), otherwise="None."),
        Section(title="Deadlines", lines=tuple(map(deadline, case["deadlines"])), otherwise="Nothing is due."),
        Section(title="What it belongs to", lines=tuple(around(case))),
    )


def of_each(tell: Callable[[Any, Names], Iterator[Line]], parts: Sequence[Any], names: Names) -> Iterator[Line]:
    return chain.from_iterable(tell(one, names) for one in parts)


def state_of(case: v.CaseView, names: Names) -> Iterator[Line]:
    yield Line(key="state", label="State", value=words(case["state"]), state=case["state"])
    if case["resolution"]:
        yield Line(key="resolution", label="Closed as", value=words(case["resolution"]))
    owner = person(case["assignee"], names) if case["assignee"] else "nobody"
    yield Line(key="owner", label="Owner", value=owner)
    waiting = f"since {minute(case['waiting_since'])}" if case["waiting_since"] else "no"
    yield Line(key="waiting", label="Waiting for the client", value=waiting)
    yield Line(key="answered", label="Client answered", value="yes" if case["answered"] else "not yet")
    yield Line(key="category", label="About", value=words(case["category"]))
    yield Line(key="requested", label="Request made", value=minute(case["received_at"]))
    yield Line(key="client", label="Client", value="", text=f"{case['client']['name']} <{case['client']['email']}>")
    others = [one for one in case["participants"] if one != case["client"]["email"]]
    if others:
        yield Line(key="participants", label="Also from", value="", text=", ".join(others))


def money_of(purchase: v.PurchaseView) -> Iterator[Line]:
    what = f"{isolated(purchase['reference'])}, {isolated(purchase['package'])}"
    yield Line(key="purchase", label="Purchase", value=f"{what}, on {minute(purchase['purchased_at'])}")
    yield Line(key="paid", label="Paid", value=money(purchase["paid"]))
    yield Line(key="refunded", label="Refunded", value=money(purchase["refunded"]))
    yield Line(key="reserved", label="Reserved", value=money(purchase["reserved"]))
    yield Line(key="left", label="Left", value=money(purchase["left"]))
    yield Line(key="checked", label="Checked against the books", value="yes" if purchase["checked"] else "no")
    started, provided = purchase["service_started_at"], purchase["deliverables_provided_at"]
    yield Line(key="started", label="Service started", value=minute(started) if started else "not yet")
    yield Line(key="provided", label="Delivered", value=minute(provided) if provided else "not yet")


def ground(one: v.GroundView, names: Names) -> Iterator[Line]:
    key = one["id"]
    yield Line(key=key, label=f"{key} {words(one['kind'])}", value=money(one["affected"]), text=one["statement"])
    found = "not looked into yet"
    if one["verified_by"]:
        found = f"{'is so' if one['verified'] else 'is not so'}, says {who(one['verified_by'], names)}"
    yield Line(key=f"{key} found", label="found", value=found, text=one["evidence"] or "")
    if not is_nothing(one["refunded"]):
        yield Line(key=f"{key} refunded", label="went back on it", value=money(one["refunded"]))


def proposal(one: v.ProposalView, names: Names) -> Iterator[Line]:
    key, by = one["id"], who(one["proposed_by"], names)
    what = words(one["kind"] or one["remedy"])
    yield Line(key=key, label=f"{key} {what}", value=f"{money(one['amount'])}, by {by}", text=one["reason"])
    yield Line(key=f"{key} status", label="stands at", value=words(one["status"]))
    if one["approvals"] or one["approvals_needed"]:
        given = [who(each["by"], names) for each in one["approvals"]]
        missing = [f"{one['approvals_needed']} missing"] if one["approvals_needed"] else []
        yield Line(key=f"{key} approved", label="approved by", value=joined(given + missing))
    if one["payment_reference"]:
        yield Line(key=f"{key} payment", label="paid as", value=isolated(one["payment_reference"]))


def remedy(one: v.RemedyView, names: Names) -> Line:
    told = [f"on {minute(one['at'])}"]
    if one["starts_at"] is not None:
        told = [f"{minute(one['starts_at'])}, {one['minutes']} minutes with {person(one['host'] or '', names)}"]
    if one["answer_by"]:
        told.append(f"to be answered by {one['answer_by']}")
    if one["proposal"]:
        told.append(f"after {one['proposal']}")
    if one["accepted"] is not None:
        told.append("the client accepted it" if one["accepted"] else "the client declined it")
    if one["ended"]:
        told.append(f"ended: {words(one['ended'])}")
    return Line(
        key=f"{one['kind']} {one['at'].isoformat()}",
        label=words(one["kind"]).capitalize(),
        value="; ".join(told),
        text=one["description"] or one["channel"] or "",
    )


def deadline(one: v.DeadlineView) -> Line:
    state = ", stands still while the client is waited for" if one["paused"] else ", late" if one["overdue"] else ""
    return Line(key=one["kind"], label=words(one["kind"]).capitalize(), value=f"{minute(one['due_at'])}{state}")


def around(case: v.CaseView) -> Iterator[Line]:
    for one in case["links"]:
        yield Line(key=f"link {one['case']}", label=f"{words(one['kind']).capitalize()} case", value=one["case"])
    if case["follows"]:
        yield Line(key="follows", label="Follows the case", value=case["follows"])
    if case["unverified_of"]:
        yield Line(key="unverified", label="Sender referred to", value=case["unverified_of"])
    for link in case["client_links"]:
        yield Line(key=f"by {link['id']}", label="Client's link", value=f"good until {minute(link['expires_at'])}")
    if case["hold"] is not None:
        yield Line(key="hold", label="Legal hold", value="nothing may be erased", text=case["hold"])
    if case["erasure"] is not None:
        due = case["erasure"]["due_at"]
        yield Line(key="erasure", label="To be erased", value=minute(due) if due else "once it has been closed")


def is_nothing(amount: v.MoneyView) -> bool:
    return not amount["amount"].strip("0.")


# Against an earlier moment.


def marked(before: Sequence[Section], after: Sequence[Section]) -> tuple[Section, ...]:
    """The later ones, each line with what became of it; lines that are gone stand at the end of their section."""
    return tuple(
        msgspec.structs.replace(later, lines=tuple(marked_lines(by_key(earlier.lines), by_key(later.lines))))
        for earlier, later in zip(before, after, strict=True)
    )


def by_key(lines: Sequence[Line]) -> Mapping[str, Line]:
    return {one.key: one for one in lines}


def marked_lines(before: Mapping[str, Line], after: Mapping[str, Line]) -> Iterator[Line]:
    for key, line in after.items():
        earlier = before.get(key)
        if earlier is None:
            yield msgspec.structs.replace(line, mark="new")
        elif earlier == line:
            yield line
        else:
            was = earlier.value if earlier.value != line.value else earlier.text
            yield msgspec.structs.replace(line, mark="changed", was=was)
    for key, line in before.items():
        if key not in after:
            yield msgspec.structs.replace(line, mark="gone")
