"""Settings: one typed class, read from CASEWORK_* at start and passed in."""

import base64
import binascii
import json
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import unquote, urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from api.letters.languages import codes
from api.mail_addresses import Unmailable, mailbox_of
from api.smtp_server import NoSmtpServer, smtp_server
from workflow.effects import LETTERS, EffectKind
from workflow.errors import UnknownTimeZone
from workflow.timezones import zone

IMAP_PORTS = {"imaps": 993, "imap": 143, "imap+starttls": 143}


class MailboxSettings(BaseModel):
    """One mailbox that is read by IMAP, by exactly one of a password, a command that prints one, or one for a token.

    `url` is imaps://, imap:// (in the clear on this very machine alone, else with STARTTLS) or imap+starttls://.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(description="imaps://user@host[:port][/FOLDER]; INBOX, if none is named")
    password: SecretStr | None = None
    password_command: tuple[str, ...] = Field(default=(), description="prints the password")
    token_command: tuple[str, ...] = Field(default=(), description="prints an access token, for XOAUTH2")
    taken: str = Field(default="Casework", min_length=1, description="the folder for mail that the desk has")

    @field_validator("url")
    @classmethod
    def of_a_mailbox(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError:
            raise ValueError("has to name its host and port like imaps://user@host:993/INBOX") from None
        if parts.scheme not in IMAP_PORTS or not parts.hostname or not parts.username:
            raise ValueError("has to be like imaps://user@host/INBOX, or begin with imap:// or imap+starttls://")
        if parts.password is not None:
            raise ValueError("must not hold the password: give it as password, or by a password_command")
        return url

    @model_validator(mode="after")
    def one_way_in(self) -> Self:
        given = (self.password is not None, bool(self.password_command), bool(self.token_command))
        if sum(given) != 1:
            raise ValueError("needs exactly one of password, password_command and token_command")
        if self.taken == self.folder:
            raise ValueError("taken has to be another folder than the one that is read")
        return self

    @property
    def scheme(self) -> str:
        return urlsplit(self.url).scheme

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or IMAP_PORTS[self.scheme]

    @property
    def user(self) -> str:
        return unquote(urlsplit(self.url).username or "")

    @property
    def folder(self) -> str:
        return unquote(urlsplit(self.url).path.removeprefix("/")) or "INBOX"


class PaymentMethod(StrEnum):
    MANUAL = "manual"  # a person pays, and confirms it with the payment's reference
    STRIPE = "stripe"


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="CASEWORK_", extra="ignore")

    database_url: str = Field(default="sqlite:///casework.db", description="sqlite:///path or postgresql://…")
    owner_url: str | None = Field(
        default=None, description="PostgreSQL: the role that owns the tables, for migrate only"
    )
    key_folder: Path | None = Field(
        default=None,
        description="holds the key and the last of the log's signed checkpoints; if not set, where the SQLite file is,"
        " or the working directory",
    )
    erasure_folder: Path | None = Field(
        default=None, description="holds the journal of erasures; if not set, the folder of the signing key"
    )
    public_audit_log: bool = Field(default=False, description="serve /audit/ to anybody, without a token")
    smtp_url: SecretStr | None = Field(
        default=None,
        description="smtp[s]://[user:password@]host[:port][?starttls=never]: what mail leaves by, letters to clients"
        " included",
    )
    language: str = Field(default="en", description="of letters to clients whose own language is not recognised")
    acknowledgements_per_hour: int = Field(
        default=1_000, ge=1, description="of inquiries; those beyond it are sent later"
    )
    timezone: str = Field(default="UTC", description="IANA name; fixed when the desk is created")
    secret_key: SecretStr | None = Field(
        default=None, description="keys the fingerprints of requests; at least 32 characters"
    )
    organisation: str = Field(default="Step-Into", description="the agency's name, as its clients know it")
    support_address: str = Field(default="support@localhost", description="the address that clients write to")
    mail_host: str | None = Field(
        default=None, description="our own mail server, whose Received and Authentication-Results count"
    )
    mailboxes: Annotated[tuple[MailboxSettings, ...], NoDecode] = Field(
        default=(), description="a JSON list of mailboxes to fetch mail from, each with url and a way to sign in"
    )
    lmtp: str | None = Field(
        default=None, description="where to take mail from one's own mail server: 127.0.0.1:24, or unix:/path"
    )
    lmtp_anywhere: bool = Field(
        default=False, validate_default=True, description="let CASEWORK_LMTP be another address than this machine's own"
    )
    public_url: str | None = Field(
        default=None, description="where people reach the desk, such as https://desk.example.com; links lead there"
    )
    oidc_issuer: str | None = Field(
        default=None,
        description="an OpenID Connect provider, by the URL that it calls itself; people may sign in by it",
    )
    oidc_client_id: str = Field(default="", validate_default=True, description="as the provider knows the desk")
    oidc_client_secret: SecretStr | None = None
    oidc_name: str = Field(default="single sign-on", description="what the button on the sign-in page says it is")
    payments: PaymentMethod = Field(
        default=PaymentMethod.MANUAL, description="how approved refunds are paid: manual or stripe"
    )
    stripe_key: SecretStr | None = Field(
        default=None, validate_default=True, description="a secret or restricted key that may make and read refunds"
    )
    stripe_webhook_secret: SecretStr | None = Field(
        default=None, description="of the endpoint /v1/payments/stripe; without it refunds are only polled"
    )
    stripe_url: str | None = Field(default=None, description="where Stripe's API is, if not where it always is")
    granting_secret: SecretStr | None = Field(
        default=None,
        description="whsec_…: what a system that grants compensations signs its confirmations with (Standard Webhooks)",
    )
    webhook_networks: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = Field(
        default=(),
        description="such as 10.1.0.0/16,fd12::/16: where webhooks may go besides public addresses, without TLS too",
    )
    verify_every: float | None = Field(
        default=None, gt=0, description="hours between the verifications that serve makes; if not set, none"
    )
    work_inside: bool = Field(
        default=True, description="serve carries out effects and receives mail itself; not where casework work does"
    )
    log_level: Annotated[str, Field(pattern="^(debug|info|warning|error)$")] = "info"
    max_body_bytes: int = Field(default=1_000_000, ge=10_000, description="of a JSON request")
    max_attachment_bytes: int = Field(default=10_000_000, ge=10_000, description="of one evidence file")

    @field_validator("timezone")
    @classmethod
    def known_zone(cls, name: str) -> str:
        try:
            zone(name)
        except UnknownTimeZone as unknown:
            raise ValueError("is not a time zone of the IANA database, such as Europe/Kyiv") from unknown
        return name

    @field_validator("mailboxes", mode="before")
    @classmethod
    def from_json(cls, given: Any) -> Any:
        if not isinstance(given, str):
            return given
        try:
            return json.loads(given or "[]")
        except ValueError:
            raise ValueError("has to be a JSON list of objects") from None  # what it holds may be secret

    @field_validator("lmtp_anywhere")
    @classmethod
    def heard_by_ones_own(cls, anywhere: bool, info: ValidationInfo) -> bool:  # noqa: FBT001 - as pydantic calls it
        place = info.data.get("lmtp")
        if place and not place.startswith("unix:") and not anywhere and lmtp_place(place)[0] not in LOOPBACK:
            raise ValueError("has to be true for CASEWORK_LMTP to be an address that others can reach")
        return anywhere

    @field_validator("lmtp")
    @classmethod
    def somewhere_to_listen(cls, place: str | None) -> str | None:
        if place and not place.startswith("unix:/"):
            lmtp_place(place)
        return place or None

    @field_validator("smtp_url")
    @classmethod
    def names_a_mail_server(cls, url: SecretStr | None) -> SecretStr | None:
        if not url:
            return None
        try:
            smtp_server(url.get_secret_value())
        except NoSmtpServer as unfit:
            raise ValueError(str(unfit)) from None
        return url

    @field_validator("support_address")
    @classmethod
    def can_send(cls, address: str, info: ValidationInfo) -> str:
        try:
            mailbox_of(address)
        except Unmailable:
            if info.data.get("smtp_url"):
                raise ValueError("has to be a plain address, like support@example.com") from None
        return address

    @field_validator("language")
    @classmethod
    def known_language(cls, code: str) -> str:
        if code not in codes():
            raise ValueError(f"is none that letters are written in: {', '.join(codes())}")
        return code

    @field_validator("webhook_networks", mode="before")
    @classmethod
    def separated_by_commas(cls, networks: object) -> object:
        return [one.strip() for one in networks.split(",") if one.strip()] if isinstance(networks, str) else networks

    @field_validator("public_url", "oidc_issuer", "stripe_url")
    @classmethod
    def unheard_by_others(cls, url: str | None) -> str | None:
        if url and not is_unheard(url):
            raise ValueError("has to be an https:// URL, or one on this very machine")
        return url or None

    @field_validator("oidc_client_id")
    @classmethod
    def given_with_an_issuer(cls, client_id: str, info: ValidationInfo) -> str:
        if info.data.get("oidc_issuer") and not client_id:
            raise ValueError("is needed with CASEWORK_OIDC_ISSUER")
        return client_id

    @field_validator("stripe_key")
    @classmethod
    def given_with_stripe(cls, key: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if info.data.get("payments") is PaymentMethod.STRIPE and not key:
            raise ValueError("is needed with CASEWORK_PAYMENTS=stripe")
        return key

    @field_validator("granting_secret")
    @classmethod
    def can_sign(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret and not is_signing_secret(secret.get_secret_value()):
            raise ValueError(f"has to be whsec_ and at least {MIN_SIGNING_BYTES} bytes in base64")
        return secret or None

    @property
    def keys_in(self) -> Path:
        if self.key_folder is not None:
            return self.key_folder
        is_file = self.database_url.startswith("sqlite:///")
        return Path(self.database_url.removeprefix("sqlite:///")).parent if is_file else Path()

    @property
    def erasures_in(self) -> Path:
        return self.keys_in if self.erasure_folder is None else self.erasure_folder

    @property
    def effects(self) -> frozenset[EffectKind]:
        """What can be carried out with these settings."""
        letters = LETTERS if self.smtp_url else frozenset()
        payments = frozenset({EffectKind.PAY}) if self.payments is PaymentMethod.STRIPE else frozenset()
        return WEBHOOKS | letters | payments

    @property
    def secret(self) -> bytes:
        return self.secret_key.get_secret_value().encode() if self.secret_key else b""


MIN_SECRET_CHARACTERS = 32
MIN_SIGNING_BYTES = 24  # as Standard Webhooks asks for

WEBHOOKS = frozenset({EffectKind.WEBHOOK})  # planned wherever there is an endpoint, which is in the log

LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]", "::1"})


def lmtp_place(place: str) -> tuple[str, int]:
    """Host and port. Raises ValueError."""
    host, _, port = place.rpartition(":")
    if not host or not port.isdecimal() or int(port) > MAX_PORT:
        raise ValueError("has to be like 127.0.0.1:24 or unix:/run/casework/lmtp")
    return host.strip("[]"), int(port)


MAX_PORT = 65535


def is_signing_secret(secret: str) -> bool:
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        return False
    return secret.startswith("whsec_") and len(key) >= MIN_SIGNING_BYTES


def is_unheard(url: str) -> bool:
    """Whether nobody can listen on the way there: over TLS, or on this very machine."""
    parts = urlsplit(url)
    return bool(parts.hostname) and (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK))
