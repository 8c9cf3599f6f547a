"""Questions about people, tokens and policies."""

import hashlib
from collections.abc import Iterable

import msgspec
from sqlalchemy import bindparam, or_, select, text

from storage.database import Database
from storage.directory import DIRECTORY_QUERIES, Directory, directory_of
from storage.events import recorded
from storage.tables import EventRow, IdentityRow, PersonalRow, PersonRow, TokenRow, columns
from workflow.events import Recorded, TokenCreated
from workflow.people import Person, person_chain

PEOPLE, TOKENS, PERSONAL, IDENTITIES, EVENTS = (
    columns(model) for model in (PersonRow, TokenRow, PersonalRow, IdentityRow, EventRow)
)

person_decoder = msgspec.json.Decoder(Person)


def secret_hash(secret: str) -> str:
    """What is kept of a token: its secret has 256 bits, so that a plain SHA-256 cannot be searched through."""
    return hashlib.sha256(secret.encode()).hexdigest()


BY_TOKEN = select(PEOPLE.body, TOKENS.id).where(TOKENS.person_id == PEOPLE.id, TOKENS.hash == bindparam("digest"))


SOME = select(PEOPLE.body).where(PEOPLE.id.in_(bindparam("ids", expanding=True)))


async def by_token(database: Database, digest: str) -> tuple[Person, str] | None:
    """The person whom a token speaks for, and the token's id."""
    row = await database.first(BY_TOKEN, {"digest": digest})
    return (person_decoder.decode(row[0]), row[1]) if row else None


BY_IDENTITY = select(PEOPLE.body, IDENTITIES.id).where(
    IDENTITIES.person_id == PEOPLE.id,
    IDENTITIES.issuer == bindparam("issuer"),
    IDENTITIES.subject == bindparam("subject"),
)


async def by_identity(database: Database, issuer: str, subject: str) -> tuple[Person, str] | None:
    """Whom an identity provider knows by this, and the identity's id."""
    row = await database.first(BY_IDENTITY, {"issuer": issuer, "subject": subject})
    return (person_decoder.decode(row[0]), row[1]) if row else None


async def with_identity(database: Database) -> set[str]:
    """The ids of those who are linked to an identity provider."""
    return {person_id for (person_id,) in await database.rows(select(IDENTITIES.person_id).distinct())}


async def identities_of(database: Database, person_id: str) -> list[tuple[str, str, str]]:
    """Id, issuer and subject of each."""
    query = select(IDENTITIES.id, IDENTITIES.issuer, IDENTITIES.subject).where(IDENTITIES.person_id == person_id)
    return [(one, issuer, subject) for one, issuer, subject in await database.rows(query.order_by(IDENTITIES.id))]


async def tokens_made(database: Database, person: Person) -> dict[str, Recorded]:
    """The events that made the tokens the person has, by token."""
    if not person.tokens:
        return {}
    # Ids are random, and stand in no other event of a chain than those that make and end them.
    named = or_(*(EVENTS.body.contains(f'"token":"{one.id}"', autoescape=True) for one in person.tokens))
    query = select(EVENTS.body, EVENTS.hash).where(EVENTS.chain == person.chain, EVENTS.type == "token_created", named)
    found = [recorded(body, digest) for body, digest in await database.rows(query)]
    return {one.data.token: one for one in found if isinstance(one.data, TokenCreated)}


async def by_email(database: Database, email: str) -> Person | None:
    address = select(PERSONAL.chain).where(PERSONAL.field == "email", PERSONAL.value == email.lower())
    people = {person_chain(person.id): person for person in await everybody(database)}
    return next((people[chain] for (chain,) in await database.rows(address) if chain in people), None)


async def one(database: Database, person_id: str) -> Person | None:
    row = await database.first(select(PEOPLE.body).where(PEOPLE.id == person_id))
    return person_decoder.decode(row[0]) if row else None


async def some(database: Database, ids: Iterable[str]) -> list[Person]:
    return [person_decoder.decode(body) for (body,) in await database.rows(SOME, {"ids": list(ids)})]


async def everybody(database: Database) -> list[Person]:
    return [person_decoder.decode(body) for (body,) in await database.rows(select(PEOPLE.body))]


async def names(database: Database) -> dict[str, dict[str, str]]:
    """Name and address of everybody, by person id."""
    return await names_of(database, await everybody(database))


async def names_of(database: Database, people: Iterable[Person]) -> dict[str, dict[str, str]]:
    return await names_by_id(database, (person.id for person in people))


async def names_by_id(database: Database, people: Iterable[str]) -> dict[str, dict[str, str]]:
    ids = {person_chain(person): person for person in people}
    query = select(PERSONAL.chain, PERSONAL.field, PERSONAL.value).where(
        PERSONAL.chain.in_(list(ids)), PERSONAL.field.in_(("name", "email"))
    )
    found: dict[str, dict[str, str]] = {}
    for chain, field, value in await database.rows(query):
        found.setdefault(ids[chain], {})[field] = value
    return found


class KeptFilter(msgspec.Struct, frozen=True, kw_only=True):
    """A saved filter with its texts, and whose it is."""

    id: str
    person_id: str
    name: str
    query: str
    shared: bool


async def filters(database: Database, people: Iterable[Person], reader: str) -> list[KeptFilter]:
    """The reader's own and what others share, by name. A filter whose texts are gone is none any more."""
    seen = [(one, kept) for one in people for kept in one.filters if kept.shared or one.id == reader]
    if not seen:
        return []
    chains = {one.chain for one, _ in seen}
    kept_texts = select(PERSONAL.chain, PERSONAL.seq, PERSONAL.field, PERSONAL.value).where(
        PERSONAL.chain.in_(chains), PERSONAL.field.in_(("filter_name", "filter_query"))
    )
    texts = {(chain, f"{seq}/{field}"): value for chain, seq, field, value in await database.rows(kept_texts)}
    found = [
        KeptFilter(id=kept.id, person_id=one.id, name=name, query=query, shared=kept.shared)
        for one, kept in seen
        if (name := texts.get((one.chain, kept.name))) and (query := texts.get((one.chain, kept.query))) is not None
    ]
    return sorted(found, key=lambda one: (one.person_id != reader, one.name.casefold(), one.id))


async def directory(database: Database) -> Directory:
    desk, policies, people, head = [
        [tuple(row) for row in await database.rows(text(query))] for query in DIRECTORY_QUERIES
    ]
    return directory_of(desk[0], policies, people, head[0])
