"""A desk on which a bit of everything has happened: what is verified, attacked, backed up and restored."""

import asyncio
from contextlib import suppress

from msgspec.structs import replace

from storage.sequencer import Sequencer
from tests.storage.desks import NOTE, OPERATOR, Office, a_key, an_office
from tests.workflow.builders import (
    ANA,
    AUDREY,
    BO,
    CHECK,
    CLEO,
    DIRK,
    LOU,
    MAIL,
    UNA,
    a_letter,
    a_link,
    a_purchase,
    approves,
    begins,
    closing,
    euros,
    firing,
    from_the_client,
    proposes,
    refunds,
    restates,
    verifies,
)
from workflow import commands as c
from workflow.cases import NewAttachment
from workflow.desk import AddPolicy, RecordRead, SetMailAside
from workflow.errors import Forbidden
from workflow.people import CreateToken, DisablePerson, RevokeToken, SetRoles
from workflow.policy import GroundKind, Settings
from workflow.roles import Role
from workflow.states import LinkKind, Resolution, Trigger

EVIDENCE = NewAttachment(id="file", name="statement.pdf", content_type="application/pdf", content=b"%PDF \x00\xff")


def fill(url: str) -> str:
    """Let it all happen on the migrated database at this URL, and return the URL."""

    async def happen() -> None:
        async with an_office(url) as office:
            await people_come_and_go(office)
            await a_refund_is_paid(office)
            await Sequencer(office.database).catch_up()
            await other_cases(office)

    asyncio.run(happen())
    return url


async def people_come_and_go(office: Office) -> None:
    for person, token in ((ANA, "t-ana"), (ANA, "t-old"), (CLEO, "t-cleo"), (BO, "t-bo")):
        await office.submit(OPERATOR, CreateToken(person_id=person.id, token_id=token, secret_hash=f"#{token}"), None)
    await office.submit(OPERATOR, RevokeToken(person_id=ANA.id, token_id="t-old"), None)
    await office.submit(OPERATOR, SetRoles(person_id=LOU.id, roles=(Role.AGENT, Role.LEAD)), None)
    await office.submit(OPERATOR, AddPolicy(settings=Settings(window_days=14)), None)


async def a_refund_is_paid(office: Office) -> None:
    """In case A, whose purchase is case B's too: 21 events and 5."""
    await office.open("A", subject="The banners / Баннеры", message="They never ran.")
    await office.open("B", purchase=None, purchase_reference="D-1")
    await office.do(ANA, firing(Trigger.INVESTIGATE))
    await office.do(ANA, CHECK)
    ground = c.RecordGround(kind=GroundKind.BILLING_ERROR, affected=euros("300.00"), statement="charged twice")
    (recorded,) = (await office.do(ANA, ground)).grounds
    await office.do(BO, verifies(recorded))
    await office.do(ANA, c.AddAttachment(attachment=EVIDENCE))
    proposal = (await office.do(ANA, proposes(euros("300.00")))).proposals[-1]
    await office.do(CLEO, approves(proposal))
    await office.do(DIRK, begins(proposal))
    await office.do(DIRK, refunds(proposal))
    await office.do(ANA, a_letter(awaits_reply=True), key=a_key())
    await office.do(MAIL, from_the_client("Thank you!"), mail_refs=("id:1", "mail:1"))
    await office.submit(OPERATOR, DisablePerson(person_id=BO.id), None)


async def other_cases(office: Office) -> None:
    await office.investigate(ANA, "C", purchase=None)
    await office.do(ANA, firing(Trigger.SCHEDULE_CONSULTATION), "C")
    await office.investigate(LOU, "D", purchase=None, attachments=(replace(EVIDENCE, id="photo"),))
    await office.do(LOU, c.SetParticipants(participants=("una@home.example",)), "D")
    await office.do(LOU, a_letter(), "D")
    await office.do(LOU, closing(Resolution.EXPLAINED), "D")
    # A slip in the reference: case E moves to another purchase, and nobody is left with the first.
    await office.investigate(ANA, "E", purchase=a_purchase(reference="D-2"))
    await office.do(ANA, c.RecordPurchase(purchase=a_purchase(reference="D-3")), "E")
    await office.do(ANA, restates((await office.case("E")).purchase, package="larger"), "E")
    await office.do(ANA, c.LinkCase(kind=LinkKind.RELATED, case="D"), "E")
    for link in ("l-una", "l-old"):
        await office.do(ANA, a_link(replace(UNA, id=link)), "E")
    await office.do(ANA, c.RevokeClientLink(link_id="l-old"), "E")
    await office.submit(MAIL, SetMailAside(reason="a newsletter", sender="x@y.example", subject="Sale", text="!"), None)
    await office.submit(AUDREY, RecordRead(case="A", version=1, what="the case"), None)
    with suppress(Forbidden):
        await office.submit(AUDREY, NOTE, "A")
