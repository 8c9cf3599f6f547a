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
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, TypeVar

import msgspec
import typer

from workflow.errors import BadInput, CaseworkError, NotFound, bad_field
from workflow.people import AddPerson, DisablePerson, Person, RevokeToken, SetRoles, UnlinkIdentity
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
key = typer.Typer(help="The key that signs checkpoints of the log.", no_args_is_help=True)
checkpoint = typer.Typer(help="The signed checkpoints of the log.", no_args_is_help=True)
for group, name in (
    (user, "user"),
    (token, "token"),
    (policy, "policy"),
    (key, "key"),
    (checkpoint, "checkpoint"),
):
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


def with_the_keys(work: "Callable[[Database, Path], Coroutine[Any, Any, T]]") -> T:
    """For work that needs the folder of the signing key besides."""
    folder = read_settings().keys_in
    return in_the_database(lambda database: work(database, folder))


async def submit(desk: "Desk", command: "Command", case_id: str | None = None) -> "Receipt":
    """As the operator, who may do what an admin may."""
    return await desk.submit_as_system("operator", command, case_id, via="cli", admin=True)


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


def naming_nobody(text: str) -> str:
    if "@" in text:
        raise typer.BadParameter("is kept for good, so it must not hold an address")
    return line(text)


def moment(text: str) -> datetime:
    from api.inputs import in_utc, is_rfc3339

    try:
        return in_utc(datetime.fromisoformat(is_rfc3339(text)))
    except ValueError as bad:
        raise typer.BadParameter(str(bad)) from bad


def day_or_moment(text: str) -> datetime:
    """A day begins as it does in UTC."""
    return moment(f"{text}T00:00:00Z" if "T" not in text.upper() else text)


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
def work() -> None:
    """Send letters, ask for payments, deliver webhooks and receive mail, until a SIGTERM or Ctrl-C.

    `serve` does so too unless CASEWORK_WORK_INSIDE is false. Any number of them may run over one PostgreSQL database.
    """
    from api.channels import work as until_stopped
    from api.database import running
    from api.logs import configure_logs
    from api.settings import Settings

    async def run() -> None:
        async with running(settings) as desk:
            await until_stopped(desk)

    settings = Settings()
    configure_logs(settings.log_level)
    with asyncio.Runner(loop_factory=quick_loop()) as runner:
        runner.run(run())


