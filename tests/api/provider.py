"""A company's identity provider in this very process, which says whatever a test wants it to say."""

import asyncio
import base64
import hashlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from joserfc import jwt
from joserfc.jwk import ECKey, KeySet
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from uvicorn import Config, Server

CLIENT, SECRET = "casework", "a secret/that needs: encoding"
Claims = dict[str, Any]


class Company:
    """`claims` and `token` let a test change what it says, `answers` what it serves at a path."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.clock = clock
        self.url = ""
        self.key = ECKey.generate_key("P-256", auto_kid=True)
        self.subject = "248289761001"
        self.claims: Callable[[Claims], Claims] = lambda claims: claims
        self.token: Callable[[str], object] = lambda token: token
        self.answers: dict[str, Response] = {}
        self.asked: list[str] = []
        self.method = ""
        self.wanted: dict[str, str] = {}  # what the browser was sent here with

    @property
    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self.metadata),
                Route("/jwks", self.jwks),
                Route("/token", self.exchange, methods=["POST"]),
            ]
        )

    def document(self) -> Claims:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/jwks",
        }

    async def metadata(self, request: Request) -> Response:
        return self.answer(request, self.document())

    async def jwks(self, request: Request) -> Response:
        return self.answer(request, dict(KeySet([self.key]).as_dict(private=False)))

    def answer(self, request: Request, content: Claims) -> Response:
        self.asked.append(request.url.path)
        return self.answers.get(request.url.path) or JSONResponse(content)

    # As RFC 6749 and 7636 want it: whoever exchanges a code has to be who asked for it.

    def sent(self, location: str) -> dict[str, str]:
        """What a browser that is sent there brings along."""
        assert location.startswith(f"{self.url}/authorize?")
        self.wanted = {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}
        return self.wanted

    async def exchange(self, request: Request) -> Response:
        form = {name: str(value) for name, value in (await request.form()).items()}
        self.method = "client_secret_basic" if "authorization" in request.headers else "client_secret_post"
        if self.method == "client_secret_basic":
            encoded = request.headers["authorization"].removeprefix("Basic ")
            client, _, secret = map(unquote, base64.b64decode(encoded).decode().partition(":"))
        else:
            client, secret = form["client_id"], form["client_secret"]
        assert (client, secret) == (CLIENT, SECRET)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).rstrip(b"=")
        assert form["grant_type"] == "authorization_code"
        assert form["redirect_uri"] == self.wanted["redirect_uri"]
        assert self.wanted["code_challenge_method"] == "S256"
        if form["code"] != "good" or challenge.decode() != self.wanted["code_challenge"]:
            return JSONResponse({"error": "invalid_grant"}, 400)
        token = self.token(self.sign(self.claims(self.usual())))
        content = {"access_token": "x", "token_type": "Bearer"} | ({"id_token": token} if token is not None else {})
        return self.answer(request, content)

    def usual(self) -> Claims:
        return {
            "iss": self.url,
            "sub": self.subject,
            "aud": CLIENT,
            "iat": int(self.clock().timestamp()),
            "exp": int(self.clock().timestamp()) + 300,
            "nonce": self.wanted["nonce"],
            "email": "ana@step-into.example",
            "email_verified": True,
        }

    def sign(self, claims: Claims) -> str:
        return jwt.encode({"alg": "ES256", "kid": self.key.kid}, claims, self.key, algorithms=["ES256"])


@asynccontextmanager
async def open_for_business(company: Company) -> AsyncIterator[Company]:
    listening = socket.create_server(("127.0.0.1", 0))
    company.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    server = Server(Config(company.app, lifespan="off", log_config=None, timeout_graceful_shutdown=1))
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield company
    finally:
        server.should_exit = True
        await serving
