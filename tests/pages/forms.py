"""Forms sent by hand: as a browser would send them, or as none ever would."""

import secrets
from typing import Any

from httpx2 import Response

from tests.api.driving import Service
from tests.pages.browsing import sign_in

HERE = "http://127.0.0.1"


async def get(service: Service, path: str, who: str = "ana") -> Response:
    return await service.client.get(f"{HERE}{path}", headers={"cookie": f"casework={await sign_in(service, who)}"})


async def post(service: Service, path: str, who: str = "ana", **form: Any) -> Response:
    """With the mark of the session, and a key of its own unless one is given."""
    account = (await get(service, "/account", who)).text
    csrf = account.partition('name="csrf" value="')[2].partition('"')[0]
    headers = {"cookie": f"casework={await sign_in(service, who)}", "sec-fetch-site": "same-origin"}
    sent = {"csrf": csrf, "key": secrets.token_hex(16)} | form
    return await service.client.post(f"{HERE}{path}", data=sent, headers=headers)
