"""The people of the desk: who they are to the rules, and the commands that change them."""

import hashlib
import hmac
from collections.abc import Iterable
from datetime import datetime

import msgspec
from msgspec.structs import replace

from workflow.canonical import Integer, canonical
from workflow.cases import Pointer, pointer
from workflow.commands import Command
from workflow.errors import BrokenHistory, Forbidden, GuardRefused, Refusal, bad_field
from workflow.events import (
    Draft,
    FilterRemoved,
    FilterSaved,
    IdentityLinked,
    IdentityUnlinked,
    PasswordSet,
    PersonAdded,
    PersonDisabled,
    Recorded,
    RolesSet,
    TokenCreated,
    TokenRevoked,
)
from workflow.roles import ADMINS, READERS, STAFF_ROLES, WORKERS, Actor, Role, TokenKind, in_order

MAX_FILTERS = 50  # of one person: a menu has to show them all
MAX_FILTER_NAME = 80
MAX_CALENDARS = 5  # of one person: programs that each have an address of their own
MAX_FILTER_QUERY = 2_000


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """The secret itself is nowhere, its hash is the database's; `commitment` is to that hash."""

    id: str
    commitment: str
    kind: TokenKind = TokenKind.API
    expires_at: datetime | None = None

    def is_good(self, now: datetime) -> bool:
        return self.expires_at is None or now < self.expires_at


class SavedFilter(msgspec.Struct, frozen=True, kw_only=True):
    """A list of cases under a name: `query` is what stands behind the question mark of its address."""

    id: str
    name: Pointer
    query: Pointer
    shared: bool = False


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """By what an identity provider knows the person; `commitment` is to its issuer and subject."""

    id: str
    commitment: str


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """`version` is the seq of the last event of the person's chain, `head` its hash, `password` a commitment too."""

    id: str
    version: Integer
    head: str
    roles: tuple[Role, ...]
    name: Pointer
    email: Pointer
    active: bool = True
    password: str | None = None
    tokens: tuple[Token, ...] = ()
    filters: tuple[SavedFilter, ...] = ()
    identities: tuple[Identity, ...] = ()
    changed_at: datetime

    @property
    def key(self) -> str:
        return f"person:{self.id}"

    @property
    def chain(self) -> str:
        return person_chain(self.id)

    def may_act(self, token: str | None, now: datetime) -> bool:
        """Whether they are active, and the token they came with, if any, is theirs and has not run out."""
        if not self.active:
            return False
        return token is None or ((one := self.token(token)) is not None and one.is_good(now))

    def may_use(self, token: str, kind: TokenKind, now: datetime) -> bool:
        """Whether they may act by this token where tokens of this kind are asked for."""
        return self.may_act(token, now) and (one := self.token(token)) is not None and one.kind is kind

    def token(self, token_id: str) -> Token | None:
        return next((one for one in self.tokens if one.id == token_id), None)

    def filter(self, filter_id: str) -> SavedFilter | None:
        return next((one for one in self.filters if one.id == filter_id), None)

    @property
    def sessions(self) -> tuple[Token, ...]:
        return tuple(one for one in self.tokens if one.kind is TokenKind.SESSION)

    def has_identity(self, identity_id: str) -> bool:
        return any(one.id == identity_id for one in self.identities)

    def as_actor(self) -> Actor:
        return Actor(kind="person", id=self.id, roles=frozenset(self.roles))


def person_chain(person_id: str) -> str:
    return f"desk:person:{person_id}"


class AddPerson(Command, frozen=True, kw_only=True):
    """A person new to the desk; `person_id` is random."""

    person_id: str
    email: str
    name: str
    roles: tuple[Role, ...]


class SetRoles(Command, frozen=True, kw_only=True):
    person_id: str
    roles: tuple[Role, ...]


class DisablePerson(Command, frozen=True, kw_only=True):
    person_id: str
    reason: str = ""


class CreateToken(Command, frozen=True, kw_only=True):
    """`token_id` names the token in the log; `secret_hash` (SHA-256 of the secret) is kept beside it."""

    person_id: str
    token_id: str
    secret_hash: str
    kind: TokenKind = TokenKind.API
    expires_at: datetime | None = None


