"""The pages: forms and lists for people, over the same commands and queries as the API."""

from api.pages import audit_desk, board, bulk, case, client, insights, live, queue, replaying, sign_in

# The case page answers whatever lies one step below it, so what is more special comes first.
PAGES = (
    sign_in.pages,
    queue.pages,
    bulk.pages,
    board.pages,
    client.pages,
    insights.pages,
    audit_desk.pages,
    replaying.pages,
    live.pages,
    case.pages,
)
