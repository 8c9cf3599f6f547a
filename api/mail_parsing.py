"""What a mail says: from raw bytes, however odd, to one frozen value.

The structure is read here and not by the standard library's parser, whose `policy.default` raises on some addresses
(`To: :;@`) and whose attached letters lose their exact bytes; `html.parser` takes quadratic time and
`email.utils.parseaddr` recurses without end on hostile input. Every loop here is linear in the mail's size.
"""
# The words of many languages hold letters that look like others.
# ruff: noqa: RUF001

import binascii
import codecs
import html
import mimetypes
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from encodings.aliases import aliases
from hashlib import sha256
from urllib.parse import unquote_to_bytes

import puremagic
from msgspec import Struct

# fmt: off
ATTACHMENT_TYPES = frozenset((
    # documents
    "pdf", "txt", "text", "log", "md", "csv", "tsv", "rtf", "doc", "docx", "xls", "xlsx", "ppt", "pptx", "odt", "ods",
    "odp", "pages", "numbers", "key", "json", "xml", "yaml", "yml", "eml", "msg", "ics", "vcf", "asc", "sig", "pgp",
    "p7s", "p7m", "dat",
    # pictures
    "png", "jpg", "jpeg", "jpe", "gif", "webp", "bmp", "tif", "tiff", "heic", "heif", "avif", "svg", "ico", "psd",
    "ai", "eps", "indd",
    # sound and film
    "mp3", "m4a", "wav", "ogg", "opus", "mp4", "m4v", "mov", "avi", "webm", "mkv", "3gp",
    # archives
    "zip", "7z", "gz", "tar", "rar",
))
# fmt: on


