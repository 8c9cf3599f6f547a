"""The pages: forms and lists for people, over the same commands and queries as the API."""

from api.pages import (
    account,
    admin,
    approvals,
    audit_desk,
    board,
    bulk,
    calendar,
    case,
    client,
    deliveries,
    insights,
    live,
    oidc,
    queue,
    replaying,
    sign_in,
    webhooks,
)

# The case page answers whatever lies one step below it, so what is more special comes first.
PAGES = (
    sign_in.pages,
    oidc.pages,
    account.pages,
    queue.pages,
    bulk.pages,
    board.pages,
    approvals.pages,
    client.pages,
    deliveries.pages,
    calendar.pages,
    insights.pages,
    audit_desk.pages,
    replaying.pages,
    admin.pages,
    webhooks.pages,
    live.pages,
    case.pages,
)
