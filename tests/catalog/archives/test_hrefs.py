"""Only files on an archive's hosts are read, over schemes that name nothing of this machine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.archives import load_archive, load_archives
from catalog.archives.hrefs import href_refusal

PLANETARY = load_archive("planetary-computer")
GOOD = "https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/32/T/QU/B02.tif"


def test_a_file_on_the_archives_host_is_read() -> None:
    assert href_refusal(GOOD, PLANETARY) is None
    assert href_refusal(GOOD.upper().replace("HTTPS", "https"), PLANETARY) is None
    earth_search = load_archive("earth-search")
    assert href_refusal("s3://usgs-landsat/collection02/a.TIF", earth_search) is None
    assert href_refusal("s3://earthsearch-data/a.tif", earth_search) is None


@pytest.mark.parametrize(
    ("href", "word"),
    [
        ("file:///etc/passwd", "file:"),
        ("/vsicurl/https://example.org/a.tif", "no complete address"),
        ("//sentinel2l2a01.blob.core.windows.net/a.tif", "no complete address"),
        ("ftp://sentinel2l2a01.blob.core.windows.net/a.tif", "ftp:"),
        ("vrt://https://x.blob.core.windows.net/a.tif", "vrt:"),
        ("<VRTDataset rasterXSize='1'/>", "no complete address"),
        ("data:image/tiff;base64,SUkqAA==", "data:"),
        ("http://sentinel2l2a01.blob.core.windows.net/a.tif", "without encryption"),
        ("https://example.org/a.tif", "none of the archive's hosts"),
        ("https://sentinel2l2a01.blob.core.windows.net@example.org/a.tif", "example.org"),
        ("https://sentinel2l2a01.blob.core.windows.net:443@127.0.0.1/a.tif", "private network"),
        ("https://sentinel2l2a01.blob.core.windows.net.evil.org/a.tif", "evil.org"),
        ("https://evil.org\\.blob.core.windows.net/a.tif", "what no address holds"),
        ("https://evil.org%2f.blob.core.windows.net/a.tif", "spelled as no host"),
        ("https://x.blob.core.windows.net。evil.org/a.tif", "spelled as no host"),
        ("https://blob.core.windows.net/a.tif", "none of the archive's hosts"),
        ("https://x.blob.core.windows.net/a.vrt", "VRT"),
        ("https://x.blob.core.windows.net/a.%56RT", "VRT"),
        ("https://x.blob.core.windows.net/vsizip/a.tif", "virtual file system"),
        ("https://x.blob.core.windows.net/a/../../b.tif", "climbs"),
        ("https://x.blob.core.windows.net/a/%252e%252e/b.tif", "climbs"),
        ("https://x.blob.core.windows.net/a%00.tif", "climbs"),
        ("https://x.blob.core.windows.net:99999/a.tif", "no address"),
        ("https://[::1/a.tif", "no address"),
        ("s3://169.254.169.254/latest/a.tif", "bucket"),
        ("https://x.blob.core.windows.net/" + "a" * 5000, "what no address holds"),
    ],
)  # fmt: skip
def test_what_is_not_read_says_why(href: str, word: str) -> None:
    assert word in (href_refusal(href, PLANETARY) or "")


@pytest.mark.parametrize("name", sorted(load_archives()))
@pytest.mark.parametrize(
    "host", ["169.254.169.254", "2852039166", "0xa9fea9fe", "[::ffff:a9fe:a9fe]", "10.0.0.1"]
)
@pytest.mark.parametrize("scheme", ["http", "https", "s3"])
def test_no_built_in_archive_reads_from_inside_a_network(name: str, host: str, scheme: str) -> None:
    assert href_refusal(f"{scheme}://{host}/latest/meta-data", load_archive(name)) is not None


def test_the_sandbox_reads_from_this_machine_and_from_nowhere_else() -> None:
    sandbox = load_archive("sandbox", url="http://127.0.0.1:8651")
    assert href_refusal("http://127.0.0.1:8651/assets/a.tif", sandbox) is None
    assert href_refusal("http://127.0.0.2:8651/assets/a.tif", sandbox) is not None
    assert href_refusal("https://example.org/a.tif", sandbox) is not None


@given(
    user=st.text(
        st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="@/?#\\[]"), max_size=12
    ),
    host=st.sampled_from(["evil.org", "127.1", "localhost", "[::1]", "169.254.169.254.", "017700000001"]),
    tail=st.text(max_size=20),
)
def test_nothing_put_around_a_foreign_host_makes_it_the_archives(user: str, host: str, tail: str) -> None:
    for trick in ("{user}@{host}", "{good}@{host}", "{user}:{good}@{host}", "{host}#{good}", "{host}?{good}"):
        netloc = trick.format(user=user, host=host, good="x.blob.core.windows.net")
        assert href_refusal(f"https://{netloc}/{tail}", PLANETARY) is not None


@given(st.text(max_size=60))
def test_any_text_is_judged(href: str) -> None:
    assert href_refusal(href, PLANETARY) is not None
