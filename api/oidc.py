"""Signing in by OpenID Connect, as far as every desk knows of it. `api.oidc_provider` speaks with the provider."""

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from api.settings import Settings
from workflow.errors import CaseworkError

if TYPE_CHECKING:
    from api.oidc_provider import Provider


class NotVouchedFor(CaseworkError):
    """What came from the provider is not believed, or it says no. `why` is a code, for logs and for tests."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the identity provider does not vouch for anybody: {why}")
        self.why = why


class ProviderAway(CaseworkError):
    """The provider does not answer, or not as one does."""


class Attempt(msgspec.Struct, frozen=True, array_like=True):
    """What a browser brings back from the provider; it has to be the one that was sent there."""

    state: str
    nonce: str
    verifier: str
    target: str
    ends_at: datetime


def provider_of(settings: Settings, clock: Callable[[], datetime]) -> "Provider | None":
    """The provider that the settings name, if they name one."""
    if not settings.oidc_issuer:
        return None
    from api.oidc_provider import Provider  # noqa: PLC0415 - 14 MB of libraries that most desks need not load

    return Provider(settings, clock)
