"""Evidence files over HTTP: kept byte for byte, given back to be saved, and never a way in."""

import os

import pytest
from httpx2 import Response

from tests.api.driving import Service, done, refused, wrong_fields
from tests.databases import raw_sql

on_one_database = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)

PDF = b"%PDF-1.7\n" + os.urandom(500) + b"\x00\r\n%%EOF"


async def hand_in(
    service: Service, case_id: str, name: str = "statement.pdf", content: bytes = PDF, kind: str = "application/pdf"
) -> Response:
    return await service.ana.send("POST", f"/v1/cases/{case_id}/attachments", files={"file": (name, content, kind)})


async def test_a_file_is_kept_byte_for_byte_and_given_back_to_be_saved(service: Service) -> None:
    case = await service.ana.open()

    response = await hand_in(service, case["id"], "Выписка 2.pdf")

    file = done(response, 201)
    assert response.headers["etag"] == '"2"'
    assert response.headers["audit-receipt"].startswith(f"case:{case['id']}/2/")
    assert file == {
        "id": file["id"],
        "name": "Выписка 2.pdf",
        "content_type": "application/pdf",
        "size": len(PDF),
        "problem": None,
        "message": None,
        "at": "2026-03-05T12:00:00.000001Z",
    }
    listed = await service.bo.get(f"/v1/cases/{case['id']}/attachments")
    assert (done(listed), listed.headers["etag"]) == ([file], '"2"')
    given = await service.bo.get(f"/v1/cases/{case['id']}/attachments/{file['id']}")
    assert (given.status_code, given.content) == (200, PDF)
    assert given.headers["content-type"] == "application/octet-stream"
    assert given.headers["content-disposition"].startswith("attachment; filename*=UTF-8''%D0%92")
    assert given.headers["cache-control"] == "no-store"
    assert "sandbox" in given.headers["content-security-policy"]
    assert given.headers["etag"] == '"2"'


async def test_a_file_needs_no_version_and_moves_the_case_on(service: Service) -> None:
    case = await service.ana.open()

    for number in range(3):
        assert (await hand_in(service, case["id"], f"{number}.txt", b"hm", "text/plain")).headers[
            "etag"
        ] == f'"{number + 2}"'

    assert [one["name"] for one in done(await service.ana.get(f"/v1/cases/{case['id']}/attachments"))] == [
        "0.txt",
        "1.txt",
        "2.txt",
    ]


async def test_a_file_is_given_with_its_own_case_only(service: Service) -> None:
    case, other = [await service.ana.open() for _ in range(2)]
    file = done(await hand_in(service, case["id"]), 201)

    refused(await service.ana.get(f"/v1/cases/{other['id']}/attachments/{file['id']}"), 404, "not_found")
    refused(await service.ana.get(f"/v1/cases/nowhere/attachments/{file['id']}"), 404, "not_found")
    refused(await service.ana.get(f"/v1/cases/{case['id']}/attachments/{file['id']}0"), 404, "not_found")


async def test_the_log_holds_neither_a_file_nor_its_name(service: Service, desk_url: str) -> None:
    case = await service.ana.open()
    done(await hand_in(service, case["id"], "secret.txt", b"my secret words", "text/plain"), 201)

    with raw_sql(desk_url) as raw:
        bodies = str(raw.run("SELECT body FROM events"))
        kept = raw.run("SELECT content FROM attachments")

    assert "secret" not in bodies
    assert [bytes(content) for (content,) in kept] == [b"my secret words"]


@on_one_database
@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/passwd.txt", "passwd.txt"),
        ("C:\\Users\\ana\\proof.png", "proof.png"),
        ("exe.\u202efdp", "exe.fdp"),
        ("x" * 400 + ".pdf", "x" * 251 + ".pdf"),
        ("evidence", "evidence"),
        ("proof.BIN", "proof.BIN"),
    ],
)
async def test_a_file_has_a_harmless_name(name: str, kept: str, service: Service) -> None:
    case = await service.ana.open()

    response = await hand_in(service, case["id"], name)

    if name.startswith("exe"):
        assert wrong_fields(response) == ["file"]
    else:
        assert done(response, 201)["name"] == kept