class UnreadableMail(Exception):
    """A mail beyond the limits. `reason`: too_large, header_too_large, too_deep, too_many_parts or no_header."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Limits(Struct, frozen=True, kw_only=True):
    """Beyond the first four a mail is unreadable; beyond the rest the surplus is left out and marked as left out."""

    message_bytes: int = 25 * 1024 * 1024
    header_bytes: int = 64 * 1024  # of the mail and of each part; all headers together four times as much
    depth: int = 32  # honest gateways wrap a letter twenty times
    parts: int = 200
    attachment_bytes: int = 10 * 1024 * 1024
    attachments_bytes: int = 20 * 1024 * 1024  # all of them together
    text_characters: int = 200_000
    attachment_types: frozenset[str] = ATTACHMENT_TYPES  # file name extensions in lower case, without the dot


LIMITS = Limits()


class Attachment(Struct, frozen=True, kw_only=True):
    """`problem`: None, "damaged" (what could be read is kept), "too_large" or "type_not_allowed" (content empty)."""

    name: str
    content_type: str  # as the sender declares it
    content: bytes
    problem: str | None


class Mail(Struct, frozen=True, kw_only=True):
    """One mail. No text here holds a NUL or a lone surrogate, no one-line field a line break."""

    sender: str  # the From address in lower case; "" where there is no usable one
    sender_name: str
    reply_to: str | None  # only to be shown: who wrote is `sender`
    subject: str
    text: str
    new_text: str  # what stands above the quoted history; the whole text where none was found
    attachments: tuple[Attachment, ...]
    message_id: str | None  # with angle brackets, as in `references` and `bounced`
    references: tuple[str, ...]
    tags: tuple[str, ...]
    received_at: datetime  # UTC
    # Why this mail opens nothing: own_address, loop, bounce, report, auto_submitted, list, bulk, empty_return_path,
    # auto_reply or no_reply. None is a person's mail. Of calendar_reply a person pressed the button, or a machine did:
    # it may join a case of theirs.
    automatic: str | None
    bounced: tuple[str, ...]  # letters of ours that a bounce reports as undelivered for good
    bounce_reason: str  # in the words of the server that did not take them, "" where it says nothing
    authentication: str | None
    forged: bool  # our own server found that the sender's domain does not stand for this mail (DMARC)
    digest: bytes  # equal when the same mail is delivered again, by whatever route


def parse_mail(
    raw: bytes,
    *,
    arrived_at: datetime,
    support_address: str,
    trusted_host: str | None = None,
    trust_dates: bool = False,
    limits: Limits = LIMITS,
) -> Mail:
    """Read one mail (RFC 5322). Raises UnreadableMail, and nothing else, whatever the bytes.

    `trusted_host` is the desk's own mail server: the topmost Received tells the time, and the topmost
    Authentication-Results is believed, only when that server wrote it. Without it the topmost Received counts as ours
    and no authentication does. `trust_dates` prefers the Date header, for an archive of one's own.
    """
    if len(raw) > limits.message_bytes:
        raise UnreadableMail("too_large")
    root = _Reader(raw if b"\n" in raw else raw.replace(b"\r", b"\n"), limits).root()
    subject = _one_line(_decoded_words(root.first("subject")))
    senders = [mailbox for value in root.all("from") for mailbox in _mailboxes(value)]
    sender_name, sender = senders[0] if senders else ("", "")
    message_id = next(iter(_message_ids(root.first("message-id"))), None)
    references = _message_ids(*root.all("in-reply-to"), *root.all("references"))
    letter = _Letter(root, limits.text_characters)
    text, files = letter.text_and_files()
    automatic = _why_automatic(root, subject, [address for _, address in senders], support_address)
    if automatic == "calendar_reply" and not letter.answers_an_invitation():
        automatic = "auto_submitted"
    return Mail(
        sender=sender,
        sender_name=sender_name,
        reply_to=next((address for value in root.all("reply-to") for _, address in _mailboxes(value)), None),
        subject=subject,
        text=text,
        new_text=text if _FORWARDED_SUBJECT.match(subject) else _above_history(text),
        attachments=_attachments(files, limits),
        message_id=message_id,
        references=references,
        tags=_tags(root, subject, support_address),
        received_at=_received_at(root, arrived_at, trusted_host, trust_dates=trust_dates),
        automatic=automatic,
        bounced=_undelivered(root, subject, text, references) if automatic == "bounce" else (),
        bounce_reason=_diagnosis(root) if automatic == "bounce" else "",
        authentication=_authentication(root, trusted_host),
        forged=_is_forged(root, trusted_host),
        digest=_digest(root, sender, message_id, subject),
    )


# --- Header fields and parts (RFC 5322, 2045, 2046, 2231) ---


class _Part(Struct, frozen=True, kw_only=True):
    fields: list[tuple[str, str]]  # names in lower case; values unfolded, encoded words not yet decoded
    kind: str  # "text/plain"
    parameters: dict[str, str]  # of the content type
    disposition: str
    name: str
    children: list["_Part"]
    content: bytes  # without its transfer encoding
    base64: bool
    damaged: bool
    hint: str | None  # the charset for bytes that have no label of their own

    def all(self, name: str) -> list[str]:
        return [value for field, value in self.fields if field == name]

    def first(self, name: str) -> str:
        return next(iter(self.all(name)), "")

    def descendants(self) -> Iterator["_Part"]:
        """The part and all below it in the order of the mail, but never those of an attached letter."""
        yield self
        for child in self.children:
            yield from child.descendants()


_FIELD = re.compile(rb"([!-9;-~]{1,200})[ \t]*:")
_BLANK_LINE = re.compile(rb"\n\r*+\n")
_BEFORE_HEADER = re.compile(
    rb"(?:\xef\xbb\xbf)?[\r\n]*+(?:>?From (?! *:)[^\n]*+\n)?"
)  # a byte order mark, an mbox line
_ESSENTIAL_FIELD = re.compile(
    rb"^(from|to|subject|date|message-id|mime-version|content-type|content-transfer-encoding)[ \t]*:",
    re.IGNORECASE | re.MULTILINE,
)
_PART_FIELDS = ("content-", "mime-", "x-")
_DIRTY_LINES = 20
_LIKELY_BOUNDARY = re.compile(rb"\n--(\S[^\r\n]{0,199}?)[ \t\r]*+\n(?=content-)", re.IGNORECASE)
_LONGEST_BOUNDARY = 1000
_KIND = re.compile(r"[\w.+-]+/[\w.+-]+", re.ASCII)
_PARAMETER = re.compile(r';\s*+([^\s=;"]++)\s*+=\s*+("(?>(?:[^"\\]|\\.)*)"?|[^;]*+)', re.DOTALL)
_CR = 13


class _Reader:
    """Walks the parts of one mail by their offsets, counting them against the limits."""

    def __init__(self, raw: bytes, limits: Limits) -> None:
        self.raw = raw
        self.limits = limits
        self.parts = 0
        self.header_bytes = 0
        self.hint = _named_charset(raw[: 2 * limits.header_bytes])

    def root(self) -> _Part:
        before = _BEFORE_HEADER.match(self.raw)
        root = self._part(self.raw, before.end() if before else 0, len(self.raw), depth=0)
        if not root.fields:
            raise UnreadableMail("no_header")
        return root

    def _part(
        self, source: bytes, start: int, end: int, *, depth: int, default: str = "text/plain", cut_off: bool = False
    ) -> _Part:
        self.parts += 1
        if self.parts > self.limits.parts:
            raise UnreadableMail("too_many_parts")
        if depth > self.limits.depth:
            raise UnreadableMail("too_deep")
        fields, body = self._fields(source, start, end, part=depth > 0)
        values = dict(reversed(fields))
        content_type, parameters = _value_and_parameters(values.get("content-type", ""))
        disposition, disposition_parameters = _value_and_parameters(values.get("content-disposition", ""))
        encoding = re.sub(r"\(.*|[^a-z0-9]", "", values.get("content-transfer-encoding", "").lower())
        declared = _KIND.match(content_type)
        kind = declared[0] if declared else default
        content, damaged, children = b"", False, list[_Part]()
        if kind.startswith("multipart/"):
            boundary = _parameter(parameters, "boundary").strip().encode()[:_LONGEST_BOUNDARY]
            default = "message/rfc822" if kind == "multipart/digest" else "text/plain"
            source, sections = self._sections(source, body, end, boundary, encoding)
            children = [
                self._part(source, first, last, depth=depth + 1, default=default, cut_off=breaks_off)
                for first, last, breaks_off in sections
            ]
            if not children:  # a text under the wrong label, or nothing
                content, kind = re.sub(rb"(?m)^--%b--\s*?$" % re.escape(boundary), b"", source[body:end]), "text/plain"
        else:
            content, damaged = _transfer_decoded(source[body:end], encoding)
        return _Part(
            fields=fields,
            kind=kind,
            parameters=parameters,
            disposition=disposition,
            name=_parameter(disposition_parameters, "filename") or _parameter(parameters, "name"),
            children=children,
            content=content,
            base64=encoding == "base64",
            damaged=damaged or cut_off,
            hint=self.hint,
        )

    def _fields(self, source: bytes, start: int, end: int, *, part: bool) -> tuple[list[tuple[str, str]], int]:
        fields, body = _header(source, start, end, self.limits.header_bytes, 0 if part else _DIRTY_LINES)
        self.header_bytes += body - start
        if self.header_bytes > 4 * self.limits.header_bytes:
            raise UnreadableMail("header_too_large")
        if part and fields and not any(name.startswith(_PART_FIELDS) for name, _ in fields):
            return [], start  # a letter that begins with "Note: ..." where the blank line after no header is missing
        return [(name, _decode(value, "", self.hint)) for name, value in fields], body

    def _sections(
        self, source: bytes, start: int, end: int, boundary: bytes, encoding: str
    ) -> tuple[bytes, list[tuple[int, int, bool]]]:
        """Where each part begins and ends, and whether the mail breaks off within it; and in which bytes.

        Those are other bytes where a whole multipart was encoded, which RFC 2045 forbids and some do. A boundary that
        was not given, or does not come, is guessed.
        """
        sections = self._between(source, start, end, boundary) if boundary else []
        if not sections and (likely := _LIKELY_BOUNDARY.search(source, start - 1, end)):
            sections = self._between(source, start, end, likely[1])
        if not sections and encoding in _ENCODED:
            source = b"\n" + _transfer_decoded(source[start:end], encoding)[0]
            sections = self._between(source, 1, len(source), boundary) if boundary else []
        return source, sections

    def _between(self, source: bytes, start: int, end: int, boundary: bytes) -> list[tuple[int, int, bool]]:
        """What follows the closing delimiter belongs to no part, unless the boundary comes again.

        Some senders use one boundary for a multipart and for the multipart inside it.
        """
        delimiter = re.compile(rb"\n--%b(--)?[ \t]*+\r*+(?=\n|\Z)" % re.escape(boundary))
        sections = list[tuple[int, int, bool]]()
        opened = None
        for count, match in enumerate(delimiter.finditer(source, start - 1, end)):
            if count > 2 * self.limits.parts:
                raise UnreadableMail("too_many_parts")
            if opened is not None:
                last = max(opened, match.start())
                sections.append((opened, last - (last > opened and source[last - 1] == _CR), False))
            opened = None if match[1] else min(match.end() + 1, end)
        if opened is not None:
            sections.append((opened, end, end == len(source)))
        return sections


def _header(source: bytes, start: int, end: int, limit: int, dirty_lines: int) -> tuple[list[tuple[str, bytes]], int]:
    """The fields, unfolded, and where the body begins: after a blank line, or at a line that belongs to no header."""
    fields = list[tuple[str, list[bytes]]]()
    position = start
    while position < end:
        newline = source.find(b"\n", position, min(end, start + limit + 1))
        stop = newline + 1 if newline >= 0 else end
        if not source[position : min(stop, start + limit)].strip(b"\r\n"):
            position = stop
            break
        field = _FIELD.match(source, position, stop)
        folded = bool(fields) and source[position] in b" \t"
        if not field and not folded:
            dirty_lines -= 1
            if dirty_lines < 0 or not _header_goes_on(source, position, min(end, start + limit), fields):
                break
        if stop - start > limit:
            raise UnreadableMail("header_too_large")
        if folded:
            fields[-1][1].append(source[position:stop].rstrip(b"\r\n"))
        elif field:
            fields.append((field[1].decode("ascii").lower(), [source[field.end() : stop].rstrip(b"\r\n")]))
        position = stop
    return [(name, b"".join(lines).strip()) for name, lines in fields], position


def _header_goes_on(source: bytes, position: int, end: int, fields: list[tuple[str, list[bytes]]]) -> bool:
    """Whether a line that is no field is mere dirt: before a blank line there comes an essential field, unseen yet."""
    blank = _BLANK_LINE.search(source, position, end)
    seen = {name.encode() for name, _ in fields}
    following = _ESSENTIAL_FIELD.finditer(source, position, blank.start() if blank else end)
    return bool(fields) and any(match[1].lower() not in seen for match in following)


def _value_and_parameters(field: str) -> tuple[str, dict[str, str]]:
    parameters = dict[str, str]()
    for key, value in _PARAMETER.findall(field):
        # Only quotes and backslashes are escaped in practice: a Windows path has to keep its backslashes.
        plain = re.sub(r'\\(["\\])', r"\1", value[1:].removesuffix('"')) if value.startswith('"') else value.strip()
        parameters.setdefault(key.lower(), plain)
    return field.partition(";")[0].strip().lower(), parameters


def _parameter(parameters: dict[str, str], name: str) -> str:
    """One parameter: plain, as RFC 2231 has it, or in encoded words, which RFC 2047 forbids and everybody sends."""
    pieces = [(parameters[f"{name}*"], True)] if f"{name}*" in parameters else []
    if not pieces:
        while (key := f"{name}*{len(pieces)}") in parameters or f"{key}*" in parameters:
            pieces.append((parameters.get(f"{key}*", parameters.get(key, "")), f"{key}*" in parameters))
    if not pieces:
        return _decoded_words(parameters.get(name, ""))
    charset = ""
    if pieces[0][1] and pieces[0][0].count("'") > 1:
        charset, _, first = pieces[0][0].split("'", 2)
        pieces[0] = (first, True)
    return _decode(b"".join(unquote_to_bytes(text) if coded else text.encode() for text, coded in pieces), charset)


# --- From bytes to text: transfer encodings, charsets, encoded words (RFC 2045, 2047) ---

_ENCODED = ("base64", "quotedprintable")
_UNENCODED = ("", "7bit", "8bit", "binary")
_BASE64_DIGITS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
_BASE64_LINES = re.compile(rb"(?>(?:[A-Za-z0-9+/]*+=?=?[ \t]*+\r*+(?:\n|\Z))*)")
_SURELY_BASE64 = re.compile(rb"=|[^\r\n]{60}")
_NOT_BASE64_DIGITS = bytes(set(range(256)) - set(_BASE64_DIGITS))


def _transfer_decoded(data: bytes, encoding: str) -> tuple[bytes, bool]:
    """The bytes meant, and whether some are missing or in doubt."""
    if encoding == "base64":
        return _from_base64(data)
    if encoding == "quotedprintable":
        data = re.sub(rb"=[0-9A-Fa-f]?\Z", b"", data).replace(b"= \r\n", b"=\r\n").replace(b"= \n", b"=\n")
        damaged = re.search(rb"=(?![0-9A-Fa-f]{2}|\r?\n)", data) is not None
        return binascii.a2b_qp(data), damaged
    return data, encoding not in _UNENCODED


def _from_base64(data: bytes) -> tuple[bytes, bool]:
    try:
        return binascii.a2b_base64(data.translate(None, b" \t\r\n"), strict_mode=True), False
    except binascii.Error:
        pass
    lines = _BASE64_LINES.match(data)
    if lines and _is_text(data[lines.end() :]):
        if not _SURELY_BASE64.search(lines[0]):
            return data, True  # plain text under the wrong label
        data = lines[0]  # a gateway wrote its footer below
    chunks = data.translate(None, _NOT_BASE64_DIGITS).split(b"=", 1000)
    return b"".join(map(_whole_bytes, chunks)), True


def _is_text(data: bytes) -> bool:
    """Whether these bytes are too full of blanks, or of bytes beyond ASCII, to be base64 with some damage."""
    foreign = len(data.translate(None, _BASE64_DIGITS + b" \t\r\n"))
    return data.strip().count(b" ") * 20 > len(data) or foreign * 3 > len(data)


def _whole_bytes(digits: bytes) -> bytes:
    digits = digits.replace(b"=", b"")
    if len(digits) % 4 == 1:
        digits = digits[:-1]
    return binascii.a2b_base64(digits + b"=" * (-len(digits) % 4))


def _plain_label(label: str) -> str:
    return re.sub(r"[^a-z0-9]", "", label.lower())


# Only these are looked up: `codecs.lookup` remembers every unknown label for ever, and knows codecs that are no
# charsets (unicode_escape) or take quadratic time (idna, punycode).
_CODECS = frozenset(aliases.values()) | {"cp720", "cp737", "cp856", "cp874", "cp1006", "koi8_t", "koi8_u", "mac_arabic"}
_CHARSETS = {_plain_label(codec): codec for codec in _CODECS}
_CHARSETS |= {_plain_label(alias): codec for alias, codec in aliases.items()}
_CHARSETS |= {
    "iso88598e": "iso8859_8",
    "iso88598i": "iso8859_8",
    "ksc56011987": "euc_kr",
    "mac": "mac_roman",
    "sjis": "shift_jis",
    "unicode11utf7": "utf_7",
    "utf8mb4": "utf_8",
    "windows874": "cp874",
}
# What senders mean by a label is the superset that their system has under that name (WHATWG Encoding, section 4.2).
_MEANT = {
    "ascii": None,
    "big5": "big5hkscs",
    "euc_kr": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "iso2022_jp": "iso2022_jp_ext",
    "iso8859_11": "cp874",
    "iso8859_9": "cp1254",
    "latin_1": "cp1252",
    "mbcs": None,
    "rot_13": None,
    "shift_jis": "cp932",
    "tis_620": "cp874",
}
_UTF_16_OR_32 = re.compile(r"utf_16|utf_32")
_SEVEN_BIT = re.compile(r"utf_16|utf_32|utf_7|iso2022|hz")
_MULTIBYTE = re.compile(r"utf_16|utf_32|utf_7|iso2022|hz|gb|big5|shift|cp9[345]|euc|johab")
_NO_CHANCE_BYTES = 12
_ASCII = bytes(range(128))
_CONTROL_BYTE = re.compile(rb"[\0-\x08\x0e-\x1f]")
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf_8"),
    (codecs.BOM_UTF32_LE, "utf_32_le"),
    (codecs.BOM_UTF32_BE, "utf_32_be"),
    (codecs.BOM_UTF16_LE, "utf_16_le"),
    (codecs.BOM_UTF16_BE, "utf_16_be"),
)
_NAMED_CHARSET = re.compile(
    rb"charset\s*+=\s*+[\"']?([\w.:-]{2,40})|=\?([\w.:-]{2,40})(?:\*[\w-]{0,20})?\?[bq]\?", re.IGNORECASE
)


def _codec(label: str) -> str | None:
    """The codec for a label, None where the label is unknown or says nothing about bytes above 127."""
    name = _plain_label(label[:40])
    codec = _CHARSETS.get(name) or _CHARSETS.get(name.removeprefix("x"))
    return None if codec is None or codec.endswith("_codec") else _MEANT.get(codec, codec)


def _named_charset(head: bytes) -> str | None:
    """The first charset beside UTF-8 that a mail names anywhere: the best hint for what it leaves without a label."""
    labels = ((match[1] or match[2]).decode("ascii", "replace") for match in _NAMED_CHARSET.finditer(head))
    return next((codec for codec in map(_codec, labels) if codec not in (None, "utf_8")), None)


def _decode(data: bytes, label: str, hint: str | None = None) -> str:
    """Text from bytes, never failing: as UTF-8 if it is that, since no other text is by chance; else by label or hint.

    The label comes first where it names a charset whose texts are ASCII bytes (ISO-2022-JP, UTF-16), or one with
    several bytes to a character and the text is short enough for the chance.
    """
    codec = _codec(label)
    for mark, marked in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            data, codec = data[len(mark) :], marked
            break
    beyond_ascii = len(data.translate(None, _ASCII))
    if codec and _UTF_16_OR_32.match(codec) and not beyond_ascii and not _CONTROL_BYTE.search(data):
        codec = None  # plain text under the wrong label
    if not beyond_ascii and b"\x1b$" in data and not (codec and _MULTIBYTE.match(codec)):
        codec = "iso2022_kr" if b"\x1b$)C" in data else "iso2022_jp_ext"
    attempts = ["utf_8", codec or hint]
    if codec and (_SEVEN_BIT.match(codec) or (_MULTIBYTE.match(codec) and beyond_ascii < _NO_CHANCE_BYTES)):
        attempts = [codec, "utf_8" if beyond_ascii else None]
    for attempt in filter(None, attempts):
        try:
            return _SURROGATE.sub("\ufffd", data.decode(attempt))
        except UnicodeError:
            continue
    return _SURROGATE.sub("\ufffd", _guessed(data, codec or "utf_8"))


def _guessed(data: bytes, codec: str) -> str:
    """As much as can be read of bytes that are not wholly in this charset."""
    if codec != "utf_8":
        return data.decode(codec, "casework_guess" if len(data) < _GUESSED_BYTES else "replace")
    valid = data.decode("utf_8", "ignore").encode()
    odd_bytes = len(data) - len(valid)
    if odd_bytes > len(valid.translate(None, _ASCII)):
        return data.decode("cp1252", "replace")
    return data.decode("utf_8", "casework_guess" if odd_bytes < _GUESSED_BYTES else "replace")


_GUESSED_BYTES = 100_000  # the handler below is Python: beyond this it would take seconds
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def _guess(error: UnicodeError) -> tuple[str, int]:
    """Windows-1252 amid UTF-8, NEC's characters (circled numbers, "Ltd.") amid ISO-2022-JP; else a replacement."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    odd = error.object[error.start : error.end]
    if error.encoding == "utf-8" and error.reason != "unexpected end of data":
        return odd.decode("cp1252", "replace"), error.end
    if error.encoding.startswith("iso2022_jp"):
        return bytes(byte | 128 for byte in odd).decode("euc_jis_2004", "replace"), error.end
    return "\ufffd", error.end


