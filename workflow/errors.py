"""Everything that can be refused, on one screen.

CaseworkError
├── BadInput                 fields that make no sense, each named
│   ├── InvalidMoney         an amount or currency that cannot be
│   ├── UnknownTimeZone      a name that the IANA database does not have
│   ├── ImpossibleFacts      facts that contradict each other
│   └── InvalidPolicy        a policy version that could not be applied
├── NotFound                 no such case, proposal, ground, message, person
├── Refused                  recorded as an attempt
│   ├── Forbidden            the role may never do this
│   ├── NoSuchTransition     the state does not have this trigger
│   ├── GuardRefused         the guards said no, each with its reason
│   └── WrongDigest          the verdict is about another proposal than the one that was read
├── PurchaseDiffers          other facts for a reference that the desk knows
├── StaleVersion             somebody else changed the case meanwhile
└── BrokenHistory            a chain that cannot have been written by these rules
"""

import msgspec

from workflow.roles import Role
from workflow.states import CaseState, Trigger


class FieldError(msgspec.Struct, frozen=True, kw_only=True):
    """One wrong field of an input: its path (`purchase.paid`, `grounds[1].affected`) and what is wrong with it."""

    field: str
    message: str


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why a guard says no: a stable code, a sentence, the policy clause where one applies, and who could do it."""

    code: str
    text: str
    clause: str | None = None
    who: tuple[Role, ...] = ()


class CaseworkError(Exception):
    """The base of all that Casework refuses."""


class BadInput(CaseworkError):
    def __init__(self, *errors: FieldError) -> None:
        super().__init__("; ".join(f"{error.field}: {error.message}" for error in errors))
        self.errors = errors


class InvalidMoney(BadInput):
    """An amount or a currency that cannot be; the field is `amount` or `currency`."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(FieldError(field=field, message=message))


class UnknownTimeZone(BadInput):
    def __init__(self) -> None:
        super().__init__(FieldError(field="timezone", message="is not a time zone of the IANA database"))


class ImpossibleFacts(BadInput):
    """Facts that cannot be true together (policy 2.10)."""


class InvalidPolicy(BadInput):
    """A policy version that could not be applied; the fields are those of `PolicyVersion`."""


class NotFound(CaseworkError):
    def __init__(self, what: str) -> None:
        super().__init__(f"there is no such {what}")
        self.what = what


class Refused(CaseworkError):
    """An attempt that the rules refuse, with every reason. `code` is the stable name of the kind of refusal."""

    code = "refused"

    def __init__(self, *refusals: Refusal) -> None:
        super().__init__("; ".join(refusal.text for refusal in refusals))
        self.refusals = refusals

    @property
    def codes(self) -> set[str]:
        return {refusal.code for refusal in self.refusals}


class Forbidden(Refused):
    code = "forbidden"


class NoSuchTransition(Refused):
    code = "no_such_transition"

    def __init__(self, trigger: Trigger, state: CaseState, allowed: tuple[Trigger, ...], refusal: Refusal) -> None:
        super().__init__(refusal)
        self.trigger = trigger
        self.state = state
        self.allowed = allowed


class GuardRefused(Refused):
    code = "guard_refused"


class WrongDigest(Refused):
    code = "wrong_digest"


class PurchaseDiffers(CaseworkError):
    """`at` is where the fields stand in what was given, such as `purchase.`."""

    def __init__(self, reference: str, fields: tuple[str, ...], at: str = "") -> None:
        super().__init__(f"the desk knows {reference} with another {', '.join(fields)}")
        self.reference = reference
        self.fields = fields
        self.at = at


class StaleVersion(CaseworkError):
    def __init__(self, current: int) -> None:
        super().__init__(f"the case is at version {current} now")
        self.current = current


class BrokenHistory(CaseworkError):
    """The first thing wrong with a chain."""

    def __init__(self, chain: str, seq: int, fault: str) -> None:
        super().__init__(f"{chain} event {seq}: {fault}")
        self.chain = chain
        self.seq = seq
        self.fault = fault


def bad_field(field: str, message: str) -> BadInput:
    return BadInput(FieldError(field=field, message=message))
