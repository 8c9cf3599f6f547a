"""Settings: one typed class, read from CASEWORK_* at start and passed in."""

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from workflow.effects import LETTERS, EffectKind
from workflow.errors import UnknownTimeZone
from workflow.timezones import zone


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
        description="smtp[s]://[user:password@]host[:port]: what mail leaves by, letters to clients included",
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
    webhook_networks: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = Field(
        default=(),
        description="such as 10.1.0.0/16,fd12::/16: where webhooks may go besides public addresses, without TLS too",
    )
    verify_every: float | None = Field(
        default=None, gt=0, description="hours between the verifications that serve makes; if not set, none"
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

    @field_validator("webhook_networks", mode="before")
    @classmethod
    def separated_by_commas(cls, networks: object) -> object:
        return [one.strip() for one in networks.split(",") if one.strip()] if isinstance(networks, str) else networks

    @field_validator("public_url", "oidc_issuer")
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
        return WEBHOOKS | (LETTERS if self.smtp_url else frozenset())

    @property
    def secret(self) -> bytes:
        return self.secret_key.get_secret_value().encode() if self.secret_key else b""


MIN_SECRET_CHARACTERS = 32

WEBHOOKS = frozenset({EffectKind.WEBHOOK})  # planned wherever there is an endpoint, which is in the log

LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]", "::1"})


def is_unheard(url: str) -> bool:
    """Whether nobody can listen on the way there: over TLS, or on this very machine."""
    parts = urlsplit(url)
    return bool(parts.hostname) and (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK))