def quick_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """That of uvloop, where there is one, as `serve` has it."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


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


@user.command("link")
def make_link(
    email: Email,
    url: Annotated[str, typer.Option(help="Where the desk is served.")] = "http://127.0.0.1:8000",
) -> None:
    """Print a link that signs somebody in once, within a day."""
    from api.people import new_link

    async def work(desk: "Desk") -> str:
        command, secret = new_link((await known_person(desk, email)).id, desk.clock())
        await submit(desk, command)
        return f"{url.rstrip('/')}/sign-in/{secret}"

    typer.echo(at_the_desk(work))


@cli.command("client-link")
def make_client_link(
    name: CaseName,
    *,
    days: Annotated[int, typer.Option(min=1, max=366, help="How long it is good.")] = 90,
    url: Annotated[str, typer.Option(help="Where the desk is served.")] = "http://127.0.0.1:8000",
) -> None:
    """Print a secret link at which the client sees this case and answers. It is shown this once."""
    from api.client_links import new_client_link, path_of
    from storage import cases

    async def work(desk: "Desk") -> str:
        case_id = await cases.find(desk.database, name)
        if case_id is None:
            raise NotFound(f"case: {name}")
        command, secret = new_client_link(desk.clock() + timedelta(days=days))
        await submit(desk, command, case_id)
        return f"{url.rstrip('/')}{path_of(secret)}"

    typer.echo(at_the_desk(work))


@user.command("password")
def set_password(email: Email) -> None:
    """Set the password that somebody signs in with; it is asked for twice, or read from a pipe. Their sessions end."""
    from api.passwords import password_command

    async def work(desk: "Desk") -> None:
        person = await known_person(desk, email)
        await submit(desk, await password_command(person.id, new_password(), email))

    at_the_desk(work)


@user.command("identity")
def link_identity(
    email: Email,
    issuer: Annotated[
        str, typer.Argument(parser=line, metavar="ISSUER", help="The URL that the provider calls itself.")
    ],
    subject: Annotated[str, typer.Argument(parser=line, metavar="SUBJECT", help="As the provider knows them.")],
    *,
    remove: Annotated[bool, typer.Option("--remove", help="Unlink it; their sessions end.")] = False,
) -> None:
    """Let somebody sign in by an identity provider, which the settings CASEWORK_OIDC_* name.

    Whoever signs in there and is not known here is shown their issuer and subject.
    """
    from api.people import new_identity
    from storage import people

    async def work(desk: "Desk") -> None:
        person = await known_person(desk, email)
        if not remove:
            await submit(desk, new_identity(person.id, issuer, subject))
            return
        found = await people.by_identity(desk.database, issuer, subject)
        if found is None or found[0].id != person.id:
            raise NotFound("identity")
        await submit(desk, UnlinkIdentity(person_id=person.id, identity_id=found[1]))

    at_the_desk(work)


def new_password() -> str:
    """From the terminal, twice and unseen, or the first line of what is piped in."""
    if sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\n")


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
    acknowledge: Annotated[
        bool, typer.Option("--acknowledge", help="Tell whoever wrote that their inquiry has arrived, as for live mail.")
    ] = False,
) -> None:
    """Open cases for the mails in files; mail that arrived before has no second effect."""
    from api import mail_intake
    from api.printing import mails_shown, print_summary

    async def work(desk: "Desk") -> mail_intake.Summary:
        with mails_shown() as progress:
            return await mail_intake.import_mail(
                desk, paths, trust_dates=trust_dates, acknowledge=acknowledge, progress=progress
            )

    summary = at_the_desk(work)
    print_summary(summary)
    raise typer.Exit(1 if summary.problems else 0)


@cli.command()
def replay(
    name: Annotated[
        str | None, typer.Argument(parser=line, metavar="CASE", help="Its id, or its number such as C-1042.")
    ] = None,
    seq: Annotated[
        int | None, typer.Argument(min=1, max=2**31 - 1, metavar="SEQ", help="With --why: one decision, by its number.")
    ] = None,
    *,
    version: Annotated[int | None, typer.Option(min=1, max=2**31 - 1, help="As it stood at this version.")] = None,
    at: Annotated[
        datetime | None, typer.Option(parser=moment, metavar="TIME", help="As it stood at this moment.")
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", parser=line, metavar="POINT", help="What changed since a version or a time.")
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", parser=line, metavar="POINT", help="With --from: until then, instead of now.")
    ] = None,
    why: Annotated[
        bool, typer.Option("--why", help="What its decisions rested on, each made again; exits with 1 if one differs.")
    ] = False,
    everything: Annotated[bool, typer.Option("--all", help="All cases, at one point of the log.")] = False,
    position: Annotated[
        int | None, typer.Option(min=1, max=2**53, help="With --all: up to this position of the log.")
    ] = None,
) -> None:
    """Print a case's history, and the case as its events alone tell of it; exits with 1 if the stored one differs.

    Or what changed between two points of it; or why it was decided as it was; or how all cases stood.
    """
    given = {
        "--version": version is not None,
        "--at": at is not None,
        "--from": start is not None,
        "--why": why,
        "--position": position is not None,
    }
    if sum(given.values()) > 1:
        raise typer.BadParameter(f"give one of {', '.join(one for one, is_given in given.items() if is_given)}")
    if (everything and (version, start) != (None, None)) or everything is (name is not None) or (everything and why):
        raise typer.BadParameter("give a CASE, or --all with --at or --position")
    if (end and not start) or (seq and not why) or (position and not everything):
        raise typer.BadParameter("--to goes with --from, SEQ with --why, --position with --all")
    if name is None:
        replay_all(position, at)
    elif start is not None:
        replay_between(name, start, end)
    elif why:
        replay_reasons(name, seq)
    else:
        replay_case(name, version, at)


def replay_case(name: str, version: int | None, at: datetime | None) -> None:
    from api.printing import print_replay
    from api.replaying import replayed

    telling = in_the_database(lambda database: replayed(database, name, version, at))
    print_replay(telling)
    raise typer.Exit(0 if telling.matches is not False else 1)


def replay_between(name: str, start: str, end: str | None) -> None:
    from api.printing import print_difference
    from api.replaying import between

    print_difference(in_the_database(lambda database: between(database, name, start, end)))


def replay_reasons(name: str, seq: int | None) -> None:
    from api.printing import print_reasons
    from api.replaying import reasons

    found = in_the_database(lambda database: reasons(database, name, seq))
    print_reasons(found)
    raise typer.Exit(0 if all(one.is_equal for one in found.reviews) else 1)


def replay_all(position: int | None, at: datetime | None) -> None:
    from api.cuts import point
    from api.printing import print_cut
    from api.replaying import names_of_actors
    from storage import cuts
    from storage.sequencer import Sequencer

    async def work(database: "Database") -> None:
        cut = await point(database, Sequencer(database), position, at)
        stood, names = cuts.all_stood(database, cut), await names_of_actors(database)
        await print_cut(stood, await cuts.counted(database, cut), cut, names)

    in_the_database(work)


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
def verify(
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="The report as JSON, with every difference it names.")
    ] = False,
) -> None:
    """Follow every chain, replay every case and compare it with what is stored; exits with 1 at anything wrong."""
    from api.printing import events_shown, print_report
    from storage import verify as proof

    async def work(database: "Database") -> proof.Report:
        with await events_shown(database, "Verifying") as progress:
            return await proof.verify(database, progress, settings.keys_in, settings.erasures_in)

    settings = read_settings()
    report = in_the_database(work)
    if as_json:
        typer.echo(msgspec.json.encode(report))
    else:
        print_report(report)
    raise typer.Exit(1 if report.fault_count else 0)


@key.command("show")
def show_keys() -> None:
    """Print the verifier keys of the log, the one in use last: what others check its checkpoints with."""
    from storage.keys import announcements

    for one in in_the_database(lambda database: database.run(announcements)):
        typer.echo(one.vkey)


@key.command("rotate")
def rotate_key() -> None:
    """Make another key, which the one before it introduces in the log, and print its verifier key."""
    from storage import keys
    from storage.database import utc_now

    typer.echo(str(with_the_keys(lambda database, folder: keys.rotate(database, folder, utc_now()))))


@checkpoint.command("publish")
def publish_checkpoint(
    to: Annotated[
        Path | None, typer.Option(metavar="FILE", dir_okay=False, help="Append it, if it is not there yet.")
    ] = None,
    webhook: Annotated[str | None, typer.Option(metavar="URL", help="POST it as text.")] = None,
    mailbox: Annotated[Path | None, typer.Option(metavar="DIR", help="Put it into a Maildir, as a mail.")] = None,
    mail: Annotated[
        str | None, typer.Option(parser=address, metavar="ADDRESS", help="Mail it, by CASEWORK_SMTP_URL.")
    ] = None,
) -> None:
    """Hand the newest checkpoint to somebody outside, or print it; what was recorded until now is under it."""
    from api import publishing
    from storage import checkpoints
    from storage.keys import CannotSign, KeyFolder, log_of
    from storage.sequencer import Sequencer

    settings = read_settings()
    sender = settings.support_address

    async def newest(database: "Database") -> "tuple[checkpoints.Signed | None, CannotSign | None]":
        sequencer = Sequencer(database, KeyFolder(settings.keys_in, await log_of(database)))
        try:
            return await sequencer.settle(), None
        except CannotSign as refused:  # what was signed before is no less true
            return await checkpoints.newest(database), refused

    def refuse() -> None:
        if refused is not None:
            raise refused

    signed, refused = in_the_database(newest)
    ways: list[Callable[[], object]] = []
    if signed is not None:
        if to is not None:
            ways.append(partial(publishing.append_to, to, signed))
        if webhook is not None:
            ways.append(partial(publishing.post_to, webhook, signed))
        if mailbox is not None:
            ways.append(partial(publishing.deliver_to, mailbox, signed, sender))
        if mail is not None:
            server = settings.smtp_url.get_secret_value() if settings.smtp_url else ""
            ways.append(partial(publishing.mail_to, mail, signed, sender, server))
        if not ways:
            typer.echo(signed.note, nl=False)
    publishing.publish(*ways, refuse)


@checkpoint.command("adopt")
def adopt_state() -> None:
    """Go on from the database as it is, though it is not the one that was signed: after restoring an older backup.

    The log gets another name in checkpoints, and another key; its next event names the checkpoint that is given up.
    """
    from storage import keys
    from storage.database import utc_now

    verifier = with_the_keys(lambda database, folder: keys.adopt(database, folder, utc_now()))
    typer.echo(f"the log goes on as {verifier.name}; whoever verifies it needs its new key:\n{verifier}")


@cli.command()
def erase(
    client: Annotated[
        str | None, typer.Argument(parser=address, metavar="CLIENT", help="The address their cases were opened for.")
    ] = None,
    *,
    name: Annotated[
        str | None, typer.Option("--case", parser=line, metavar="CASE", help="One case, by its id or number.")
    ] = None,
    basis: Annotated[
        str, typer.Option(parser=naming_nobody, metavar="TEXT", help="Stays in the log for good, so it names nobody.")
    ] = "GDPR Art. 17(1)",
    reason: Annotated[
        str, typer.Option(parser=naming_nobody, metavar="TEXT", help="Stays readable for good, so it names nobody.")
    ] = "asked for by the client",
    override: Annotated[
        bool, typer.Option("--override", help="At once, though a case is open or has to be kept.")
    ] = False,
    due: Annotated[bool, typer.Option("--due", help="Carry out what was scheduled and is due by now.")] = False,
    renew_journal: Annotated[
        bool, typer.Option("--renew-journal", help="Make the journal of erasures anew, from the log, if it is lost.")
    ] = False,
) -> None:
    """Delete the personal data of a client, or of one case, at once or as soon as they need no longer be kept.

    What was decided and done stays, and can still be proved; texts read "erased". A legal hold forbids it.
    """
    if sum((client is not None, name is not None, due, renew_journal)) != 1:
        raise typer.BadParameter("name a client or a --case, or give --due or --renew-journal")
    from api.erasures import ErasureView, erase_each, named, outcome_of
    from api.printing import print_erasures
    from storage import erasures
    from storage.journal import Journal
    from storage.keys import log_of
    from workflow.commands import Erase

    async def renew(database: "Database") -> int:
        return await erasures.renew_journal(database, Journal(settings.erasures_in, await log_of(database)))

    async def work(desk: "Desk") -> tuple[list[ErasureView], list[str]]:
        if due:
            return [await outcome_of(desk, receipt) for _, receipt in await desk.erasures.carry_out_due()], []
        command = Erase(legal_basis=basis, reason=reason, override=override)
        found = await named(desk, client, name)
        done = await erase_each(desk, found, command, lambda *what: submit(desk, *what))
        return done, await erasures.also_in(desk.database, client) if client is not None else []

    settings = read_settings()
    if renew_journal:
        typer.echo(f"the journal of erasures has {in_the_database(renew)} of them")
        return
    otherwise = "nothing is due" if due else "no case or mail is kept under this address: nothing to erase"
    print_erasures(*at_the_desk(work), otherwise)


@cli.command()
def bundle(
    name: CaseName,
    *,
    redacted: Annotated[bool, typer.Option("--redacted", help="Without the texts; it verifies the same.")] = False,
    files: Annotated[bool, typer.Option("--files", help="With the evidence files.")] = False,
    since: Annotated[
        list[int] | None,
        typer.Option(min=1, max=2**53, metavar="SIZE", help="Prove that the log goes on from your checkpoint of it."),
    ] = None,
    file: Output = None,
) -> None:
    """Print what proves a case to others: its events, with proofs and signatures for casework-verify."""
    from api.replaying import known_case
    from storage.bundles import bundle_of
    from workflow.desk import RecordRead

    async def work(desk: "Desk") -> bytes:
        case_id = await known_case(desk.database, name)
        version = await desk.version_of(case_id)
        await submit(desk, RecordRead(case=case_id, version=version or 0, what="bundle"))
        return await bundle_of(desk.sequencer, case_id, redacted=redacted, files=files, since=since or ())

    content = at_the_desk(work)
    with output(file) as stream:
        stream.write(content)


class Exported(StrEnum):
    EVENTS = "events"
    CASES = "cases"
    LOG = "log"


@cli.command()
def export(
    what: Annotated[Exported, typer.Argument(help="What to print.")] = Exported.EVENTS,
    *,
    form: Annotated[
        str, typer.Option("--format", metavar="jsonl|csv|xes|ocel", help="XES and OCEL 2.0 are for process mining.")
    ] = "jsonl",
    personal: Annotated[bool, typer.Option("--personal", help="With the texts that are not in the log.")] = False,
    chains: Annotated[str | None, typer.Option(metavar="KIND,…", help="Of events: case, desk, read, refusal …")] = None,
    state: Annotated[str | None, typer.Option(help="Of cases, as they are now; as all that follows.")] = None,
    category: Annotated[str | None, typer.Option(help="Such as billing.")] = None,
    assignee: Annotated[str | None, typer.Option(help="An id or address; empty: cases without one.")] = None,
    opened_from: Annotated[str | None, typer.Option(metavar="TIME", help="Such as 2027-01-31T00:00:00Z.")] = None,
    opened_until: Annotated[str | None, typer.Option(metavar="TIME", help="Not included.")] = None,
    changed_from: Annotated[str | None, typer.Option(metavar="TIME", help="By their last change.")] = None,
    changed_until: Annotated[str | None, typer.Option(metavar="TIME", help="Not included.")] = None,
    file: Output = None,
) -> None:
    """Print events or cases as of one moment, without personal texts; by itself, all events as JSON Lines.

    `log` is the whole log with a signed checkpoint, for casework-verify. docs/exports.md describes the formats.
    """
    import secrets
    from contextlib import aclosing

    from api.exporting import What, written
    from api.exports import asked, with_assignee
    from api.printing import events_shown, rows_shown

    said: dict[str, Any] = {"format": form, "personal": personal, "chains": chains, "state": state}
    said |= {"category": category, "assignee": assignee, "opened_from": opened_from, "opened_until": opened_until}
    said |= {"changed_from": changed_from, "changed_until": changed_until}
    if what is Exported.LOG:
        if said != WHOLE:
            raise typer.BadParameter("the log is exported whole, as JSON Lines: it takes no option but --output")
        export_log(file)
        return
    try:
        order = asked(What(what), {name: value for name, value in said.items() if value is not None})
    except BadInput as bad:
        raise typer.BadParameter("; ".join(f"--{one.field}: {one.message}" for one in bad.errors)) from bad
    pseudonyms = read_settings().secret or secrets.token_bytes()

    async def work(database: "Database") -> None:
        wanted = await with_assignee(database, order)
        shown = rows_shown("Exporting") if wanted.only else await events_shown(database, "Exporting")
        with shown as progress, output(file) as stream:
            async with aclosing(written(database, wanted, pseudonyms, progress)) as blocks:
                async for block in blocks:
                    stream.write(block)

    in_the_database(work)


WHOLE = dict.fromkeys(
    ("chains", "state", "category", "assignee", "opened_from", "opened_until", "changed_from", "changed_until")
) | {"format": "jsonl", "personal": False}


def export_log(file: Path | None) -> None:
    from contextlib import aclosing

    from api.exporting import whole_log
    from api.printing import events_shown
    from storage.keys import KeyFolder, log_of
    from storage.sequencer import Sequencer

    async def work(database: "Database", folder: Path) -> None:
        sequencer = Sequencer(database, KeyFolder(folder, await log_of(database)))
        with await events_shown(database, "Exporting") as progress, output(file) as stream:
            async with aclosing(whole_log(sequencer, progress)) as blocks:
                async for block in blocks:
                    stream.write(block)

    with_the_keys(work)


@cli.command()
def sample(name: Annotated[str, typer.Argument(metavar="ID", help="As the desk has given it to the auditor.")]) -> None:
    """Draw an auditor's sample again, from the log as it was, and print it as JSON; exits with 1 if it differs."""
    from api.samples import again

    view = in_the_database(lambda database: again(database, name))
    typer.echo(pretty(view))
    raise typer.Exit(0 if view["matches"] else 1)


