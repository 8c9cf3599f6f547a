"""The page of deliveries: what failed is seen, tried again or called off by those who may, with a reason."""

import re

from api.carrying_out import Hopeless
from tests.api.driving import Json, Service, done
from tests.api.test_carrying_out import OtherSide, settled, working
from tests.pages.visiting import Visitor


async def a_failed_letter(service: Service) -> Json:
    await service.ana.open()
    async with working(service.desk, OtherSide(Hopeless(code="smtp_550", detail="<no such> mailbox"))):
        (delivery,) = await settled(service)
    return delivery


async def fields(visitor: Visitor, reason: str) -> dict[str, str]:
    page = await visitor.get("/deliveries")
    csrf, key = (re.search(rf'name="{name}" value="(\w+)"', page.text) for name in ("csrf", "key"))
    assert csrf
    assert key
    return {"csrf": csrf[1], "key": key[1], "reason": reason, "status": "dead"}


async def test_what_failed_is_what_one_sees_first_with_what_the_other_side_said(service: Service) -> None:
    await a_failed_letter(service)
    await service.ana.open()  # whose acknowledgement still waits

    page = (await Visitor(service, "ana").get("/deliveries")).text

    assert "smtp 550" in page
    assert "&lt;no such&gt; mailbox" in page
    assert page.count('id="delivery-') == 1
    assert 'Deliveries <span class="count">1</span>' in page
    assert "una@example.com" not in page


async def test_a_failed_letter_is_tried_again_from_the_page(service: Service) -> None:
    delivery = await a_failed_letter(service)
    ana = Visitor(service, "ana")

    answer = await ana.post(f"/deliveries/{delivery['id']}/retries", await fields(ana, "it is back"))

    assert (answer.status_code, answer.headers["location"]) == (303, "/deliveries?status=dead")
    assert done(await service.ana.get(f"/v1/deliveries/{delivery['id']}"))["status"] == "waiting"
    assert "Nothing has failed" in (await ana.get("/deliveries")).text


async def test_without_a_reason_nothing_is_done_and_the_page_says_why(service: Service) -> None:
    delivery = await a_failed_letter(service)
    ana = Visitor(service, "ana")

    answer = await ana.post(f"/deliveries/{delivery['id']}/cancellation", await fields(ana, " "))

    assert answer.status_code == 422
    assert 'role="alert"' in answer.text
    assert done(await service.ana.get(f"/v1/deliveries/{delivery['id']}"))["status"] == "dead"


async def test_an_auditor_sees_it_and_has_nothing_to_press(service: Service) -> None:
    await a_failed_letter(service)

    page = (await Visitor(service, "audrey").get("/deliveries")).text

    assert "smtp 550" in page
    assert "Try again" not in page
