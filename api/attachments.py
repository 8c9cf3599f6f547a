"""Evidence files over HTTP: taken in whole, kept under random keys, and never shown inside a page of ours."""

import uuid
from collections.abc import AsyncGenerator
from urllib.parse import quote

import msgspec
from fastapi import APIRouter
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.responses import Response

from api import inputs as i
from api import views as v
from api.cases import HEADERS, READ, READ_ERRORS, WRITTEN, headers_of, history_of
from api.errors import HttpProblem
from api.mail_parsing import ATTACHMENT_TYPES, EXECUTABLE, safe_file_name
from api.routing import Answer, Call, DeskRoute, ReadCall, Rules, WriteCall, read_stream, reads, ruled
from storage import cases
from workflow import commands as c
from workflow.cases import NewAttachment
from workflow.deciding import COMMAND_ROLES
from workflow.errors import NotFound, bad_field
from workflow.roles import READERS

router = APIRouter(prefix="/v1/cases", tags=["attachments"], route_class=DeskRoute)

FORM = "multipart/form-data"
FORM_OVERHEAD_BYTES = 10_000

# By extension; a name without one says nothing bad.
TYPES = ATTACHMENT_TYPES | {"bin"}

UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {
            FORM: {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            }
        },
    }
}


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    content_type: str
    content: bytes


@router.post(
    "/{case_id}/attachments",
    status_code=201,
    response_model=v.AttachmentView,
    responses={201: {"headers": HEADERS}, **WRITTEN},
    openapi_extra=UPLOAD,
)
@ruled(Rules(roles=COMMAND_ROLES[c.AddAttachment], command=c.AddAttachment))
async def add_attachment(call: WriteCall, case_id: str) -> Response:
    """An evidence file, as the field `file` of a form."""
    upload = await read_upload(call)
    attachment = NewAttachment(
        id=str(uuid.uuid4()), name=upload.name, content_type=upload.content_type, content=upload.content
    )
    receipt = await call.desk.submit(call, c.AddAttachment(attachment=attachment), case_id)
    view = v.attachments_of(receipt.events, receipt.texts)[0]
    return Answer(view, 201, headers_of(receipt))


@router.get("/{case_id}/attachments", response_model=list[v.AttachmentView], responses=READ)
@reads(READERS)
async def list_attachments(call: ReadCall, case_id: str) -> Response:
    """What was handed in, oldest first."""
    history, texts, version = await history_of(call, case_id)
    await call.desk.record_read(call, case_id, version, "attachments")
    return Answer(v.attachments_of([one for one, _ in history], texts), headers={"etag": f'"{version}"'})


@router.get(
    "/{case_id}/attachments/{attachment_id}",
    response_class=Response,
    responses={200: READ[200] | {"content": {"application/octet-stream": {}}}, **READ_ERRORS},
)
@reads(READERS)
async def read_attachment(call: ReadCall, case_id: str, attachment_id: str) -> Response:
    """The file itself, to be saved: nothing that a stranger sent is ever opened in our name."""
    history, texts, version = await history_of(call, case_id)
    known = {one["id"]: one for one in v.attachments_of([one for one, _ in history], texts)}
    content = await cases.attachment(call.desk.database, case_id, attachment_id) if attachment_id in known else None
    if content is None:
        raise NotFound("attachment")
    await call.desk.record_read(call, case_id, version, "attachment")
    headers = {
        "etag": f'"{version}"',
        "content-disposition": f"attachment; filename*=UTF-8''{quote(known[attachment_id]['name'], safe='')}",
        "content-security-policy": "sandbox; default-src 'none'",
        "x-content-type-options": "nosniff",
        "cache-control": "no-store",
    }
    return Response(content, headers=headers, media_type="application/octet-stream")


async def read_upload(call: Call) -> Upload:
    """The field `file` of the form. Raises HttpProblem or BadInput naming it."""
    request = call.request
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        raise HttpProblem(415, "unsupported_media_type", f"send the file as {FORM}", {"accept": FORM})
    limit = call.desk.settings.max_attachment_bytes
    _, file = await read_parts(request, limit)
    upload = as_evidence(file, limit)
    # Not of the form: that has another boundary each time.
    call.take_key(msgspec.json.encode((upload.name, upload.content_type)) + upload.content)
    return upload


def as_evidence(file: Upload | None, limit: int) -> Upload:
    """The file, under a name that is safe to keep. Raises HttpProblem or BadInput."""
    if file is None:
        raise bad_field("file", "is missing")
    if len(file.content) > limit:
        raise HttpProblem(413, "too_large", f"at most {limit} bytes")
    name = safe_file_name(file.name) or "attachment"
    _, dot, extension = name.rpartition(".")
    if (dot and extension.lower() not in TYPES) or EXECUTABLE.match(file.content):
        raise bad_field("file", "is of a type that is not kept as evidence")
    return msgspec.structs.replace(file, name=name)


async def read_parts(request: Request, limit: int, *, fields: int = 0) -> tuple[FormData, Upload | None]:
    """A form of so many fields and one file of so many bytes: its texts, and `file`. Raises HttpProblem or BadInput."""
    raw = await read_stream(request, limit + FORM_OVERHEAD_BYTES)

    async def whole() -> AsyncGenerator[bytes, None]:
        yield raw

    boundary = parse_options_header(request.headers["content-type"])[1].get(b"boundary", b"")
    if not boundary or b"--" + boundary + b"--" not in raw:
        raise bad_field("file", "the form is damaged")  # the parser would leave half a file open
    headers = Headers({"content-type": f'{FORM}; boundary="{boundary.decode("latin-1")}"'})
    try:
        form = await MultiPartParser(headers, whole(), max_files=1, max_fields=fields, max_part_size=limit).parse()
    except (MultiPartException, ValueError, KeyError) as broken:
        raise bad_field("file", "the form holds something else than one file, or is damaged") from broken
    try:
        texts = FormData([(name, value) for name, value in form.multi_items() if isinstance(value, str)])
        file = form.get("file")
        return texts, await upload_of(file) if isinstance(file, UploadFile) else None
    finally:
        await form.close()


async def upload_of(file: UploadFile) -> Upload:
    kind = file.content_type or ""
    return Upload(
        name=file.filename or "",
        content_type=kind if i.KIND.fullmatch(kind) else "application/octet-stream",
        content=await file.read(),
    )