codecs.register_error("casework_guess", _guess)

# An encoded word ends at "?=", and before the next "=?": without that, many beginnings would take quadratic time. The
# padding of base64 before the end looks like such a beginning ("=?=") and is none.
# Groups are made atomic, (?>…), rather than possessive: before 3.11.5 Python matched possessive groups wrongly.
_ENCODED_WORD = r"=\?[\w.:+-]++(?:\*[\w-]*+)?\?[bBqQ]\?(?>(?:(?!=\?[^=])(?:[^?]|\?(?!=)))*)\?="
_ENCODED_WORDS = re.compile(_ENCODED_WORD)


def _decoded_words(text: str) -> str:
    """Encoded words decoded (RFC 2047), neighbours of one charset together: some senders split within a character."""
    decoded = list[str]()
    run, run_charset, end = b"", "", 0
    for word in _ENCODED_WORDS.finditer(text):
        label, encoding, content = word[0][2:-2].split("?", 2)
        charset = label.partition("*")[0].lower()
        between = text[end : word.start()]
        if not end or between.strip():
            decoded += [_decode(run, run_charset), between]
            run = b""
        elif charset != run_charset:
            decoded.append(_decode(run, run_charset))
            run = b""
        run_charset, end = charset, word.end()
        data = content.encode()
        run += binascii.a2b_qp(data, header=True) if encoding in "qQ" else _from_base64(data)[0]
    return "".join([*decoded, _decode(run, run_charset), text[end:]])