class SignIn(Command, frozen=True, kw_only=True):
    """A session begins. `link` is the token of the link that was used, if it was one: that is good once.

    `identity` is the one that a provider has vouched for, if it was that.
    """

    person_id: str
    session_id: str
    secret_hash: str
    expires_at: datetime
    link: str = ""
    identity: str = ""


class SetPassword(Command, frozen=True, kw_only=True):
    """All sessions end. `password_hash` is kept beside the log, as a key derivation function wrote it."""

    person_id: str
    password_hash: str


def token_commitment(secret_hash: str) -> str:
    """What the log says of a token's hash: enough to notice another one in its place, and no use to sign in with."""
    return hashlib.sha256(secret_hash.encode()).hexdigest()


class RevokeToken(Command, frozen=True, kw_only=True):
    person_id: str
    token_id: str
    reason: str = ""


class SaveFilter(Command, frozen=True, kw_only=True):
    """Keep a list of cases for oneself, or for everybody; `filter_id` is random."""

    person_id: str
    filter_id: str
    name: str
    query: str
    shared: bool = False


class RemoveFilter(Command, frozen=True, kw_only=True):
    person_id: str
    filter_id: str


class LinkIdentity(Command, frozen=True, kw_only=True):
    """Whom this issuer knows by this subject is this person. `identity_id` and `salt` (32 octets) are random."""

    person_id: str
    identity_id: str
    issuer: str
    subject: str
    salt: bytes


class UnlinkIdentity(Command, frozen=True, kw_only=True):
    """All sessions end: nobody knows which of them began by it."""

    person_id: str
    identity_id: str


def identity_commitment(salt: bytes, issuer: str, subject: str) -> str:
    """What the log says of an identity: subjects can be guessed, so that a hash alone would tell who it is."""
    return hmac.digest(salt, canonical([issuer, subject]), "sha256").hex()


IdentityCommand = LinkIdentity | UnlinkIdentity
FilterCommand = SaveFilter | RemoveFilter
ChangeCommand = (
    SetRoles | DisablePerson | CreateToken | SignIn | SetPassword | RevokeToken | IdentityCommand | FilterCommand
)
PersonCommand = AddPerson | ChangeCommand


def decide_person(person: Person | None, command: PersonCommand, actor: Actor, now: datetime) -> tuple[Draft, ...]:
    """What a command does to a person; `person` is None where they are new."""
    if isinstance(command, FilterCommand):
        forbid_filter_of_others(person, command, actor)
    elif not may_change(command, actor):
        raise Forbidden(Refusal(code="role", text="only an admin changes people and tokens", who=in_order(ADMINS)))
    if isinstance(command, AddPerson):
        if person is not None:
            raise bad_field("person_id", "is somebody of this desk already")
        return (
            Draft(
                data=PersonAdded(roles=checked_roles(command.roles)),
                personal={"email": command.email, "name": command.name},
            ),
        )
    if person is None:
        raise bad_field("person_id", "is nobody of this desk")
    drafts = change_person(person, command, now)  # what makes no sense is told first
    if not person.active and not isinstance(command, RevokeToken | RemoveFilter):
        raise GuardRefused(Refusal(code="person_is_active", text="the person has been disabled", who=in_order(ADMINS)))
    return drafts


def forbid_filter_of_others(person: Person | None, command: FilterCommand, actor: Actor) -> None:
    """Everybody keeps their own; what somebody shares with all, a lead may clear away."""
    if not actor.may(READERS):
        who = in_order(READERS)
        raise Forbidden(Refusal(code="role", text=f"lists of cases are for: {', '.join(who)}", who=who))
    if actor.kind == "person" and actor.id == command.person_id:
        return
    found = person.filter(command.filter_id) if person and isinstance(command, RemoveFilter) else None
    if found is not None and found.shared and Role.LEAD in actor.roles:
        return
    raise Forbidden(
        Refusal(code="role", text="somebody else's filter can only be removed, once it is shared", who=(Role.LEAD,))
    )


