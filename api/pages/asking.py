"""Which cases a page is asked for: what stands behind the question mark of its address, and nothing else."""

from collections.abc import Mapping
from datetime import datetime, time, timedelta, tzinfo
from typing import Any
from urllib.parse import parse_qsl, urlencode

import msgspec
from msgspec.structs import replace

from api.pages.showing import words
from storage.cases import Filter, Sort
from workflow.policy import Category
from workflow.states import CaseState

ME, NOBODY = "me", "none"  # instead of a person's id
PAGE_ROWS = 50
MOST_CHARACTERS = 500  # of what is searched for
DAY = timedelta(days=1)

TABS: dict[str, tuple[str, Filter]] = {
    "mine": ("Mine", Filter(ended=False)),  # the assignee is whoever looks
    "unassigned": ("Unassigned", Filter(assignee="", ended=False)),
    "us": ("Waiting for us", Filter(waiting=False, ended=False)),
    "client": ("Waiting for the client", Filter(waiting=True, ended=False)),
    "overdue": ("Overdue", Filter(overdue=True)),
    "open": ("Open", Filter(ended=False)),
    "mail": ("Closed, new mail", Filter(mail_after_closing=True)),
    "all": ("All", Filter()),
}
OF_SOMEBODY = frozenset({"mine", "unassigned"})

STATES = {state.value: words(state) for state in CaseState}
CATEGORIES = {category.value: words(category) for category in Category}
DUE = {"overdue": "overdue", "today": "today", "week": "this week", "none": "none"}
SORTS: dict[str, tuple[str, Sort]] = {
    "deadline": ("next deadline first", Sort.DEADLINE),
    "newest": ("newest first", Sort.NEWEST),
    "oldest": ("oldest first", Sort.OLDEST),
    "changed": ("last changed first", Sort.CHANGED),
}


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """By the names that the address has for it; empty where nothing is asked."""

    tab: str = ""
    state: str = ""
    category: str = ""
    owner: str = ""  # an id, ME or NOBODY
    due: str = ""
    q: str = ""
    sort: str = ""
    cursor: str = ""

    @classmethod
    def of(cls, given: Mapping[str, Any], default_tab: str = "all") -> "Asked":
        """What makes no sense is not asked. Whoever searches does so among all cases."""
        q = " ".join(str(given.get("q", "")).replace("\x00", "").split())[:MOST_CHARACTERS]
        owner = str(given.get("owner", "")).replace("\x00", "")[:MOST_CHARACTERS]
        asked = cls(
            tab=chosen(given, "tab", TABS) or ("all" if q else default_tab),
            state=chosen(given, "state", STATES),
            category=chosen(given, "category", CATEGORIES),
            owner=owner,
            due=chosen(given, "due", DUE),
            q=q,
            sort=chosen(given, "sort", SORTS),
            cursor=str(given.get("cursor", "")),
        )
        return replace(asked, owner="") if asked.tab in OF_SOMEBODY else asked

    @classmethod
    def read(cls, query: str) -> "Asked":
        """As `query` has written it."""
        return cls.of(dict(parse_qsl(query)) if len(query) < MOST_CHARACTERS * 4 else {})

    def query(self, **changes: str) -> str:
        """What comes behind the question mark. Whatever is asked anew begins with the first page."""
        asked = replace(self, **({"cursor": ""} | changes))
        return urlencode({name: value for name, value in msgspec.structs.asdict(asked).items() if value})

    def url(self, path: str = "/queue", **changes: str) -> str:
        query = self.query(**({"tab": self.tab if path == "/queue" else ""} | changes))
        return f"{path}?{query}" if query else path

    @property
    def is_narrowed(self) -> bool:
        return bool(self.state or self.category or self.owner or self.due or self.q)

    @property
    def order(self) -> Sort:
        return SORTS[self.sort or "deadline"][1]

    def filter(self, me: str, now: datetime, zone: tzinfo) -> Filter:
        wanted = of_tab(self.tab, me)
        changes: dict[str, Any] = {}
        if self.state:
            changes["state"] = CaseState(self.state)
        if self.category:
            changes["category"] = Category(self.category)
        if self.owner:
            changes["assignee"] = {ME: me, NOBODY: ""}.get(self.owner, self.owner)
        if self.q:
            changes["q"] = self.q
        return replace(wanted, **changes, **due_within(self.due, now, zone))


def chosen(given: Mapping[str, Any], name: str, possible: Mapping[str, Any]) -> str:
    value = str(given.get(name, ""))
    return value if value in possible else ""


def of_tab(name: str, me: str) -> Filter:
    _, wanted = TABS[name]
    return replace(wanted, assignee=me) if name == "mine" else wanted


def due_within(due: str, now: datetime, zone: tzinfo) -> dict[str, Any]:
    """Days and weeks are those of the desk's calendar, and a week begins with Monday."""
    today = datetime.combine(now.astimezone(zone).date(), time.min)
    match due:
        case "overdue":
            return {"overdue": True}
        case "none":
            return {"has_deadline": False}
        case "today":
            first, days = today, 1
        case "week":
            first, days = today - today.weekday() * DAY, 7
        case _:
            return {}
    return {"due_from": first.replace(tzinfo=zone), "due_until": (first + days * DAY).replace(tzinfo=zone)}