def _one_line(text: str) -> str:
    """Without line breaks, so that no header of an answer can be made of it; other blanks stay what they are."""
    return re.sub(r"[\x01-\x20\x7f-\x9f\u2028\u2029]+", " ", text.replace("\0", "\ufffd")).strip()


# --- The text, and what is no text ---

_PLAIN = ("text/plain", "text/markdown")
_MARKED_UP = ("text/html", "text/enriched", "text/watch-html", "text/x-amp-html")
_HTML_DOCUMENT = re.compile(r"\s*+<(?:!doctype html|html)\b", re.IGNORECASE)
_CUT = "[…]"
_TAGS = 200_000  # more of them are no letter


class _Letter:
    """Gathers the text of a mail, and the parts that are neither the text nor its HTML twin."""

    def __init__(self, root: _Part, limit: int) -> None:
        self.root = root
        self.limit = limit
        self.tags_left = _TAGS

    def text_and_files(self) -> tuple[str, list[_Part]]:
        text, _, files = self._gathered(self.root)
        if not text:  # some senders give the letter itself a file name, or call it an attachment
            letters = (file for file in files if file.kind in _PLAIN + _MARKED_UP)
            letter = next((file for file in letters if not (file.name and file.disposition == "attachment")), None)
            if letter:
                text, files = self._text(letter), [file for file in files if file is not letter]
        if not text:
            replies = (self._text(file) for file in files if _is_calendar_reply(file))
            text = next((said for one in replies if (said := _calendar_answer(one))), "")
        if len(text) > self.limit:
            text = f"{text[: self.limit - len(_CUT) - 1].rstrip()}\n{_CUT}"
        return text, files

    def answers_an_invitation(self) -> bool:
        replies = (part for part in self.root.descendants() if _is_calendar_reply(part))
        return any(_calendar_answer(self._text(one)) for one in replies)

    def _gathered(self, part: _Part) -> tuple[str, bool, list[_Part]]:
        """The text, whether it was written as plain text, and the files."""
        if not part.children:
            if part.kind in _PLAIN + _MARKED_UP and not part.name and part.disposition != "attachment":
                return self._text(part), part.kind in _PLAIN, []
            return "", False, [part]
        gathered = [self._gathered(child) for child in part.children]
        files = [file for _, _, found in gathered for file in found]
        if part.kind == "multipart/report":  # its other parts are for machines, and are read as such
            files = [file for file in files if not file.kind.startswith(("message/", "text/rfc822-headers"))]
        texts = [(text, plain) for text, plain, _ in gathered if text]
        if part.kind == "multipart/alternative":
            best = next((found for found in texts if found[1]), texts[-1] if texts else ("", False))
        else:
            best = self._joined(texts)
        return *best, files

    def _joined(self, texts: list[tuple[str, bool]]) -> tuple[str, bool]:
        """One text after the other; but of a text and its HTML twin only one, even if not called alternative."""
        whole, whole_plain = "", False
        for text, plain in texts:
            words, whole_words = " ".join(text.split()), " ".join(whole.split())
            twins = plain != whole_plain and (words in whole_words or whole_words in words)
            if not whole or (twins and (len(words), plain) > (len(whole_words), whole_plain)):
                whole, whole_plain = text, plain
            elif not twins:
                whole = f"{whole}\n\n{text}"
            if len(whole) > self.limit:
                break
        return whole, whole_plain

    def _text(self, part: _Part) -> str:
        enough = 8 * self.limit  # bytes: no charset takes more for a character
        marked_up = part.kind in _MARKED_UP
        charset = _parameter(part.parameters, "charset")
        text = _decode(part.content if marked_up else part.content[:enough], charset, part.hint)
        if marked_up or _HTML_DOCUMENT.match(text):
            converter = _HtmlText(self.limit, self.tags_left)
            text = converter.convert(text)
            self.tags_left = converter.tags_left
        elif len(part.content) > enough:
            text += f"\n{_CUT}"
        # Careless gateways end lines with CR CR LF; form feeds and the like separate lines as well.
        text = re.sub(r"\r+\n?|[\v\f\x85\u2028\u2029]", "\n", text)
        text = re.sub(r"[\0-\x08\x0e-\x1f\x7f-\x9f]", "\ufffd", text)
        if part.parameters.get("format", "").lower() == "flowed":
            text = _unflowed(text, delete_space=part.parameters.get("delsp", "").lower() == "yes")
        return text.strip("\ufeff").strip()


# --- Answers to invitations (RFC 5545 and 5546 §3.2.3), which mail programs send where somebody presses a button ---

_PARTICIPATION = re.compile(r"^ATTENDEE;(?:[^\n]*;)?PARTSTAT=(ACCEPTED|DECLINED|TENTATIVE)\b", re.MULTILINE)
_CALENDAR_TEXT = re.compile(r"^(SUMMARY|COMMENT)(?:;[^:\n]*)?:([^\n]+)", re.MULTILINE)
_CALENDAR_ESCAPE = re.compile(r"\\([nN,;\\])")