def may_change(command: PersonCommand, actor: Actor) -> bool:
    """Sign-in is the desk's own to grant; one's own password and tokens are everybody's to change and to end.

    Who holds consultations subscribes to them.
    """
    if isinstance(command, SignIn):
        return actor.kind == "system"
    is_own = actor.kind == "person" and actor.id == command.person_id
    if isinstance(command, CreateToken) and command.kind is TokenKind.CALENDAR:  # its address is nobody else's to have
        return is_own and actor.may(WORKERS)
    return actor.may(ADMINS) or (is_own and isinstance(command, SetPassword | RevokeToken))


def change_person(person: Person, command: ChangeCommand, now: datetime) -> tuple[Draft, ...]:
    match command:
        case SetRoles():
            roles = checked_roles(command.roles)
            return (Draft(data=RolesSet(roles=roles)),) if roles != person.roles else ()
        case DisablePerson():
            return (Draft(data=PersonDisabled(), personal=because(command.reason)),)
        case CreateToken():
            if command.expires_at is not None and command.expires_at <= now:
                raise bad_field("expires_at", "has to be in the future")
            calendars = [one for one in person.tokens if one.kind is TokenKind.CALENDAR]
            if command.kind is TokenKind.CALENDAR and len(calendars) >= MAX_CALENDARS:
                raise bad_field("calendar", f"is one too many: nobody has more than {MAX_CALENDARS}; revoke one first")
            commitment = token_commitment(command.secret_hash)
            return (
                Draft(
                    data=TokenCreated(
                        token=command.token_id,
                        commitment=commitment,
                        kind=command.kind,
                        expires_at=command.expires_at,
                    )
                ),
            )
        case SignIn():
            return sign_in(person, command, now)
        case SetPassword():
            set_anew = Draft(data=PasswordSet(commitment=token_commitment(command.password_hash)))
            return (set_anew, *ended(person.sessions))
        case RevokeToken():
            if person.token(command.token_id) is None:
                raise bad_field("token", "is no token of this person")
            return (Draft(data=TokenRevoked(token=command.token_id), personal=because(command.reason)),)
        case LinkIdentity() | UnlinkIdentity():
            return change_identities(person, command)
        case SaveFilter() | RemoveFilter():
            return change_filters(person, command)


def change_filters(person: Person, command: FilterCommand) -> tuple[Draft, ...]:
    """What people look for can name a client, so the log holds only commitments to it."""
    if isinstance(command, RemoveFilter):
        if person.filter(command.filter_id) is None:
            raise bad_field("filter", "is no filter of this person")
        return (Draft(data=FilterRemoved(filter=command.filter_id)),)
    name = " ".join(command.name.split())
    if not name or len(name) > MAX_FILTER_NAME:
        raise bad_field("name", f"has to be 1 to {MAX_FILTER_NAME} characters long")
    if len(command.query) > MAX_FILTER_QUERY:
        raise bad_field("query", f"is longer than {MAX_FILTER_QUERY} characters")
    if person.filter(command.filter_id) is not None:
        raise bad_field("filter", "is saved already")
    if len(person.filters) >= MAX_FILTERS:
        raise bad_field("name", f"is one too many: nobody keeps more than {MAX_FILTERS}, so remove another first")
    saved = FilterSaved(filter=command.filter_id, shared=command.shared)
    return (Draft(data=saved, personal={"filter_name": name, "filter_query": command.query}),)


def change_identities(person: Person, command: IdentityCommand) -> tuple[Draft, ...]:
    if isinstance(command, UnlinkIdentity):
        if not person.has_identity(command.identity_id):
            raise bad_field("identity", "is none of this person")
        return (Draft(data=IdentityUnlinked(identity=command.identity_id)), *ended(person.sessions))
    check_identity(command.issuer, command.subject)
    commitment = identity_commitment(command.salt, command.issuer, command.subject)
    return (Draft(data=IdentityLinked(identity=command.identity_id, commitment=commitment)),)


def check_identity(issuer: str, subject: str) -> None:
    """OpenID Connect Core 1.0 §2: a URL, and at most 255 ASCII characters. Raises BadInput."""
    if not issuer.startswith(("https://", "http://")) or len(issuer) > MAX_ISSUER_CHARACTERS or not is_plain(issuer):
        raise bad_field("issuer", "has to be the URL by which the provider calls itself")
    if not 0 < len(subject) <= MAX_SUBJECT_CHARACTERS or not is_plain(subject):
        raise bad_field("subject", f"has to be 1 to {MAX_SUBJECT_CHARACTERS} ASCII characters")