@on_one_database
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run.exe", b"hello"),
        ("page.html", b"<p>"),
        ("a.js", b"1"),
        ("invoice.pdf", b"MZ\x90\x00\x03"),
        ("a.pdf.scr", b"x"),
        ("a.txt", b"#!/bin/sh"),
    ],
)
async def test_what_could_run_is_not_kept(name: str, content: bytes, service: Service) -> None:
    case = await service.ana.open()

    assert wrong_fields(await hand_in(service, case["id"], name, content)) == ["file"]
    assert done(await service.ana.get(f"/v1/cases/{case['id']}/attachments")) == []


@on_one_database
async def test_a_file_may_be_as_large_as_the_settings_say_and_no_larger(service: Service) -> None:
    case = await service.ana.open()
    limit = service.desk.settings.max_attachment_bytes

    assert done(await hand_in(service, case["id"], content=b"x" * limit), 201)["size"] == limit
    refused(await hand_in(service, case["id"], content=b"x" * (limit + 1)), 413, "too_large")
    refused(await hand_in(service, case["id"], content=b"x" * (2 * limit)), 413, "too_large")
    assert done(await hand_in(service, case["id"], content=b""), 201)["size"] == 0


BOUNDARY = "multipart/form-data; boundary=x"


@on_one_database
@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b""),
        (BOUNDARY, b""),
        (BOUNDARY, b"--x"),
        (BOUNDARY, b"--x--\r\n"),
        (BOUNDARY, b"nonsense"),
        (BOUNDARY, b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\ntext\r\n--x--\r\n'),
        (BOUNDARY, b'--x\r\nContent-Disposition: form-data; name="other"; filename="a.txt"\r\n\r\ntext\r\n--x--\r\n'),
        (
            BOUNDARY,
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\na\r\n' * 2 + b"--x--\r\n",
        ),
        (BOUNDARY, b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\ncut off'),
        (BOUNDARY, b"--x\r\nContent-Disposition: \xff\xfe\r\n\r\na\r\n--x--\r\n"),
        (BOUNDARY, b"--x\r\n" + b"A: b\r\n" * 1000 + b"\r\n\r\na\r\n--x--\r\n"),
        ("multipart/form-data; boundary=" + "y" * 5000, b"--y"),
        ('multipart/form-data; boundary=""', b"----"),
        ("multipart/form-data; boundary=\xfc", b"--\xfc--"),
        (
            "multipart/form-data; boundary=x; charset=nonsense",
            b'--x\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\na\r\n--x--\r\n',
        ),
    ],
    ids=range(15),
)
async def test_a_damaged_form_is_refused(kind: str, body: bytes, service: Service) -> None:
    case = await service.ana.open()
    headers = {"authorization": f"Bearer {service.ana.token}".encode(), "content-type": kind.encode("latin-1")}

    response = await service.client.post(f"/v1/cases/{case['id']}/attachments", content=body, headers=headers)  # type: ignore[arg-type]

    assert wrong_fields(response) == ["file"]


async def test_a_name_with_a_nul_is_kept_without_it(service: Service) -> None:
    case = await service.ana.open()
    about = b'Content-Disposition: form-data; name="file"; filename="a\x00b.txt"\r\nContent-Type: te\x00xt/plain'
    body = b"--x\r\n" + about + b"\r\n\r\na\r\n--x--\r\n"
    headers = {"authorization": f"Bearer {service.ana.token}", "content-type": BOUNDARY}

    response = await service.client.post(f"/v1/cases/{case['id']}/attachments", content=body, headers=headers)

    assert response.status_code in {201, 422}
    assert "\\u0000" not in response.text


@on_one_database
async def test_a_form_in_another_format_is_refused(service: Service) -> None:
    case = await service.ana.open()
    response = await service.ana.send("POST", f"/v1/cases/{case['id']}/attachments", {"file": "text"})

    refused(response, 415, "unsupported_media_type")
    assert response.headers["accept"] == "multipart/form-data"