def _is_calendar_reply(part: _Part) -> bool:
    return part.kind == "text/calendar" and part.parameters.get("method", "").strip('"').upper() == "REPLY"


def _calendar_answer(calendar: str) -> str:
    """Such as `Accepted: Consultation`, and what they have written beside it; empty where it answers nothing."""
    unfolded = re.sub(r"\n[ \t]", "", calendar)
    answer = _PARTICIPATION.search(unfolded)
    if answer is None:
        return ""
    found = _CALENDAR_TEXT.findall(unfolded)
    said = {
        name: _CALENDAR_ESCAPE.sub(lambda one: one[1].replace("n", "\n").replace("N", "\n"), text)
        for name, text in found
    }
    head = ": ".join(filter(None, (answer[1].capitalize(), said.get("SUMMARY", "").strip())))
    return "\n\n".join(filter(None, (head, said.get("COMMENT", "").strip())))


def _unflowed(text: str, *, delete_space: bool) -> str:
    """Lines that were broken only for the transport, joined again (RFC 3676)."""
    text = re.sub(r"^ ", "", text, flags=re.MULTILINE)
    kept = r"\1" if delete_space else r"\1 "
    return re.sub(r"^((?!>|-- $)[^\n]*) \n(?!>|\n|-- $)", kept, text, flags=re.MULTILINE)


# --- HTML as readable text ---

# A quote counts only after "=", as in a browser: <p don't> is a whole tag. Where one is never closed, none counts.
_TAG = re.compile(r"<[a-zA-Z/!?](?>(?:[^>=]++|=\s*+(?>(?:\"[^\"]*+\"|'[^']*+')?))*)>")
_ROUGH_TAG = re.compile(r"<[^>]*+(?:>|\Z)")
_TAG_BEGINS = re.compile(r"<(?=[a-zA-Z/!?])")
_TAG_NAME = re.compile(r"<(/?)([a-zA-Z][^\s/>]*+)")
_ATTRIBUTE = re.compile(r"([^\s=/>\"']++)(?>(?:\s*+=\s*+(\"[^\"]*+\"|'[^']*+'|[^\s>]*+))?)")
_UNREAD = {
    name: re.compile(rf"</{name}\b[^>]*+(?:>|\Z)", re.IGNORECASE)
    for name in ("script", "style", "title", "iframe", "noembed", "noframes", "template", "xml")
}
# fmt: off
_PARAGRAPHS = frozenset((
    "p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "dl", "table", "hr", "blockquote", "pre",
))
_LINES = frozenset((
    "address", "article", "aside", "caption", "center", "dd", "details", "div", "dt", "fieldset", "figcaption",
    "figure", "footer", "form", "header", "li", "main", "nav", "option", "section", "summary", "tbody", "tfoot",
    "thead", "tr",
))
# fmt: on
_DEEPEST_QUOTE = 9
_LONGEST_LINK = 2000
_LONGEST_TAG = 10_000
_HUGE_REFERENCE = re.compile(r"&#(?:\d{8,}|[xX][0-9a-fA-F]{7,});?")


class _HtmlText:
    """The words of an HTML letter in lines: no script, style or picture; a link's target on a line of its own below."""

    def __init__(self, limit: int, tags_left: int) -> None:
        self.room = limit
        self.tags_left = tags_left
        self.lines = list[str]()
        self.line = list[str]()
        self.quotes = 0
        self.verbatim = 0
        self.link = ""
        self.link_text = list[str]()
        self.links = list[str]()

    def convert(self, source: str) -> str:
        if not _TAG_BEGINS.search(source):
            # Plain text under the wrong label: its lines are all the form it has.
            return _unescaped(source[: 8 * self.room])
        position, quotes_close, never_closed = 0, True, set[str]()
        while begin := _TAG_BEGINS.search(source, position):
            self._words(source[position : begin.start()])
            if self.room < 0 or not self.tags_left:
                break
            self.tags_left -= 1
            if source.startswith("<!--", begin.start()):
                end = source.find("-->", begin.start() + 2)
                position = end + 3 if end >= 0 else len(source)
                continue
            tag = _TAG.match(source, begin.start()) if quotes_close else None
            quotes_close = tag is not None
            tag = tag or _ROUGH_TAG.match(source, begin.start())
            position = tag.end() if tag else len(source)
            name = self._tag(source[begin.start() : position])
            runs_to_the_end = name in ("script", "style")
            if name not in _UNREAD or name in never_closed or (source[position - 2] == "/" and not runs_to_the_end):
                continue
            if end_tag := _UNREAD[name].search(source, position):
                position = end_tag.end()
            elif runs_to_the_end:
                position = len(source)
            else:
                never_closed.add(name)
        if begin is None:
            self._words(source[position:])
        self._end_block()
        text = "\n".join(self.lines if begin is None else [*self.lines, _CUT])
        return re.sub(r"\n{3,}", "\n\n", re.sub(r"[\xad\u200b]", "", text))  # no soft hyphens

    def _words(self, escaped: str) -> None:
        text = _unescaped(escaped[: max(0, 8 * self.room)])
        self.room -= len(escaped) // 8  # blanks and references count too: there must be an end of them
        if self.verbatim:
            for line in text.splitlines(keepends=True):
                self._append(line.rstrip("\r\n"))
                if line.endswith("\n"):
                    self._end_line()
            return
        text = re.sub(r"\s+", " ", text)
        self._append(text.lstrip() if not self.line or self.line[-1].endswith((" ", "\t")) else text)

    def _append(self, text: str) -> None:
        if text:
            self.line.append(text)
            self.room -= len(text)
            if self.link:
                self.link_text.append(text)

    def _tag(self, tag: str) -> str:
        """What a tag does to the text; answers the name of an opening tag."""
        named = _TAG_NAME.match(tag)
        closing, name = (bool(named[1]), named[2].lower()) if named else (False, "")
        if "@" in name or name.endswith(":"):
            self._append(tag)  # no tag but <an@address.example> or <https://...>
        elif name == "a":
            self._end_link()
            self.link = "" if closing else _attribute(tag, "href")
        elif name == "img":
            alternative = " ".join(_attribute(tag, "alt").split())
            self._append(f"[{alternative}]" if any(map(str.isalnum, alternative)) else alternative)
        elif name == "br":
            self._end_line()
        elif name in ("td", "th"):
            self._append("\t" if self.line and not closing else "")
        elif name in _LINES or name in _PARAGRAPHS:
            self._end_block()
            if name == "blockquote" and closing:
                self.quotes = max(0, self.quotes - 1)
            if name in _PARAGRAPHS and self.lines and self.lines[-1] != self._margin().rstrip():
                self._end_line()
            if name == "blockquote" and not closing:
                self.quotes += 1
            elif name == "pre":
                self.verbatim = max(0, self.verbatim + (-1 if closing else 1))
            elif name == "li" and not closing:
                self.line.append("- ")
        return "" if closing else name

    def _end_line(self) -> None:
        words = "".join(self.line).rstrip()
        self.line = []
        self.lines.append((self._margin() + words).rstrip())

    def _margin(self) -> str:
        return "> " * min(self.quotes, _DEEPEST_QUOTE)

    def _end_block(self) -> None:
        self._end_link()
        if self.line:
            self._end_line()
        for link in self.links:
            self.line = [f"<{link}>"]
            self._end_line()
        self.links = []

    def _end_link(self) -> None:
        """Keep where a link leads, unless its words say so themselves."""
        words, target = "".join(self.link_text).strip(), "".join(self.link.split())
        self.link, self.link_text = "", []
        scheme, _, place = target.partition(":")
        place = place.partition("?")[0] if scheme.lower() == "mailto" else place.strip("/")
        if scheme.lower() not in ("http", "https", "mailto") or not words or len(target) > _LONGEST_LINK:
            return
        if place.lower() not in (words.lower().strip("/"), words.lower().partition("://")[2].strip("/")):
            self.links.append(target)
            self.room -= len(target)