MAX_ISSUER_CHARACTERS, MAX_SUBJECT_CHARACTERS = 500, 255


def is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable()


def ended(tokens: Iterable[Token]) -> tuple[Draft, ...]:
    return tuple(Draft(data=TokenRevoked(token=one.id)) for one in tokens)


def sign_in(person: Person, command: SignIn, now: datetime) -> tuple[Draft, ...]:
    """With it goes what has run out by itself: links and sessions come and go every day."""
    link = person.token(command.link) if command.link else None
    if command.link and (link is None or link.kind is not TokenKind.LINK or not link.is_good(now)):
        raise bad_field("link", "was used already, or has run out")
    if command.identity and not person.has_identity(command.identity):
        raise bad_field("identity", "is none of this person")
    gone = [
        token
        for token in person.tokens
        if token.kind is not TokenKind.API and (token is link or not token.is_good(now))
    ]
    begun = TokenCreated(
        token=command.session_id,
        commitment=token_commitment(command.secret_hash),
        kind=TokenKind.SESSION,
        expires_at=command.expires_at,
    )
    return (*ended(gone), Draft(data=begun))


def because(reason: str) -> dict[str, str]:
    return {"reason": reason} if reason else {}


def checked_roles(roles: tuple[Role, ...]) -> tuple[Role, ...]:
    if not roles or any(role not in STAFF_ROLES for role in roles):
        raise bad_field("roles", f"has to name at least one of {', '.join(STAFF_ROLES)}")
    return in_order(frozenset(roles))


def replay_person(history: Iterable[Recorded]) -> Person | None:
    """The person after these events of their chain, oldest first."""
    person = None
    for recorded in history:
        person = evolve_person(person, recorded)
    return person


def evolve_person(person: Person | None, recorded: Recorded) -> Person:
    """The person after one more event of their chain."""
    event, data = recorded.event, recorded.data
    if isinstance(data, PersonAdded):
        if person is not None:
            raise BrokenHistory(event.chain, event.seq, "the person is added a second time")
        return Person(
            id=event.chain.removeprefix(person_chain("")),
            version=event.seq,
            head=recorded.hash,
            changed_at=recorded.at,
            roles=data.roles,
            name=pointer(event.seq, "name"),
            email=pointer(event.seq, "email"),
        )
    if person is None:
        raise BrokenHistory(event.chain, event.seq, "the chain does not begin with its person")
    match data:
        case RolesSet():
            person = replace(person, roles=data.roles)
        case PersonDisabled():
            person = replace(person, active=False, tokens=(), identities=())
        case TokenCreated():
            token = Token(id=data.token, commitment=data.commitment, kind=data.kind, expires_at=data.expires_at)
            person = replace(person, tokens=(*person.tokens, token))
        case PasswordSet():
            person = replace(person, password=data.commitment)
        case TokenRevoked():
            person = replace(person, tokens=tuple(token for token in person.tokens if token.id != data.token))
        case IdentityLinked() | IdentityUnlinked():
            person = replace(person, identities=identities_after(person, data))
        case FilterSaved() | FilterRemoved():
            person = replace(person, filters=filters_after(person, event.seq, data))
        case _:
            raise BrokenHistory(event.chain, event.seq, f"{event.type} is no event of a person")
    return replace(person, version=event.seq, head=recorded.hash, changed_at=recorded.at)


def identities_after(person: Person, data: IdentityLinked | IdentityUnlinked) -> tuple[Identity, ...]:
    if isinstance(data, IdentityLinked):
        return (*person.identities, Identity(id=data.identity, commitment=data.commitment))
    return tuple(one for one in person.identities if one.id != data.identity)


def filters_after(person: Person, seq: int, data: FilterSaved | FilterRemoved) -> tuple[SavedFilter, ...]:
    if isinstance(data, FilterRemoved):
        return tuple(one for one in person.filters if one.id != data.filter)
    name, query = pointer(seq, "filter_name"), pointer(seq, "filter_query")
    return (*person.filters, SavedFilter(id=data.filter, name=name, query=query, shared=data.shared))
