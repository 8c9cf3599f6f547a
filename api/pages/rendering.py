"""Templates and static files: read at start, filled in with everything escaped, served from here alone."""

import gzip
import hashlib
import mimetypes
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import Response

from api.pages import showing, telling
from diagrams.svg import STYLE

HERE = Path(__file__).parent
YEAR_SECONDS = 365 * 24 * 3600

# Nothing from elsewhere, nothing inline: what a client wrote can be shown, and can do nothing.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self';"
    " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {"content-security-policy": POLICY, "cache-control": "no-store", "vary": "Cookie, Accept-Encoding"}


class Static:
    """Files under names that change with their content, so that browsers may keep them for good."""

    def __init__(self, folder: Path, **made: str) -> None:
        """`made` are style sheets that are no files: by their names, without `.css`."""
        self.content = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix != ".md"}
        self.content |= {f"{name}.css": content.encode() for name, content in made.items()}
        self.packed = {name: gzip.compress(content, mtime=0) for name, content in self.content.items()}
        self.digest = hashlib.sha256(b"".join(self.content.values())).hexdigest()[:16]

    def url(self, name: str) -> str:
        if name not in self.content:
            raise LookupError(f"there is no static file {name}")
        return f"/static/{self.digest}/{name}"

    def response(self, name: str, *, packed: bool = False) -> Response | None:
        """`packed` as gzip, for whoever takes that."""
        content = self.content.get(name)
        if content is None:
            return None
        headers = {"cache-control": f"public, max-age={YEAR_SECONDS}, immutable", "vary": "Accept-Encoding"}
        if packed:
            content = self.packed[name]
            headers["content-encoding"] = "gzip"
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return Response(content, media_type=kind, headers=headers)


STATIC = Static(HERE / "static", diagrams=STYLE)


def environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["static"] = STATIC.url
    made.filters |= showing.FILTERS | telling.FILTERS
    return made


TEMPLATES = environment()


def page(template: str, status: int = 200, headers: dict[str, str] | None = None, **facts: Any) -> Response:
    """A whole page. `facts` are what the template asks for; one that is missing is an error."""
    content = TEMPLATES.get_template(template).render(facts)
    return Response(content, status, HEADERS | (headers or {}), "text/html; charset=utf-8")
