"""Pages as scripts see them: by hand, without a browser."""

import re
from typing import Any
from urllib.parse import urlencode

from httpx2 import Response

from tests.api.driving import Service
from tests.pages.browsing import sign_in


class Visitor:
    """Somebody of STAFF with pages, but without a browser."""

    def __init__(self, service: Service, name: str) -> None:
        self.service = service
        self.name = name

    async def get(self, path: str, **query: str) -> Response:
        return await self.service.client.get(
            f"http://127.0.0.1{path}", params=query or None, headers=await self.headers()
        )

    async def post(self, path: str, form: dict[str, Any], **query: str) -> Response:
        return await self.service.client.post(
            f"http://127.0.0.1{path}",
            params=query or None,
            content=urlencode(form, doseq=True),
            headers={
                **await self.headers(),
                "content-type": "application/x-www-form-urlencoded",
                "sec-fetch-site": "same-origin",
            },
        )

    async def send(self, path: str, form: dict[str, Any], **query: str) -> Response:
        """With the mark of one's own session, as a page puts it into its forms."""
        page = await self.get("/queue")
        mark = re.search(r'name="csrf" value="(\w+)"', page.text)
        return await self.post(path, {"csrf": mark[1] if mark else "", **form}, **query)

    async def headers(self) -> dict[str, str]:
        return {"cookie": f"casework={await sign_in(self.service, self.name)}"}
