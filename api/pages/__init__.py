"""The pages: forms and lists for people, over the same commands and queries as the API."""

from api.pages import case, client, queue, sign_in

PAGES = (sign_in.pages, queue.pages, case.pages, client.pages)
