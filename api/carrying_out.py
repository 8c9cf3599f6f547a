"""Carrying out effects: what a handler of one kind promises, and the worker that hands them what is due."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec

from storage.outbox import Effect

if TYPE_CHECKING:
    from api.desk import Desk

HANDLER_SECONDS = 45.0  # for one attempt; a claim holds longer than that


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """The other side has it. `reference` is what it knows it by; nothing personal, since it stays in the log."""

    reference: str = ""


class NotYet(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing went wrong: it is to be looked at again `after`."""

    after: timedelta


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """It may work later: tried again with growing pauses, then given up. `code` is stable and goes into lists."""

    code: str
    detail: str = ""


class Hopeless(msgspec.Struct, frozen=True, kw_only=True):
    """It will never work as it is: a person has to look at it."""

    code: str
    detail: str = ""


class Needless(msgspec.Struct, frozen=True, kw_only=True):
    """It is not to happen, or not any more; `code` says why."""

    code: str


Result = Done | NotYet | Failed | Hopeless | Needless

# One attempt at one effect. It may be made again although it succeeded (a process died before that was recorded), at
# the same time too (a claim ran out): `effect.key` tells the other side. What it raises counts as Failed.
Handler = Callable[["Desk", Effect], Awaitable[Result]]
