"""Where the desk may be made to send something: to public addresses, and to no others."""

from ipaddress import ip_address, ip_network

import pytest

from api.network import Network, NoSuchHost, OffLimits, is_public


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0", "10.1.2.3", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254"),  # noqa: S104
        *("169.254.169.254", "172.16.0.1", "172.31.255.255", "192.168.1.1", "198.18.0.1", "224.0.0.1"),
        *("168.63.129.16", "192.0.0.192", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1"),
        *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::a9fe:a9fe"),
        *("64:ff9b:1::1", "2002:7f00:1::", "2002:a9fe:a9fe::", "2001:0:4136:e378::1", "fec0::1"),
    ],
)
def test_an_address_that_is_not_public_is_refused_however_it_is_written(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize(
    "address", ["9.9.9.9", "172.32.0.1", "100.128.0.1", "2620:fe::fe", "::ffff:9.9.9.9", "64:ff9b::909:909"]
)
def test_a_public_address_is_not(address: str) -> None:
    assert is_public(ip_address(address))


def leading_to(*addresses: str) -> Network:
    async def resolve(_host: str, _port: int) -> list[str]:
        return [*addresses]

    return Network(resolve=resolve)


async def test_one_address_that_is_not_public_is_enough_to_refuse_a_name() -> None:
    assert await leading_to("9.9.9.9", "9.9.9.9", "2620:fe::fe").addresses("https://a.example/") == (
        ip_address("9.9.9.9"),
        ip_address("2620:fe::fe"),
    )
    for addresses in (("9.9.9.9", "127.0.0.1"), ("::1", "2620:fe::fe")):
        with pytest.raises(OffLimits):
            await leading_to(*addresses).addresses("https://a.example/")
    with pytest.raises(NoSuchHost):
        await leading_to().addresses("https://a.example/")


@pytest.mark.parametrize(
    "url",
    [
        *("https://127.0.0.1/", "https://127.1/", "https://2130706433/", "https://0x7f.0.0.1/", "https://0177.0.0.1/"),
        *("https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://localhost/", "https://0/"),
    ],
)
async def test_this_machine_is_refused_under_all_its_names(url: str) -> None:
    with pytest.raises(OffLimits):
        await Network().addresses(url)


async def test_a_name_that_cannot_be_one_is_not_found() -> None:
    for host in ("a" * 64 + ".invalid", "nowhere.invalid", "a..b"):
        with pytest.raises(NoSuchHost):
            await Network().addresses(f"https://{host}/")


async def test_without_tls_only_what_is_allowed_can_be_reached() -> None:
    inside = leading_to("10.1.0.7")
    inside.allowed = (ip_network("10.1.0.0/16"),)
    for url in ("http://crm.internal/", "https://crm.internal/"):
        assert await inside.addresses(url) == (ip_address("10.1.0.7"),)

    for network in (leading_to("9.9.9.9"), leading_to("10.2.0.7")):
        network.allowed = inside.allowed
        with pytest.raises(OffLimits):
            await network.addresses("http://crm.internal/")


async def test_an_address_within_another_is_allowed_with_it() -> None:
    inside = leading_to("::ffff:10.1.0.7")
    inside.allowed = (ip_network("10.1.0.0/16"),)
    assert await inside.addresses("https://crm.internal/") == (ip_address("::ffff:10.1.0.7"),)