def _attribute(tag: str, name: str) -> str:
    values = (value for key, value in _ATTRIBUTE.findall(tag[1:_LONGEST_TAG]) if key.lower() == name)
    return re.sub(r"[\0-\x1f\x7f]", " ", _unescaped(next(values, "").strip("\"'")))


def _unescaped(text: str) -> str:
    """`html.unescape`, which raises on a number with more digits than Python reads."""
    return html.unescape(_HUGE_REFERENCE.sub("\ufffd", text))


# --- New words and quoted history ---

_DATED = re.compile(r"\d{4}|\d[:.]\d\d")
_TIMED = re.compile(r"@|\d[:.]\d\d")
_WROTE = re.compile(
    r"(?:\bwrote|\bwrites|\bschrieb|\bschreibt|a écrit|escribió|ha scritto|\bscrive|escreveu|\bschreef|\bnapisał"
    r"|\bpisze|\bнаписа[влт]|\bпише|\bskrev|kirjoitti|\bírta|\bnapsal|\bnapísal|\byazdı|\ba scris|έγραψε|写道|寫道"
    r"|のメッセージ|작성)"
    r"[^:：]{0,100}[:：]$"
)
_FROM_LINE = re.compile(
    r"\*?(?:From|Von|De|Da|Od|Van|Från|Fra|Lähettäjä|Feladó|Από|Kimden|De la|Expéditeur|Mittente|Remitente|Від|От"
    r"|Отправитель|差出人|送信者|发件人|寄件者|寄件人|보낸 사람)\*?\s?[:：]"
)
_ANY_FIELD_LINE = re.compile(r"\*?[^\W\d_][^:：]{0,30}[:：]")
_RULE = re.compile(r"[-_=*]{2,}$")
_NAMED_RULE = re.compile(r"-{2,}\s?\w[^-]{2,60}?\s?-{2,}$")
_FORWARDED = re.compile(
    r"forward|weitergeleitet|transf[eé]r|reenviad|inoltrat|przekazan|пересл|転送|转发|轉寄", re.IGNORECASE
)
_FORWARDED_SUBJECT = re.compile(r"(?:fwd?|wg|tr|rv|enc|i|pd|vb|vl|doorst|転送|转发|轉寄)\s?[:：]", re.IGNORECASE)
_LONGEST_HEADING = 300
_INTRODUCTION_LINES = 3


def _above_history(text: str) -> str:
    lines = [line.strip() if len(line) <= _LONGEST_HEADING else line[:1] for line in text.split("\n")]
    heading = _history_heading(lines)
    if heading is None:
        return text
    return "\n".join(text.split("\n")[: min(heading, _quote_at_the_end(lines))]).strip() or text


def _quote_at_the_end(lines: list[str]) -> int:
    """The line after which, but for the one that says who wrote it, there is nothing but quoted lines."""
    end = len(lines)
    while end and (not lines[end - 1] or lines[end - 1].startswith(">")):
        end -= 1
    if not any(lines[end:]):
        return len(lines)
    for first in range(end - 1, max(end - 1 - _INTRODUCTION_LINES, -1), -1):
        introduction = " ".join(lines[first:end])
        if not lines[first] or not introduction.endswith((":", "：")):
            break
        if _DATED.search(introduction):
            return first
    return end - 1 if end and _WROTE.search(lines[end - 1]) else end


def _history_heading(lines: list[str]) -> int | None:
    """The first line that heads a letter quoted without marks; None where what is below was forwarded, and is news."""
    for number, line in enumerate(lines):
        below = [other for other in lines[number + 1 : number + 8] if other][:3]
        fields = [_ANY_FIELD_LINE.match(other) is not None for other in below]
        named_rule = _NAMED_RULE.match(line)
        introduces = line.endswith((":", "："))
        if (named_rule or introduces) and _FORWARDED.search(line):
            return None
        if named_rule and fields[:1] == [True]:
            return number
        if _FROM_LINE.match(line) and sum(fields) > 1:
            return number - 1 if number and _RULE.match(lines[number - 1]) else number
        if introduces and _WROTE.search(line) and below and not below[0].startswith(">"):
            if _TIMED.search(line):
                return number
            if number and _TIMED.search(lines[number - 1]):
                return number - 1
    return len(lines)


# --- Attachments ---

_EXTENSIONS = mimetypes.MimeTypes()  # the built-in table alone: a machine's own differs from host to host
for _kind, _extension in (
    ("text/calendar", ".ics"),
    ("text/vcard", ".vcf"),
    ("text/rfc822-headers", ".txt"),
    ("message/global", ".eml"),
    ("image/webp", ".webp"),
    ("application/pgp-signature", ".asc"),
    ("application/pkcs7-signature", ".p7s"),
    ("application/x-pkcs7-signature", ".p7s"),
    ("application/ms-tnef", ".dat"),
):
    _EXTENSIONS.add_type(_kind, _extension)
