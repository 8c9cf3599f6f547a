"""The command line: each command opens the desk, hands it one command or asks it one question, and prints the answer.

What only some of them need is imported where they need it, so that --help and the service start without the rest.
"""

# ruff: noqa: PLC0415 - as just said

import asyncio
import os
import sys
import uuid
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, TypeVar

import msgspec
import typer

from workflow.errors import CaseworkError, NotFound, bad_field
from workflow.people import AddPerson, DisablePerson, Person, RevokeToken, SetRoles
from workflow.roles import STAFF_ROLES, Role

if TYPE_CHECKING:
    from api.desk import Desk
    from api.settings import Settings
    from diagrams.diagram import Diagram
    from storage.database import Database
    from storage.submissions import Receipt
    from workflow.commands import Command

T = TypeVar("T")

cli = typer.Typer(
    name="casework",
    help="Case management with explicit states, a refund policy and an audit log. CASEWORK_* holds the settings.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
user = typer.Typer(help="The people of the desk.", no_args_is_help=True)
token = typer.Typer(help="Their bearer tokens.", no_args_is_help=True)
policy = typer.Typer(help="The versions of the policy.", no_args_is_help=True)
for group, name in ((user, "user"), (token, "token"), (policy, "policy")):
    cli.add_typer(group, name=name)


def main() -> None:
    """Exits with 0: done, 1: refused or found wrong, 2: usage. What can be expected to fail is said in one line."""
    try:
        cli(prog_name="casework")
    except BrokenPipeError:
        # Whoever read our output wants no more of it. Python would try to hand over the rest at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (CaseworkError, OSError, ValueError) as failure:
        message = explanation(failure)
        if message is None:
            raise
        typer.echo(f"casework: {message}", err=True)
        sys.exit(1)


def explanation(failure: Exception) -> str | None:
    """What there is to say of a failure that is no bug."""
    from pydantic import ValidationError

    from storage.database import BadDatabaseUrl

    match failure:
        case ValidationError():
            return "; ".join(
                f"CASEWORK_{'.'.join(map(str, one['loc'])).upper()}: {one['msg'].removeprefix('Value error, ')}"
                for one in failure.errors(include_url=False, include_input=False)
            )
        case CaseworkError() | BadDatabaseUrl():
            return str(failure)
        case OSError():
            return f"{failure.filename}: {failure.strerror}" if failure.filename else str(failure)
        case _:
            return None


# How a command reaches the desk.


def read_settings() -> "Settings":
    from api.logs import configure_logs
    from api.settings import Settings

    configure_logs("warning")  # a command prints its answer; beside it only what goes wrong
    return Settings()


def at_the_desk(work: "Callable[[Desk], Coroutine[Any, Any, T]]") -> T:
    """For work that may change something."""
    from api.database import running

    async def run() -> T:
        async with running(settings) as desk:
            return await work(desk)

    settings = read_settings()
    return asyncio.run(run())


def in_the_database(work: "Callable[[Database], Coroutine[Any, Any, T]]") -> T:
    """For work that only reads."""
    from api.database import opened

    async def run() -> T:
        async with opened(settings) as database:
            return await work(database)

    settings = read_settings()
    return asyncio.run(run())


async def submit(desk: "Desk", command: "Command") -> "Receipt":
    """As the operator, who may do what an admin may."""
    return await desk.submit_as_system("operator", command, via="cli", admin=True)


# What is said on the command line.


def line(text: str) -> str:
    from api.inputs import not_blank, storable

    try:
        return not_blank(storable(text))
    except ValueError as bad:
        raise typer.BadParameter(str(bad)) from bad


def address(text: str) -> str:
    from api.inputs import is_email

    try:
        return is_email(line(text))
    except ValueError as bad:
        raise typer.BadParameter(str(bad)) from bad


def moment(text: str) -> datetime:
    from api.inputs import in_utc, is_rfc3339

    try:
        return in_utc(datetime.fromisoformat(is_rfc3339(text)))
    except ValueError as bad:
        raise typer.BadParameter(str(bad)) from bad


def staff_role(text: str) -> Role:
    if text not in STAFF_ROLES:
        raise typer.BadParameter(f"{text} is none of {', '.join(STAFF_ROLES)}")
    return Role(text)


ROLES = f"One of {', '.join(STAFF_ROLES)}; can be given several times."
Email = Annotated[str, typer.Argument(parser=address, metavar="EMAIL")]
CaseName = Annotated[str, typer.Argument(parser=line, metavar="CASE", help="Its id, or its number such as C-1042.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Instead of standard output.")]


@contextmanager
def output(target: Path | None) -> Iterator[BinaryIO]:
    """Standard output, or a file that is there only once it is whole."""
    if target is None:
        yield sys.stdout.buffer
        sys.stdout.flush()
        return
    if target.exists() and not target.is_file():  # /dev/null must not be replaced
        with target.open("wb") as stream:
            yield stream
        return
    partial = target.with_name(f"{target.name}.partial")
    try:
        with partial.open("wb") as stream:
            yield stream
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


# The service and its database.


@cli.command()
def serve(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one, which is logged.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, help="Processes; more than one needs PostgreSQL.")] = 1,
) -> None:
    """Serve the HTTP API until a SIGTERM or Ctrl-C."""
    from api import serving
    from api.settings import Settings

    raise typer.Exit(serving.serve(Settings(), host, port, workers))


