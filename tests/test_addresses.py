"""Addresses that strangers name: one reading of each, and none of them leads where its author may not send anybody."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from urllib.parse import urlsplit

import pytest
import requests
import yarl
from hypothesis import example, given
from hypothesis import strategies as st
from urllib3.util import parse_url

from fedledger.protocol.errors import ConfigError
from fedledger.storage.addresses import DEVELOPMENT, MAX_URL, PORTS, Networks, Place, is_public, port_of, read_url
from support.examples import examples

HOSTILE = [
    "",
    "x",
    "http:",
    "http:/",
    "http://",
    "http:///",
    "//example.org",
    "ftp://example.org",
    "file:///etc/passwd",
    "gopher://example.org",
    "HTTP://example.org",
    "http:example.org",
    "http:\\\\example.org",
    "javascript:alert(1)",
    " http://example.org",
    "http://example.org ",
    "http://example.org\n",
    "http://exam\tple.org",
    "http://example.org\r\nX: y",
    "http://example.org\x00",
    "http://example.org/\x1b[2J",
    "http://127.0.0.1:5001/api/v0/shutdown?x=",
    "http://127.0.0.1:5001/api/v0/pin/rm?arg=x&x=",
    "http://example.org/?",
    "http://example.org?x",
    "http://example.org#x",
    "http://example.org/#",
    "http://user@example.org",
    "http://user:password@example.org",
    "http://@example.org",
    "http://example.org@127.0.0.1",
    "http://example.org:80@127.0.0.1",
    "http://example.org\\@127.0.0.1",
    "http://example.org;@127.0.0.1",
    "http://example.org/..",
    "http://example.org/a/../b",
    "http://example.org/./a",
    "http://example.org/.hidden",
    "http://example.org/%2e%2e/a",
    "http://example.org/a%2fb",
    "http://example.org/a\\b",
    "http://example.org//a",
    "http://example.org/a//",
    "http://example.org/a;b",
    "http://example.org/a:b",
    "http://example.org/ä",
    "http://ex%61mple.org",
    "http://EXAMPLE.org",
    "http://exämple.org",
    "http://example。org",
    "http://ⓔxample.org",
    "http://example.org.",
    "http://.example.org",
    "http://exa..mple.org",
    "http://-example.org",
    "http://example-.org",
    "http://exa_mple.org",
    "http://" + "a" * 64 + ".org",
    "http://" + "a." * 126 + "org",
    "http://example.org/" + "a" * 65,
    "http://example.org" + "/a" * 130,
    "http://example.org:",
    "http://example.org:0",
    "http://example.org:080",
    "http://example.org:+80",
    "http://example.org:-1",
    "http://example.org:65536",
    "http://example.org:99999999999",
    "http://example.org:８０",
    "http://example.org:8_0",
    "http://2130706433",
    "http://0x7f000001",
    "http://0x7f.1",
    "http://0x",
    "http://127.1",
    "http://127.0.1",
    "http://0177.0.0.1",
    "http://127.0.0.01",
    "http://127.0.0.1.",
    "http://127.0.0.256",
    "http://1.2.3.4.5",
    "http://example.0x7f",
    "http://example.1",
    "http://0",
    "http://١٢٧.0.0.1",
    "http://[::1",
    "http://::1",
    "http://[]",
    "http://[1]",
    "http://[v1.x]",
    "http://[0:0:0:0:0:0:0:1]",
    "http://[::01]",
    "http://[::A]",
    "http://[fe80::1%eth0]",
    "http://[fe80::1%25eth0]",
    "http://[::ffff:127.0.0.1]",
    "http://[::ffff:7f00:1]",
    "http://[::127.0.0.1]",
    "http://[::1]x",
    "http://[::1]:",
    "http://[::1]@example.org",
    "http://\ufffd",
]


@pytest.mark.parametrize("url", HOSTILE)
def test_what_has_several_readings_or_more_than_a_place_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="is refused") as caught:
        read_url(url)
    assert caught.value.message.isascii() and caught.value.message.isprintable()


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("http://example.org", Place("http", "example.org", 80)),
        ("https://example.org/", Place("https", "example.org", 443)),
        ("http://localhost:8700", Place("http", "localhost", 8700)),
        (
            "https://xn--exmple-cua.org:65535/fed-ledger/v1.0/",
            Place("https", "xn--exmple-cua.org", 65535, "/fed-ledger/v1.0"),
        ),
        ("http://127.0.0.1:1", Place("http", "127.0.0.1", 1)),
        ("http://[2a00:1450::200e]:8700", Place("http", "2a00:1450::200e", 8700)),
        ("http://3com.com", Place("http", "3com.com", 80)),
        ("http://0x7f.example", Place("http", "0x7f.example", 80)),
    ],
)
def test_what_is_plain_is_read(url: str, place: Place) -> None:
    assert read_url(url) == place
    assert read_url(str(place)) == place


PIECES = [
    *(
        "http://",
        "https://",
        "HTTP://",
        "//",
        "/",
        "\\",
        "@",
        ":",
        "?",
        "#",
        "[",
        "]",
        "%",
        "%2e",
        "%00",
        ".",
        "..",
        "~",
    ),
    *("example.org", "127.0.0.1", "127.1", "0x7f.1", "017700000001", "2130706433", "::1", "::ffff:7f00:1", "fe80::1"),
    *(
        "localhost",
        "a",
        "A",
        "0",
        "1",
        "80",
        "5001",
        "65536",
        "api",
        "v0",
        "x=",
        "&",
        ";",
        "\t",
        "\n",
        "\r",
        "\x00",
        " ",
    ),
    *("ä", "。", "０", "\u200b", "\u202e", "xn--", "-", "_", "+"),
]
made_of_pieces = st.lists(st.sampled_from(PIECES), max_size=10).map("".join)
hosts = st.from_regex(r"\A(?:[a-z0-9.-]{1,20}|\[[0-9a-f:]{2,12}\]|[0-9]{1,3}(?:\.[0-9]{1,3}){0,3})\Z")
likely = st.builds(
    "{}://{}{}{}".format,
    st.sampled_from(["http", "https"]),
    hosts,
    st.sampled_from(["", ":1", ":80", ":443", ":8700", ":65535", ":65536", ":00"]),
    st.from_regex(r"\A(?:/[A-Za-z0-9._-]{0,4}){0,3}\Z"),
)


@examples(1000)
@given(st.one_of(st.text(max_size=40), made_of_pieces, likely))
@example("http://1.1.1.1/a.b/")
@example("http://[::1]:80/a")
def test_all_parsers_agree_on_what_is_accepted(url: str) -> None:
    try:
        place = read_url(url)
    except ConfigError:
        return
    assert url.isascii() and len(url) <= MAX_URL
    standard, third, fourth = urlsplit(url), parse_url(url), yarl.URL(url)
    prepared = parse_url(str(requests.Request("GET", url).prepare().url))
    usual = PORTS[place.scheme]
    for scheme, host, port, path in (
        (standard.scheme, standard.hostname, standard.port or usual, standard.path),
        (third.scheme, third.host, third.port or usual, third.path or ""),
        (fourth.scheme, fourth.host, fourth.port or usual, fourth.raw_path),
        (prepared.scheme, prepared.host, prepared.port or usual, prepared.path or ""),
    ):
        assert (scheme, str(host).strip("[]"), port, path.rstrip("/")) == (
            place.scheme,
            place.host,
            place.port,
            place.path,
        )
    assert not (standard.query or standard.fragment or standard.username or standard.password)
    assert read_url(str(place)) == place


@examples(500)
@given(hosts)
@example("127.1")
@example("1.2")
def test_what_a_resolver_takes_for_an_address_is_one_in_its_usual_spelling(host: str) -> None:
    """``inet_aton`` reads numbers in many bases and with few parts, and so do resolvers."""
    try:
        place = read_url(f"http://{host}")
    except ConfigError:
        return
    try:
        meant = socket.inet_ntoa(socket.inet_aton(place.host))
    except OSError:
        return
    assert place.host == meant == str(place.address)


ELSEWHERE = [
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.9.9.9", "169.254.169.254", "172.16.0.1"),
    *("172.31.255.255", "192.0.0.1", "192.0.2.1", "192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.1"),
    *("224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "::", "::1", "::7f00:1", "::ffff:8.8.8.8"),
    *(
        "64:ff9b::7f00:1",
        "64:ff9b::a00:1",
        "64:ff9b:1::1",
        "100::1",
        "2001:0:7f00:1::",
        "2001:db8::1",
        "2002:7f00:1::1",
        "fc00::1",
    ),
    *("fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1"),
]


@pytest.mark.parametrize("address", ELSEWHERE)
def test_nothing_but_the_public_internet_is_reached_unless_it_is_allowed(address: str) -> None:
    assert not is_public(ip_address(address))
    place = Place("http", "example.org", 80)
    assert not Networks().permit(place, ip_address(address))


PUBLIC = ["1.1.1.1", "8.8.8.8", "93.184.216.34", "2606:4700:4700::1111", "2a00:1450::1", "64:ff9b::808:808"]


@pytest.mark.parametrize("address", PUBLIC)
def test_the_public_internet_is_reached(address: str) -> None:
    assert Networks().permit(Place("https", "example.org", 443, "/mailbox"), ip_address(address))


def test_in_allowed_networks_no_path_is_named_and_own_services_stay_closed() -> None:
    networks = Networks.read(["10.0.0.0/8", "::1/128"], closed=[5001])
    for address, port, path, is_allowed in (
        ("10.1.2.3", 8700, "", True),
        ("::1", 8700, "", True),
        ("10.1.2.3", 8700, "/api", False),
        ("10.1.2.3", 5001, "", False),
        ("11.1.2.3", 5001, "/api", True),
        ("127.0.0.1", 8700, "", False),
        ("192.168.0.1", 8700, "", False),
    ):
        place = Place("http", address, port, path)
        assert networks.permit(place, ip_address(address)) is is_allowed, place
        if not is_allowed:
            with pytest.raises(ConfigError, match="--allow-network"):
                networks.require(place)
    networks.require(Place("http", "example.org", 8700))
    assert not Networks.read(["0.0.0.0/0"]).permit(Place("http", "a", 1), ip_address("0.0.0.0"))
    assert not Networks.read(["0.0.0.0/0"]).permit(Place("http", "a", 1), ip_address("224.0.0.1"))
    assert Networks.read(DEVELOPMENT).permit(Place("http", "a", 1), ip_address("192.168.0.1"))


@pytest.mark.parametrize("network", ["", "10.0.0.1/8", "example.org", "10.0.0.0/33", "*"])
def test_what_is_no_network_is_refused(network: str) -> None:
    with pytest.raises(ConfigError, match="is not a network"):
        Networks.read([network])


@pytest.mark.parametrize(
    ("service", "port"),
    [
        ("http://127.0.0.1:8545", 8545),
        ("http://127.0.0.1:8545/", 8545),
        ("http://[::1]:8545/path?x=1", 8545),
        ("https://example.org/key", None),
        ("/ip4/127.0.0.1/tcp/5001", 5001),
        ("/ip4/127.0.0.1/tcp/5001/http", 5001),
        ("local", None),
        ("embedded", None),
    ],
)
def test_the_port_of_an_own_service_is_found(service: str, port: int | None) -> None:
    assert port_of(service) == port