@cli.command()
def report(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="duties, near-tiers, overrides, voided-approvals or refusals: see docs/auditing.md."
        ),
    ],
    *,
    start: Annotated[str | None, typer.Option("--from", metavar="TIME", help="Such as 2027-01-31T00:00:00Z.")] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Not included.")] = None,
    position: Annotated[int | None, typer.Option(help="As the log was up to this position.")] = None,
    percent: Annotated[int | None, typer.Option(help="Of near-tiers: how far below a limit.")] = None,
) -> None:
    """Print a report for auditors as JSON, made from the log alone."""
    from api.reports import REPORTS, Report, asked
    from storage.sequencer import Sequencer

    if name not in REPORTS:
        raise typer.BadParameter(f"give one of {', '.join(REPORTS)}")
    said = {"from": start, "to": end, "position": position, "percent": percent}
    try:
        query = asked(name, {option: value for option, value in said.items() if value is not None})
    except BadInput as bad:
        raise typer.BadParameter("; ".join(f"--{one.field}: {one.message}" for one in bad.errors)) from bad

    async def work(database: "Database") -> object:
        return await REPORTS[name](await Report.of(database, Sequencer(database), query))

    typer.echo(pretty(in_the_database(work)))


@cli.command()
def reconcile(
    *,
    since: Annotated[
        datetime | None,
        typer.Option(parser=day_or_moment, metavar="DATE", help="Such as 2027-01-31; all there is, if not given."),
    ] = None,
    statement: Annotated[
        Path | None,
        typer.Option(metavar="FILE.csv", help="What the bank has: payment_reference, amount, currency."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One difference a line, as JSON.")] = False,
) -> None:
    """Compare the log's refunds with the payment provider's, or a bank statement's; exits with 1 if they differ."""
    from api.database import opened
    from api.payments import payments_of
    from api.printing import print_differences
    from api.reconciling import with_provider, with_statement
    from storage import people
    from storage.database import utc_now

    settings = read_settings()

    async def work() -> int:
        async with opened(settings) as database:
            now = utc_now()
            if statement is not None:
                return await print_differences(with_statement(database, statement, since, now), as_json=as_json)
            provider = payments_of(settings)
            if provider is None:
                raise typer.BadParameter("refunds are paid by people: give the bank's --statement")
            try:
                name = (await people.directory(database)).log
                found = with_provider(database, provider, name, since, now)
                return await print_differences(found, as_json=as_json)
            finally:
                await provider.close()

    raise typer.Exit(1 if asyncio.run(work()) else 0)


def pretty(view: object) -> str:
    return msgspec.json.format(msgspec.json.encode(view), indent=2).decode()


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
    from storage.erasures import said_of_journal
    from storage.journal import Journal

    async def run() -> tuple[backups.Header, list[str]]:
        async with schema_ready(settings) as database:
            with rows_shown("Restoring") as progress:
                header = await backups.restore(source, database, progress)
            return header, await said_of_journal(database, Journal(settings.erasures_in, header.log))

    settings = read_settings()
    header, said = asyncio.run(run())
    typer.echo(f"the desk {header.log} is as it was at {header.at}; casework verify proves it")
    for one in said:
        typer.echo(one)


if __name__ == "__main__":
    main()
