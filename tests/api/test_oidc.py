"""What the desk believes of a provider: what it has signed, says to us, and says now."""

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey
from pydantic import ValidationError
from starlette.responses import JSONResponse, Response

from api.oidc import NotVouchedFor, ProviderAway
from api.oidc_provider import Provider
from api.settings import Settings
from tests.api.driving import Clock
from tests.api.provider import CLIENT, SECRET, Company, open_for_business

BACK = "https://desk.example/oidc/callback"


@pytest.fixture
async def company(clock: Clock) -> AsyncIterator[Company]:
    async with open_for_business(Company(clock)) as company:
        yield company


async def vouched_for(company: Company) -> tuple[str, str]:
    """Whom the provider knows, when somebody goes there and comes back."""
    settings = Settings(oidc_issuer=company.url, oidc_client_id=CLIENT, oidc_client_secret=SECRET)  # type: ignore[arg-type]
    provider = Provider(settings, company.clock)
    url, attempt = await provider.begin(BACK, "/")
    company.sent(url)
    return await provider.vouched_for(attempt, {"code": "good", "state": attempt.state}, BACK)


async def why_not(company: Company) -> str:
    with pytest.raises(NotVouchedFor) as refused:
        await vouched_for(company)
    return refused.value.why


async def test_who_somebody_is_issuer_and_subject_say_together(company: Company) -> None:
    assert await vouched_for(company) == (company.url, company.subject)


def without(name: str) -> Any:
    return lambda claims: {key: value for key, value in claims.items() if key != name}


def later(**seconds: float) -> Any:
    return lambda claims: claims | {name: int(claims["iat"] + by) for name, by in seconds.items()}


def saying(**claims: Any) -> Any:
    return lambda usual: usual | claims


LIES: dict[str, tuple[Any, str]] = {
    "another nonce": (saying(nonce="another"), "nonce"),
    "no nonce": (without("nonce"), "claims"),
    "another issuer": (saying(iss="https://id.elsewhere.example"), "iss"),
    "an issuer with a slash more": (lambda usual: usual | {"iss": usual["iss"] + "/"}, "iss"),
    "no issuer": (without("iss"), "claims"),
    "another audience": (saying(aud="another"), "aud"),
    "an empty audience": (saying(aud=[]), "aud"),
    "other audiences": (saying(aud=["another", "third"]), "aud"),
    "several audiences and no party": (saying(aud=[CLIENT, "another"]), "azp"),
    "another party": (saying(azp="another"), "azp"),
    "no audience": (without("aud"), "claims"),
    "expired": (later(exp=-61), "exp"),
    "expires at no number": (saying(exp=float("nan")), "exp"),
    "expires in words": (saying(exp="2099-01-01"), "claims"),
    "expires truly": (saying(exp=True), "claims"),
    "never expires": (without("exp"), "claims"),
    "long ago": (later(iat=-1000), "iat"),
    "in the future": (later(iat=1000), "iat"),
    "at no time": (without("iat"), "claims"),
    "not yet": (later(nbf=120), "nbf"),
    "an empty subject": (saying(sub=""), "sub"),
    "a long subject": (saying(sub="x" * 256), "sub"),
    "a subject in another script": (saying(sub="Ана"), "sub"),
    "a subject with a NUL": (saying(sub="a\x00b"), "sub"),
    "a number for a subject": (saying(sub=5), "claims"),
    "nothing for a subject": (saying(sub=None), "claims"),
    "no subject": (without("sub"), "claims"),
}


@pytest.mark.parametrize("lie", LIES)
async def test_what_is_not_said_to_us_now_is_not_believed(company: Company, lie: str) -> None:
    company.claims, why = LIES[lie]
    assert await why_not(company) == why


TRUTHS: dict[str, Any] = {
    "one audience in a list": saying(aud=[CLIENT]),
    "several audiences, and the party": saying(aud=[CLIENT, "another"], azp=CLIENT),
    "a clock that is late": later(iat=-50, exp=-50),
    "far in the future": saying(exp=1e12),
}


@pytest.mark.parametrize("truth", TRUTHS)
async def test_what_is_said_in_other_words_or_by_a_clock_a_little_off_is_believed(company: Company, truth: str) -> None:
    company.claims = TRUTHS[truth]
    assert await vouched_for(company) == (company.url, company.subject)


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def decoded(part: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(part + "=="))