@cli.command()
def migrate() -> None:
    """Bring the database's schema up to date, and make the desk if there is none.

    On PostgreSQL CASEWORK_OWNER_URL names the role that owns the tables; that of CASEWORK_DATABASE_URL is let serve.
    """
    from api.database import migrate as bring_up_to_date
    from storage.database import utc_now
    from storage.schema import HEAD

    asyncio.run(bring_up_to_date(read_settings(), utc_now()))
    typer.echo(f"the database is up to date (schema {HEAD})")


@cli.command()
def demo(
    url: Annotated[str, typer.Option(help="Where the desk will be served, for the example.")] = "http://127.0.0.1:8000",
) -> None:
    """Fill an empty desk with invented cases, and print a new token for each of its invented people."""
    from api.demo import demonstrate
    from api.printing import print_passes, steps_shown

    settings = read_settings()
    with steps_shown("Telling the stories") as progress:
        passes = asyncio.run(demonstrate(settings, progress))
    print_passes(passes, url)


# People and their tokens.


@user.command("add")
def add_user(
    email: Email,
    role: Annotated[list[Role], typer.Option(parser=staff_role, metavar="ROLE", help=ROLES)],
    name: Annotated[str | None, typer.Option(parser=line, help="Needed for somebody new.")] = None,
) -> None:
    """Add somebody, or give further roles to somebody; prints their id."""

    async def work(desk: "Desk") -> str:
        from storage import people

        known = await people.by_email(desk.database, email)
        if known is not None:
            await submit(desk, SetRoles(person_id=known.id, roles=(*known.roles, *role)))
            return known.id
        if name is None:
            raise bad_field("--name", f"{email} is new here, so a name is needed")
        person_id = str(uuid.uuid4())
        await submit(desk, AddPerson(person_id=person_id, email=email, name=name, roles=tuple(role)))
        return person_id

    typer.echo(at_the_desk(work))


@user.command("roles")
def set_roles(
    email: Email, roles: Annotated[list[Role], typer.Argument(parser=staff_role, metavar="ROLE…", help=ROLES)]
) -> None:
    """Set what somebody may do: exactly these roles from now on."""

    async def work(desk: "Desk") -> None:
        person = await known_person(desk, email)
        await submit(desk, SetRoles(person_id=person.id, roles=tuple(roles)))

    at_the_desk(work)


