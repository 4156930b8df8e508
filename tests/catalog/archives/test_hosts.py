"""A host has one spelling, and what lies inside a private network is known however it is spelled."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.archives import Archive, load_archive
from catalog.archives.hosts import (
    is_local_name,
    is_private,
    is_public,
    literal_address,
    private_addresses,
    spelled,
)
from catalog.errors import SceneError, UsageError

ADDRESSES = st.integers(0, 2**32 - 1).map(IPv4Address)
NAMES = st.from_regex(r"[a-z][a-z0-9]{0,8}(-[a-z0-9]{1,5})?(\.[a-z][a-z0-9]{0,8}){1,3}", fullmatch=True)


def spellings(address: IPv4Address) -> list[str]:
    """How one address may be written so that a C library, a browser or a proxy understands it."""
    value = int(address)
    a, b, c, d = address.packed
    return [
        str(address), f"{address}.", str(value), hex(value), f"0{value:o}", f"{a:#x}.{b:#x}.{c:#x}.{d:#x}",
        f"0{a:o}.0{b:o}.0{c:o}.0{d:o}", f"{a}.{value & 0xFFFFFF}", f"{a}.{b}.{value & 0xFFFF}",
        f"{a:#X}.{b}.{c}.{d}", f"::ffff:{address}", f"[::ffff:{address}]",
        f"::ffff:{value >> 16:x}:{value & 0xFFFF:x}", f"64:ff9b::{address}",
        f"2002:{value >> 16:x}:{value & 0xFFFF:x}::1",
    ]  # fmt: skip


@given(ADDRESSES)
def test_every_spelling_of_an_address_is_that_address(address: IPv4Address) -> None:
    assert {spelled(text) for text in spellings(address)} == {str(address)}
    assert {is_private(text) for text in spellings(address)} == {not is_public(address)}


@given(st.integers(0, 2**128 - 1).map(IPv6Address))
def test_an_ipv6_address_is_as_public_as_what_it_carries(address: IPv6Address) -> None:
    plain = ip_address(spelled(str(address)) or "")
    assert is_public(address) == is_public(plain)
    assert not (is_public(address) and (plain.is_private or plain.is_loopback or plain.is_link_local))


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "localhost", "LOCALHOST.", "x.localhost", "0", "0.0.0.0", "10.1.2.3", "172.16.0.1",
        "192.168.1.1", "169.254.169.254", "100.64.0.1", "[::1]", "::", "fe80::1", "fd00:ec2::254", "fec0::1",
        "::ffff:169.254.169.254", "metadata", "metadata.google.internal", "printer.local", "168.63.129.16",
        "224.0.0.1", "255.255.255.255", "1.2.3.4.5", "256.1.1.1", "0x100.1.1.1", "", "a..b", "-a.b", "a b.c",
        "１２７.0.0.1", "ⓔxample.com", "exämple.org", "example.com%00.org", "fe80::1%eth0", "2001::1",
    ],
)  # fmt: skip
def test_what_is_inside_or_no_host_at_all_is_private(host: str) -> None:
    assert is_private(host)


@given(NAMES)
def test_public_names_are_told_from_addresses_and_keep_their_spelling(name: str) -> None:
    assert spelled(name) == spelled(name.upper()) == spelled(f"{name}.") == name
    assert literal_address(name) is None
    assert is_private(name) == is_local_name(name)


@given(st.text(max_size=40))
def test_no_text_is_too_strange_to_judge(text: str) -> None:
    name = spelled(text)
    assert name is None or (spelled(name) == name and name.isascii() and "/" not in name and "@" not in name)
    assert isinstance(is_private(text), bool)


def test_an_archive_without_hosts_reads_from_the_internet_and_not_from_inside() -> None:
    archive = load_archive("https://stac.example.org/api")
    assert archive.may_hold("files.example.net") and archive.may_hold("8.8.8.8")
    for host in ("localhost", "127.0.0.1", "2130706433", "169.254.169.254", "[::ffff:10.0.0.1]", "minio"):
        assert not archive.may_hold(host)


def test_an_archive_inside_a_network_holds_its_own_files_and_no_neighbours() -> None:
    archive = load_archive("http://10.0.0.5:8080/stac")
    assert archive.may_hold("10.0.0.5") and archive.may_hold("167772165")
    assert not archive.may_hold("10.0.0.6") and not archive.may_hold("127.0.0.1")


def test_a_recipe_vouches_for_hosts_by_name() -> None:
    archive = load_archive("planetary-computer").with_hosts(("minio", "mirror.example.org"))
    assert archive.may_hold("minio") and archive.may_hold("mirror.example.org")
    assert archive.may_hold("a.blob.core.windows.net") and not archive.may_hold("example.org")
    unknown = load_archive("https://stac.example.org").with_hosts(("10.0.0.7",))
    assert unknown.may_hold("10.0.0.7") and unknown.may_hold("example.net")
    assert not unknown.may_hold("10.0.0.8")


@pytest.mark.parametrize("host", ["https://a.org", "a.org/b", "*", "a b", "*.*.a", "a:80"])
def test_a_host_is_a_name_without_anything_around_it(host: str) -> None:
    with pytest.raises(UsageError, match="is no host"):
        load_archive("planetary-computer").with_hosts((host,))


def test_a_wildcard_lets_no_private_name_through() -> None:
    archive = Archive(name="wide", hosts=("*.internal", "*.example.org"))
    assert archive.may_hold("a.example.org") and not archive.may_hold("metadata.google.internal")


def test_a_name_that_leads_inside_is_refused_when_it_is_read() -> None:
    # Every resolver of every machine knows this name, and it leads inside.
    assert private_addresses("localhost")
    archive = Archive(name="x", url="https://stac.example.org", hosts=("*.example.org",))
    with pytest.raises(SceneError) as caught:
        archive.may_resolve_to("localhost")
    assert caught.value.code == "private-address"
    load_archive("sandbox", url="http://localhost:8651").may_resolve_to("localhost")
    assert private_addresses("no-such-name.invalid") == ()
