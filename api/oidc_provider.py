"""What the desk asks an OpenID Connect provider, and what of its answers it believes.

The authorization code flow with PKCE (OpenID Connect Core 1.0 §3.1, RFC 7636). Who somebody is, issuer and subject say
together; addresses and names that a provider tells are not even read.
"""

import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import httpx2
import msgspec
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.httpx_client import AsyncOAuth2Client
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet

from api.oidc import Attempt, NotVouchedFor, ProviderAway
from api.settings import Settings, is_unheard
from workflow.errors import BadInput
from workflow.people import check_identity

# Signatures that only the holder of a private key can make: never `none`, nor one by a secret that both sides have.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519")

ANSWER_SECONDS = 10.0
MAX_ANSWER_BYTES = 256 * 1024
CACHED_SECONDS = 3600.0
ASKED_AGAIN_SECONDS = 60.0  # for keys, after one that is not known: whoever makes them up must not make us ask
SKEW_SECONDS = 60
MAX_AGE_SECONDS = 600  # of what vouches for somebody who has just come from there
ATTEMPT = timedelta(minutes=10)
KNOWN_ATTEMPTS = 10_000


class Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """As OpenID Connect Discovery 1.0 §3 names it."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    authorization_response_iss_parameter_supported: bool = False


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """Of an id token, those that are looked at; each has to be of its type."""

    iss: str
    sub: str
    aud: str | tuple[str, ...]
    exp: float
    iat: float
    nonce: str
    nbf: float = 0
    azp: str | None = None


class Provider:
    """The one that the settings name. What it publishes is asked for when it is first needed, and then once an hour."""

    def __init__(self, settings: Settings, clock: Callable[[], datetime]) -> None:
        self.issuer = settings.oidc_issuer or ""
        self.client_id = settings.oidc_client_id
        secret = settings.oidc_client_secret
        self.secret = secret.get_secret_value() if secret else None
        self.name = settings.oidc_name
        self.clock = clock
        self.known_metadata: Metadata | None = None
        self.known_keys: KeySet | None = None
        self.metadata_read_at = self.keys_read_at = 0.0
        self.used: OrderedDict[str, datetime] = OrderedDict()

    # There.

    async def begin(self, redirect_uri: str, target: str) -> tuple[str, Attempt]:
        """Where to send the browser, and what it has to bring back. Raises ProviderAway."""
        metadata = await self.metadata()
        attempt = Attempt(
            state=secrets.token_urlsafe(32),
            nonce=secrets.token_urlsafe(32),
            verifier=secrets.token_urlsafe(48),
            target=target,
            ends_at=self.clock() + ATTEMPT,
        )
        async with self.client(metadata, redirect_uri) as client:
            url, _ = client.create_authorization_url(
                metadata.authorization_endpoint,
                state=attempt.state,
                code_verifier=attempt.verifier,
                nonce=attempt.nonce,
            )
        return str(url), attempt

    # And back.

    async def vouched_for(self, attempt: Attempt, answer: dict[str, str], redirect_uri: str) -> tuple[str, str]:
        """Issuer and subject of whoever comes back with this answer. Raises NotVouchedFor and ProviderAway."""
        if "error" in answer:  # which some say without the state
            raise NotVouchedFor("refused_by_the_provider")
        self.use_up(attempt, answer)
        metadata = await self.metadata()
        if answer.get("iss", metadata.issuer) != metadata.issuer or (  # RFC 9207: another provider's answer
            metadata.authorization_response_iss_parameter_supported and "iss" not in answer
        ):
            raise NotVouchedFor("iss_of_the_answer")
        if not answer.get("code"):
            raise NotVouchedFor("no_code")
        token = await self.exchange(metadata, answer["code"], attempt.verifier, redirect_uri)
        claims = await self.claims_of(token)
        return self.believed(claims, attempt.nonce)

    def use_up(self, attempt: Attempt, answer: dict[str, str]) -> None:
        """Each attempt is good once, in this process; that its code is good once is the provider's to see to."""
        now = self.clock()
        if not hmac.compare_digest(attempt.state.encode(), answer.get("state", "").encode()):
            raise NotVouchedFor("state")
        if attempt.ends_at <= now:
            raise NotVouchedFor("too_late")
        if attempt.state in self.used:
            raise NotVouchedFor("used_already")
        self.used[attempt.state] = attempt.ends_at
        while len(self.used) > KNOWN_ATTEMPTS or next(iter(self.used.values())) <= now:
            self.used.popitem(last=False)

    async def exchange(self, metadata: Metadata, code: str, verifier: str, redirect_uri: str) -> str:
        """The id token that a code is good for."""
        try:
            async with self.client(metadata, redirect_uri) as client:
                token = await client.fetch_token(
                    metadata.token_endpoint,
                    grant_type="authorization_code",
                    code=code,
                    code_verifier=verifier,
                )
        except AuthlibBaseError as refused:
            raise NotVouchedFor("code") from refused
        except (httpx2.HTTPError, ValueError) as failure:
            raise ProviderAway(str(failure)) from failure
        if not isinstance(id_token := token.get("id_token"), str):
            raise NotVouchedFor("no_id_token")
        return id_token

    async def claims_of(self, token: str) -> Claims:
        """What a token says that is signed with a key of the provider's."""
        try:
            try:
                read = jwt.decode(token, await self.keys(), algorithms=ALGORITHMS)
            except InvalidKeyIdError:  # a new one, perhaps
                read = jwt.decode(token, await self.keys(anew=True), algorithms=ALGORITHMS)
        except (JoseError, ValueError) as failure:
            raise NotVouchedFor("signature") from failure
        try:
            return msgspec.convert(read.claims, Claims)
        except msgspec.ValidationError as failure:
            raise NotVouchedFor("claims") from failure

    def believed(self, claims: Claims, nonce: str) -> tuple[str, str]:
        """OpenID Connect Core 1.0 §3.1.3.7."""
        now = self.clock().timestamp()
        audience = (claims.aud,) if isinstance(claims.aud, str) else claims.aud
        checks = {
            "iss": claims.iss == self.issuer,
            "aud": self.client_id in audience,
            "azp": claims.azp == self.client_id or (claims.azp is None and len(audience) == 1),
            "exp": now < claims.exp + SKEW_SECONDS,
            "nbf": claims.nbf - SKEW_SECONDS <= now,
            "iat": now - MAX_AGE_SECONDS - SKEW_SECONDS <= claims.iat <= now + SKEW_SECONDS,
            "nonce": claims.nonce == nonce,
        }
        for name, holds in checks.items():
            if not holds:
                raise NotVouchedFor(name)
        try:
            check_identity(claims.iss, claims.sub)
        except BadInput as bad:
            raise NotVouchedFor("sub") from bad
        return claims.iss, claims.sub

    # What the provider publishes.

    async def metadata(self) -> Metadata:
        """Raises ProviderAway."""
        now = time.monotonic()
        if self.known_metadata is None or now - self.metadata_read_at > CACHED_SECONDS:
            url = f"{self.issuer.rstrip('/')}/.well-known/openid-configuration"
            try:
                found = msgspec.json.decode(await fetched(url), type=Metadata)
            except msgspec.MsgspecError as strange:
                raise ProviderAway(f"{url} is no discovery document: {strange}") from strange
            if found.issuer != self.issuer:
                raise ProviderAway(f"{url} is of the issuer {found.issuer}, and CASEWORK_OIDC_ISSUER is {self.issuer}")
            for one in (found.authorization_endpoint, found.token_endpoint, found.jwks_uri):
                if not is_unheard(one):
                    raise ProviderAway(f"{url} sends where others can listen: {one}")
            self.known_metadata, self.metadata_read_at = found, now
        return self.known_metadata

    async def keys(self, *, anew: bool = False) -> KeySet:
        """Raises ProviderAway."""
        age = time.monotonic() - self.keys_read_at
        if self.known_keys is None or age > (ASKED_AGAIN_SECONDS if anew else CACHED_SECONDS):
            content = await fetched((await self.metadata()).jwks_uri)
            try:
                self.known_keys = KeySet.import_key_set(msgspec.json.decode(content, type=dict[str, Any]))  # type: ignore[arg-type]
            except (JoseError, KeyError, TypeError, ValueError) as strange:
                raise ProviderAway(f"the provider's keys cannot be read: {strange}") from strange
            self.keys_read_at = time.monotonic()
        return self.known_keys

    def client(self, metadata: Metadata, redirect_uri: str) -> Any:
        methods = metadata.token_endpoint_auth_methods_supported
        method = "client_secret_basic" if "client_secret_basic" in methods else "client_secret_post"
        return AsyncOAuth2Client(
            client_id=self.client_id,
            client_secret=self.secret,
            token_endpoint_auth_method=method if self.secret else "none",
            redirect_uri=redirect_uri,
            scope="openid",
            code_challenge_method="S256",
            timeout=ANSWER_SECONDS,
            follow_redirects=False,
        )


async def fetched(url: str) -> bytes:
    """Raises ProviderAway."""
    content = b""
    try:
        async with (
            httpx2.AsyncClient(timeout=ANSWER_SECONDS, follow_redirects=False) as client,
            client.stream("GET", url, headers={"accept": "application/json"}) as response,
        ):
            response.raise_for_status()
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > MAX_ANSWER_BYTES:
                    raise ProviderAway(f"{url} says too much")
    except (httpx2.HTTPError, httpx2.InvalidURL) as failure:
        raise ProviderAway(f"{url}: {failure}") from failure
    return content