@user.command("disable")
def disable_user(email: Email) -> None:
    """Let somebody do nothing any more; their tokens end."""

    async def work(desk: "Desk") -> None:
        await submit(desk, DisablePerson(person_id=(await known_person(desk, email)).id))

    at_the_desk(work)


@token.command("create")
def create_token(
    email: Email,
    expires: Annotated[
        datetime | None, typer.Option(parser=moment, metavar="TIME", help="Such as 2027-01-31T00:00:00Z.")
    ] = None,
) -> None:
    """Make a token for somebody, and print it. It is shown this once."""
    from api.people import new_token

    async def work(desk: "Desk") -> str:
        command, secret = new_token((await known_person(desk, email)).id, expires)
        await submit(desk, command)
        return secret

    typer.echo(at_the_desk(work))


@token.command("list")
def list_tokens() -> None:
    """List all tokens that are good: id, whose, until when."""
    from api.printing import print_tokens
    from storage import people

    async def work(database: "Database") -> None:
        print_tokens(await people.everybody(database), await people.names(database))

    in_the_database(work)


@token.command("revoke")
def revoke_token(token_id: Annotated[str, typer.Argument(metavar="ID", help="As `token list` prints it.")]) -> None:
    """End a token, from its very next use on."""
    from storage import people

    async def work(desk: "Desk") -> None:
        owner = next(
            (
                person
                for person in await people.everybody(desk.database)
                if any(one.id == token_id for one in person.tokens)
            ),
            None,
        )
        if owner is None:
            raise NotFound("token")
        await submit(desk, RevokeToken(person_id=owner.id, token_id=token_id))

    at_the_desk(work)


async def known_person(desk: "Desk", email: str) -> Person:
    from storage import people

    person = await people.by_email(desk.database, email)
    if person is None:
        raise NotFound(f"person: {email}")
    return person


# The policy.


class PolicyFile(msgspec.Struct, forbid_unknown_fields=True):
    settings: dict[str, Any]
    effective_from: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


@policy.command("add")
def add_policy(
    file: Annotated[
        Path,
        typer.Argument(
            exists=True,
            dir_okay=False,
            help='JSON: {"settings": {those that change}, "effective_from": "2027-01-01T00:00:00Z"}.',
        ),
    ],
) -> None:
    """Add a version of the policy, in force from now at the earliest."""
    from api.policy import policy_command

    try:
        wanted = msgspec.json.decode(file.read_bytes(), type=PolicyFile)
    except msgspec.MsgspecError as bad:
        raise bad_field(str(file), str(bad)) from bad

    async def work(desk: "Desk") -> str:
        policies = (await desk.directory()).policies
        await submit(desk, policy_command(policies, wanted.settings, wanted.effective_from, desk.clock()))
        desk.forget_directory()
        added = (await desk.directory()).policies[-1]
        since = added.effective_from.isoformat() if added.effective_from else "always"
        return f"policy version {added.version} is in force from {since}"

    typer.echo(at_the_desk(work))


# Cases.


@cli.command("import-mail")
def import_mail(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH…", help="Letters, mbox files, Maildirs, folders of these.")
    ],
    *,
    trust_dates: Annotated[
        bool, typer.Option("--trust-dates", help="Take the Date header for the time of receipt: one's own archive.")
    ] = False,
) -> None:
    """Open cases for the mails in files; mail that arrived before has no second effect."""
    from api import mail_intake
    from api.printing import mails_shown, print_summary

    async def work(desk: "Desk") -> mail_intake.Summary:
        with mails_shown() as progress:
            return await mail_intake.import_mail(desk, paths, trust_dates=trust_dates, progress=progress)

    summary = at_the_desk(work)
    print_summary(summary)
    raise typer.Exit(1 if summary.problems else 0)