def unsigned(token: str) -> str:
    return f"{encoded({'alg': 'none'})}.{token.split('.')[1]}."


def by_another_key(token: str) -> str:
    header, claims = map(decoded, token.split(".")[:2])
    return jwt.encode({"alg": "ES256", "kid": header["kid"]}, claims, ECKey.generate_key("P-256"), algorithms=["ES256"])


def by_the_secret(token: str) -> str:
    """What both sides know: the client's secret."""
    key, claims = OctKey.import_key(SECRET * 2), decoded(token.split(".")[1])
    return jwt.encode({"alg": "HS256"}, claims, key, algorithms=["HS256"])


TOKENS: dict[str, tuple[Any, str]] = {
    "unsigned": (unsigned, "signature"),
    "without its signature": (lambda token: token.rpartition(".")[0] + ".", "signature"),
    "with a signature that was altered": (lambda token: f"{token[:-4]}AAAA", "signature"),
    "by another key of that name": (by_another_key, "signature"),
    "by what both sides know": (by_the_secret, "signature"),
    "of too many parts": (lambda token: f"{token}.{token}", "signature"),
    "no token": (lambda _: "<script>alert(1)</script>", "signature"),
    "nothing": (lambda _: "", "signature"),
    "no text": (lambda _: {"alg": "none"}, "no_id_token"),
    "missing": (lambda _: None, "no_id_token"),
}


@pytest.mark.parametrize("token", TOKENS)
async def test_what_the_provider_has_not_signed_is_not_believed(company: Company, token: str) -> None:
    company.token, why = TOKENS[token]
    assert await why_not(company) == why


DISCOVERY = "/.well-known/openid-configuration"
STRANGE: dict[str, tuple[str, Response]] = {
    "out of order": (DISCOVERY, Response("Service unavailable", 503)),
    "a page": (DISCOVERY, Response("<html>", 200)),
    "too much": (DISCOVERY, Response("x" * 300_000, 200)),
    "elsewhere": (DISCOVERY, Response(None, 302, {"location": "http://127.0.0.1:1/"})),
    "of another issuer": (DISCOVERY, JSONResponse({"issuer": "https://id.elsewhere.example"})),
    "no keys": ("/jwks", JSONResponse({"keys": []})),
    "a list for keys": ("/jwks", JSONResponse([])),
    "no answer for keys": ("/jwks", Response("no", 500)),
    "no token": ("/token", Response("no", 502)),
    "words for a token": ("/token", Response("no", 200)),
}


@pytest.mark.parametrize("strange", STRANGE)
async def test_a_provider_that_does_not_answer_as_one_is_away(company: Company, strange: str) -> None:
    path, answer = STRANGE[strange]
    company.answers[path] = answer
    with pytest.raises(ProviderAway):
        await vouched_for(company)


async def test_a_provider_that_sends_people_where_others_listen_is_not_followed(company: Company) -> None:
    document = company.document() | {"authorization_endpoint": "http://id.elsewhere.example/authorize"}
    company.answers[DISCOVERY] = JSONResponse(document)
    with pytest.raises(ProviderAway, match="others can listen"):
        await vouched_for(company)


@pytest.mark.parametrize("method", ["client_secret_post", "client_secret_basic"])
async def test_the_desk_says_who_it_is_as_the_provider_wants_it(company: Company, method: str) -> None:
    company.answers[DISCOVERY] = JSONResponse(
        company.document() | {"token_endpoint_auth_methods_supported": [method, "private_key_jwt"]}
    )
    assert await vouched_for(company) == (company.url, company.subject)
    assert company.method == method


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"oidc_issuer": "http://id.example.com", "oidc_client_id": "x"}, "oidc_issuer"),
        ({"oidc_issuer": "id.example.com", "oidc_client_id": "x"}, "oidc_issuer"),
        ({"oidc_issuer": "https://id.example.com"}, "oidc_client_id"),
        ({"public_url": "http://desk.example"}, "public_url"),
    ],
    ids=str,
)
def test_settings_that_would_let_others_listen_are_refused(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as wrong:
        Settings(**settings)
    assert [one["loc"] for one in wrong.value.errors()] == [(field,)]