_LETTERS = ("message/rfc822", "message/global", "message/news")
# Windows, ELF, Java and universal Mach-O, Mach-O, WebAssembly, Android, Windows shortcuts, scripts.
EXECUTABLE = re.compile(
    rb"MZ[^\0]{0,62}\0|\x7fELF|\xca\xfe\xba\xbe|\xfe\xed\xfa[\xce\xcf]|[\xce\xcf]\xfa\xed\xfe|\0asm|dex\n"
    rb"|L\0\0\0\x01\x14\x02\0|(?:\xef\xbb\xbf)?\s{0,100}(?:#!|<\?php|<script|<%@|@echo off)",
)
# Directional marks let "exe.fdp" read as "pdf.exe"; zero-width characters hide.
_MISLEADING = re.compile(r"[\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
_NAME_BYTES = 255
_ENCLOSED_HEADER_BYTES = 64 * 1024


def _attachments(files: list[_Part], limits: Limits) -> tuple[Attachment, ...]:
    left = limits.attachments_bytes
    attachments = list[Attachment]()
    for file in files:
        name, extension = _file_name(file)
        problem = "damaged" if file.damaged else None
        if extension not in limits.attachment_types or EXECUTABLE.match(file.content):
            problem = "type_not_allowed"
        elif len(file.content) > min(left, limits.attachment_bytes):
            problem = "too_large"
        content = file.content if problem in (None, "damaged") else b""
        left -= len(content)
        attachments.append(Attachment(name=name, content_type=file.kind, content=content, problem=problem))
    return tuple(attachments)


def _file_name(file: _Part) -> tuple[str, str]:
    """A name that is safe to offer for saving, and the extension that tells what the file is."""
    name = safe_file_name(file.name)
    letter = file.kind in _LETTERS
    if not name and letter and (subject := re.sub(r"[/\\]", "_", _decoded_words(_enclosed(file, "subject")))):
        name = safe_file_name(f"{subject}.eml")
    if "." in name:
        return name, name.rpartition(".")[2].lower()
    extension = ".eml" if letter else _EXTENSIONS.guess_extension(file.kind) or ""
    if extension in ("", ".bin"):
        extension = _recognised(file.content) or extension
    return name or f"attachment{extension}", extension.removeprefix(".")


def safe_file_name(text: str) -> str:
    name = _one_line(_MISLEADING.sub("", text)).replace("\\", "/").rpartition("/")[2].strip(" .'\"")
    stem, dot, extension = name.rpartition(".")
    room = _NAME_BYTES - len((dot + extension).encode())
    if not stem or room <= 0:
        return name.encode()[:_NAME_BYTES].decode(errors="ignore")
    return stem.encode()[:room].decode(errors="ignore") + dot + extension


def _recognised(content: bytes) -> str:
    try:
        return puremagic.from_string(content)
    except (puremagic.PureError, ValueError):
        return ""


def _enclosed(file: _Part, field: str) -> str:
    """A header field of a letter that is attached, or that a bounce returns."""
    head = file.content[:_ENCLOSED_HEADER_BYTES]
    blank = _BLANK_LINE.search(head)
    header = head[: blank.start()] if blank else head
    found = re.search(rb"^%b[ \t]*:((?>(?:.*\n[ \t])*).*)" % field.encode(), header, re.IGNORECASE | re.MULTILINE)
    return _decode(re.sub(rb"[\r\n]+", b"", found[1]), "", file.hint) if found else ""


# --- Who wrote, and what it belongs to ---

_MAILBOX_TOKEN = re.compile(
    rf"(?P<word>{_ENCODED_WORD})"
    r'|"(?P<quoted>(?>(?:[^"\\]|\\.)*))"'
    r"|(?P<comment>\((?>(?:[^()\\]|\\.|\((?>(?:[^()\\]|\\.)*)\))*)\))"
    r"|<(?P<angle>[^<>]*+)>*+|(?P<separator>[,;])|(?P<group>:)|(?P<text>\s++|[^\s\"(<,;:\\=]++|\\.|.)",
    re.DOTALL,
)
_MAILBOXES = 1000
_ADDRESS = re.compile(
    r"(?:[^\s\"(),:;<>@\[\\\]]++|\"[^\"\\]++\")"
    r"@(?!-)[\w\-\u0300-\U0010ffff]{1,63}(?<!-)(?>(?:\.(?!-)[\w\-\u0300-\U0010ffff]{1,63}(?<!-))*)"
)
_ADDRESS_BYTES = 254
_TAG_IN_SUBJECT = re.compile(r"\[#([0-9A-HJKMNP-TV-Z]{8})\]", re.IGNORECASE | re.ASCII)
_TAG_IN_ADDRESS = re.compile(r"[0-9A-HJKMNP-TV-Z]{8}", re.IGNORECASE | re.ASCII)
_COMMENT = re.compile(r"\([^()]*+\)")


def _mailboxes(value: str) -> list[tuple[str, str]]:
    """The usable mailboxes of a From-like field: (display name, address in lower case).

    A name never becomes an address, whatever it decodes to. A comma that should have been quoted ("Nubbins, Inc.
    <p@...>") leaves a piece without an address, which belongs to the name after it.
    """
    mailboxes = list[tuple[str, str]]()
    tokens = list[re.Match[str]]()
    for token in [*_MAILBOX_TOKEN.finditer(value), None]:
        if token is not None and token.lastgroup == "group":
            tokens = []
        elif token is not None and token.lastgroup != "separator":
            tokens.append(token)
        else:
            name, address = _mailbox(tokens)
            if address:
                mailboxes.append((name, address))
            if token is None or address or len(tokens) > _NAME_TOKENS or any("@" in piece[0] for piece in tokens):
                tokens = []
            elif tokens:
                tokens.append(token)
        if len(mailboxes) >= _MAILBOXES:
            break
    return mailboxes


_NAME_TOKENS = 50


def _mailbox(tokens: list[re.Match[str]]) -> tuple[str, str]:
    comments = [token["comment"][1:-1] for token in tokens if token["comment"]]
    angles = [token["angle"] for token in tokens if token["angle"] is not None]
    outside = [token for token in tokens if token["comment"] is None and token["angle"] is None]
    bare = "".join(token[0] for token in outside)
    if angles:
        addresses = set(filter(None, map(_address, angles)))
        words = "".join(
            token[0] if token["quoted"] is None else re.sub(r"\\(.)", r"\1", token["quoted"]) for token in outside
        )
    elif address := _address(bare):
        addresses, words = {address}, ""
    else:  # "Jan Kowalski jan@example.pl"
        addresses = set(filter(None, map(_address, (piece for piece in bare.split() if "@" in piece))))
        words = " ".join(piece for piece in bare.split() if "@" not in piece)
    name = _one_line(_MISLEADING.sub("", _decoded_words(words.strip() or " ".join(comments))))
    return name, addresses.pop() if len(addresses) == 1 else ""


def _address(text: str) -> str:
    """One address in lower case, "" where it is none (RFC 5321, RFC 6531)."""
    text = "@".join(".".join(piece.strip() for piece in half.split(".")) for half in text.split("@"))
    text = text.rpartition(":")[2] if text.startswith("@") else text.removeprefix("mailto:")
    text = re.sub(r'^"([\w.+-]+)"@', r"\1@", text.removesuffix("."))
    lowered = text.lower()
    # The Kelvin sign is "k" in lower case: lowering must not make an address somebody else's.
    honest = lowered.isascii() == text.isascii() and text.isprintable() and len(text.encode()) <= _ADDRESS_BYTES
    return lowered if honest and _ADDRESS.fullmatch(text) else ""


def plus_part(address: str, support_address: str) -> str | None:
    """What follows the plus sign in an address of the desk, "" where nothing does, None for any other address.

    `address` is in lower case.
    """
    local, _, domain = address.rpartition("@")
    own, _, own_domain = support_address.lower().rpartition("@")
    if domain != own_domain or not f"{local}+".startswith(f"{own}+"):
        return None
    return local[len(own) + 1 :]


def _tags(root: _Part, subject: str, support_address: str) -> tuple[str, ...]:
    recipients = (value for field in ("to", "cc", "delivered-to") for value in root.all(field))
    plus_parts = (plus_part(address, support_address) for value in recipients for _, address in _mailboxes(value))
    in_addresses = [part for part in plus_parts if part and _TAG_IN_ADDRESS.fullmatch(part)]
    return tuple(dict.fromkeys(tag.upper() for tag in [*_TAG_IN_SUBJECT.findall(subject), *in_addresses]))


def _message_ids(*values: str) -> tuple[str, ...]:
    """The ids in order, each once. Some programs leave out the brackets; some fold an id, so that a blank is in it."""
    ids = list[str]()
    for value in values:
        bare = (f"<{word}>" for word in value.split() if "@" in word)
        ids += re.findall(r"<[^<>]{1,998}>", value) if "<" in value else bare
    joined = ("".join(found.split()) for found in ids)
    return tuple(dict.fromkeys(found for found in joined if found.isprintable() and found != "<>"))


def _received_at(root: _Part, arrived_at: datetime, trusted_host: str | None, *, trust_dates: bool) -> datetime:
    received = root.first("received")
    host = re.match(r"\s*+(?:from\s++\S++\s++)?by\s++(\S++)", _COMMENT.sub("", received), re.IGNORECASE)
    ours = trusted_host is None or (host is not None and _same_host(host[1], trusted_host))
    times = (root.first("date") if trust_dates else "", received.rpartition(";")[2] if ours else "")
    return next(filter(None, map(_moment, times)), arrived_at.astimezone(UTC))


def _same_host(name: str, trusted_host: str) -> bool:
    return name.lower().strip('";').rstrip(".") == trusted_host.lower()


def _moment(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text[:200])
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _authentication(root: _Part, trusted_host: str | None) -> str | None:
    """What our own server found out about the sender (RFC 8601); such a header further down can be anybody's."""
    value = root.first("authentication-results")
    return _one_line(value) if _is_said_by(value, trusted_host) else None


def _is_said_by(results: str, trusted_host: str | None) -> bool:
    server = _COMMENT.sub("", results).partition(";")[0].split()
    return trusted_host is not None and bool(server) and _same_host(server[0], trusted_host)


def _is_forged(root: _Part, trusted_host: str | None) -> bool:
    """A server may write a header for each check; whoever writes one in its name can only speak against themselves."""
    said = (value for value in root.all("authentication-results") if _is_said_by(value, trusted_host))
    found = (result for value in said for result in _COMMENT.sub("", value).lower().split(";"))
    return any(re.match(r"\s*dmarc\s*=\s*fail\b", result) for result in found)


def _digest(root: _Part, sender: str, message_id: str | None, subject: str) -> bytes:
    """Of what the sender wrote and no server touches, each piece with its length so that none runs into the next."""
    digest = sha256()
    pieces = [sender, message_id or "", subject, _one_line(root.first("date"))]
    for part in root.descendants():
        content = part.content if part.base64 else part.content.replace(b"\r", b"").rstrip(b"\n")
        pieces += [part.kind, part.name, sha256(content).hexdigest()]
    for piece in pieces:
        data = piece.encode()
        digest.update(b"%d:%b" % (len(data), data))
    return digest.digest()


# --- Mail that no person wrote ---

_ANSWERED_BY_MACHINE = (
    *("x-autoreply", "x-autorespond", "x-auto-reply", "x-auto-respond", "x-autoresponse", "x-autoresponder"),
    *("x-autoreply-from", "x-auto-reply-from", "x-mail-autoreply", "x-vacation"),
)
_NO_REPLY = re.compile(
    r"(?:.*[-_.+])?(?:no|do[-_.]?not|dont)[-_.]?reply(?:[-_.+\d].*)?|(?:ne[-_.]?pas[-_.]?repondre|no[-_.]?responder"
    r"|n[aã]o[-_.]?responda|nicht[-_.]?antworten|keine[-_.]?antwort)"
)
_MAILER_DAEMON = re.compile(r"mailer[-_.]?daemon")
_DELAY_SUBJECT = re.compile(
    r"delay|warning: (?:could not send|message)|still being retried|not yet been delivered|verzögert|retard[ée]|затрим",
    re.IGNORECASE,
)
_FAILURE_SUBJECT = re.compile(
    r"undeliver|deliver(?:y|ed).*(?:fail|status|delay|problem)|failure notice|returned mail|mail delivery|unzustellbar"
    r"|non remis|no se (?:puede|pudo) entregar|mancato recapito|niedostarcz|не доставлен|недоставлен|配信|退信",
    re.IGNORECASE,
)
_ABSENCE_SUBJECT = re.compile(
    r"auto(?:matic|mated)?[-\s]?(?:reply|response|answer)|out of (?:the )?office|on (?:vacation|holiday)"
    r"|abwesen|automatische antwort|réponse automatique|absen[ct]|respuesta automática|fuera de (?:la )?oficina"
    r"|risposta automatica|fuori sede|resposta automática|ausência|automatyczna odpowiedź|nieobecn|afwezig"
    r"|automatisch antwoord|autosvar|automatiskt svar|frånvar|fravær|poissa|automaattinen|автоответ|автоматич"
    r"|отсутств|відсутн|自動返信|自動応答|不在|自动回复|自動回覆|부재|자동|otomatik yanıt|automatická odpov"
    r"|automatikus válasz|αυτόματη απάντηση|răspuns automat",
    re.IGNORECASE,
)


def _why_automatic(root: _Part, subject: str, senders: list[str], support_address: str) -> str | None:
    """Why nobody is to be answered (RFC 3834, RFC 3464): the surest signs first, a subject only beside another sign."""
    if any(plus_part(sender, support_address) is not None for sender in senders):
        return "own_address"
    if _has_been_here(root, support_address):
        return "loop"
    local = senders[0].rpartition("@")[0] if senders else ""
    no_return = root.first("return-path").replace(" ", "") == "<>"
    report = next((part for part in root.descendants() if part.kind == "multipart/report"), None)
    if _is_bounce(root, subject, local, report, no_return=no_return):
        return "bounce"
    if report:
        return "report"
    submitted = {_COMMENT.sub("", value).partition(";")[0].strip().lower() for value in root.all("auto-submitted")} - {
        ""
    }
    by_machine = bool(submitted - {"no"})
    is_reply = by_machine and any(map(_is_calendar_reply, root.descendants()))
    if by_machine and not is_reply:
        return "auto_submitted"
    precedence = root.first("precedence").lower()
    if precedence == "list" or any(name.startswith("list-") or name == "mailing-list" for name, _ in root.fields):
        return "list"
    if precedence in ("bulk", "junk"):
        return "bulk"
    if no_return:
        return "empty_return_path"
    if submitted:  # "Auto-Submitted: no" says that a person wrote it
        return "calendar_reply" if is_reply else None
    if precedence == "auto_reply" or _answered_by_machine(root, subject):
        return "auto_reply"
    return "no_reply" if _NO_REPLY.fullmatch(local) else None


def _has_been_here(root: _Part, support_address: str) -> bool:
    """As programs say that break loops."""
    looped = (address for value in root.all("x-loop") for _, address in _mailboxes(value))
    return any(plus_part(address, support_address) is not None for address in looped)


def _is_bounce(root: _Part, subject: str, local: str, report: _Part | None, *, no_return: bool) -> bool:
    failure = _FAILURE_SUBJECT.search(subject) is not None
    if report and (_delivery_status(report) or failure):
        return True
    if _MAILER_DAEMON.fullmatch(local) or root.first("x-failed-recipients"):
        return True
    return failure and (no_return or local == "postmaster")


def _answered_by_machine(root: _Part, subject: str) -> bool:
    if any(root.first(name).lower() not in ("", "no", "false", "0") for name in _ANSWERED_BY_MACHINE):
        return True
    suppressed = {kind.strip().lower() for kind in root.first("x-auto-response-suppress").split(",")} - {"", "none"}
    # Whoever suppresses only receipts may be a person with a peculiar mail program.
    return bool(suppressed & {"all", "oof", "autoreply"} or (suppressed and _ABSENCE_SUBJECT.search(subject)))


def _delivery_status(report: _Part) -> _Part | None:
    kinds = ("message/delivery-status", "message/global-delivery-status")
    return next((part for part in report.descendants() if part.kind in kinds), None)


def _undelivered(root: _Part, subject: str, text: str, references: tuple[str, ...]) -> tuple[str, ...]:
    """Which letters came back: by the returned letter, else by the text that quotes it, else by what it answers."""
    if not _is_final(_delivery_status(root), subject):
        return ()  # only late, or passed on
    kinds = (*_LETTERS, "text/rfc822-headers", "message/global-headers")
    returned = _message_ids(*(_enclosed(part, "message-id") for part in root.descendants() if part.kind in kinds))
    quoted = re.findall(r"^[>\s]{0,10}Message-ID:(.{0,1000})", text, re.IGNORECASE | re.MULTILINE)
    return returned or _message_ids(*quoted) or references


def _is_final(status: _Part | None, subject: str) -> bool:
    content = status.content.lower() if status else b""
    if actions := re.findall(rb"^action:\s*+([a-z]++)", content, re.MULTILINE):
        return b"failed" in actions
    if statuses := re.findall(rb"^status:\s*+([245])\.", content, re.MULTILINE):
        return b"5" in statuses
    return _DELAY_SUBJECT.search(subject) is None


def _diagnosis(root: _Part) -> str:
    status = _delivery_status(root)
    content = status.content.replace(b"\r", b"") if status else b""
    said = re.search(
        rb"^diagnostic-code:[ \t]*+(?:[\w-]++;)?((?:[^\n]++|\n[ \t])*+)", content, re.IGNORECASE | re.MULTILINE
    )
    code = re.search(rb"^status:[ \t]*+([^\n]++)", content, re.IGNORECASE | re.MULTILINE)
    found = said or code
    return _one_line(_decode(found[1], ""))[:_DIAGNOSIS_CHARACTERS] if found else ""


_DIAGNOSIS_CHARACTERS = 500
