"""Pages go out compressed, in a way that their length tells nobody what is on them."""

import gzip
import io
import secrets

from starlette.requests import Request
from starlette.responses import Response

LEVEL = 5
WORTH_IT = 1000  # bytes
MOST_PADDING = 100  # bytes
KINDS = ("text/", "application/json", "image/svg+xml")


def takes_gzip(request: Request) -> bool:
    """By Accept-Encoding (RFC 9110 §12.5.3)."""
    for one in request.headers.get("accept-encoding", "").split(","):
        name, _, weight = one.strip().lower().partition(";")
        if name.strip() == "gzip":
            return weight.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False


def pack(response: Response, request: Request) -> Response:
    """The same response, compressed if that is worth it and asked for; what is no whole body is left as it is."""
    body = getattr(response, "body", b"")
    kind = response.headers.get("content-type", "")
    if len(body) < WORTH_IT or not kind.startswith(KINDS) or "content-encoding" in response.headers:
        return response
    if takes_gzip(request):
        response.body = padded_gzip(bytes(body))
        response.headers["content-encoding"] = "gzip"
        response.headers["content-length"] = str(len(response.body))
    return response


def padded_gzip(content: bytes) -> bytes:
    """With up to 100 random bytes in the place of a file name, which every reader of gzip passes over.

    Whoever makes others load pages with words of their own choice, and sees how long the answers are on the wire, could
    otherwise guess what else is on them, letter by letter (BREACH; ieeexplore.ieee.org/document/9754554).
    """
    packed = io.BytesIO()
    padding = secrets.token_hex(MOST_PADDING // 2)[: secrets.randbelow(MOST_PADDING) + 1]
    with gzip.GzipFile(filename=padding, mode="wb", compresslevel=LEVEL, fileobj=packed, mtime=0) as file:
        file.write(content)
    return packed.getvalue()