@cli.command()
def replay(
    name: CaseName,
    version: Annotated[int | None, typer.Option(min=1, max=2**31 - 1, help="As it stood at this version.")] = None,
    at: Annotated[
        datetime | None, typer.Option(parser=moment, metavar="TIME", help="As it stood at this moment.")
    ] = None,
) -> None:
    """Print a case's history, and the case as its events alone tell of it; exits with 1 if the stored one differs."""
    if version is not None and at is not None:
        raise typer.BadParameter("give --version or --at, not both")
    from api.printing import print_replay
    from api.replaying import replayed

    telling = in_the_database(lambda database: replayed(database, name, version, at))
    print_replay(telling)
    raise typer.Exit(0 if telling.matches is not False else 1)


class Format(StrEnum):
    SVG = "svg"
    MERMAID = "mmd"
    DOT = "dot"


@cli.command()
def diagram(
    name: Annotated[
        str | None, typer.Argument(parser=line, metavar="CASE", help="Its path; without it, the lifecycle of all.")
    ] = None,
    *,
    form: Annotated[Format, typer.Option("--format")] = Format.SVG,
    file: Output = None,
) -> None:
    """Draw the lifecycle, or the path of one case."""
    from diagrams.dot import as_dot
    from diagrams.lifecycle import lifecycle_diagram
    from diagrams.mermaid import as_mermaid
    from diagrams.svg import as_svg

    async def path(database: "Database") -> "Diagram":
        from api.replaying import path_of

        return await path_of(database, name or "")

    drawn = lifecycle_diagram() if name is None else in_the_database(path)
    text = {Format.SVG: as_svg, Format.MERMAID: as_mermaid, Format.DOT: as_dot}[form](drawn)
    with output(file) as stream:
        stream.write(text.encode())


# The whole log.


@cli.command()
def verify() -> None:
    """Follow every chain, replay every case and compare it with what is stored; exits with 1 at anything wrong."""
    from api.printing import events_shown, print_report
    from storage import verify as proof

    async def work(database: "Database") -> proof.Report:
        with await events_shown(database, "Verifying") as progress:
            return await proof.verify(database, progress)

    report = in_the_database(work)
    print_report(report)
    raise typer.Exit(1 if report.fault_count else 0)


@cli.command()
def export(file: Output = None) -> None:
    """Print all events in their order, one JSON object a line; they hold no personal data."""
    from sqlalchemy import select

    from api.printing import events_shown
    from storage.cases import EVENTS, POSITIONS
    from storage.sequencer import Sequencer

    async def work(database: "Database") -> None:
        await Sequencer(database).catch_up()
        columns = POSITIONS.position, EVENTS.hash, EVENTS.body
        log = select(*columns).where(EVENTS.id == POSITIONS.event_id).order_by(POSITIONS.position)
        with await events_shown(database, "Exporting") as progress, output(file) as stream:
            async for position, digest, body in database.stream(log):
                stream.write(f'{{"position":{position},"hash":"{digest}","event":{body}}}\n'.encode())
                if position % 1000 == 0:
                    progress(position)

    in_the_database(work)


@cli.command()
def backup(target: Annotated[Path, typer.Argument(metavar="FILE", help="A new one: none is overwritten.")]) -> None:
    """Write the whole desk, as it is at this moment, into one file; others can go on working."""
    from api.printing import rows_shown
    from storage import backup as backups

    async def work(database: "Database") -> backups.Header:
        with rows_shown("Writing") as progress:
            return await backups.backup(database, target, progress)

    header = in_the_database(work)
    typer.echo(f"the desk {header.log} as of {header.at} is in {target}")


@cli.command()
def restore(
    source: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="What backup wrote.")],
) -> None:
    """Bring a desk back from a file into an empty database, of either kind."""
    from api.database import schema_ready
    from api.printing import rows_shown
    from storage import backup as backups

    async def run() -> backups.Header:
        async with schema_ready(settings) as database:
            with rows_shown("Restoring") as progress:
                return await backups.restore(source, database, progress)

    settings = read_settings()
    header = asyncio.run(run())
    typer.echo(f"the desk {header.log} is as it was at {header.at}; casework verify proves it")


if __name__ == "__main__":
    main()
