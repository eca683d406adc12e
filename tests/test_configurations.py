"""What a client may ask for, and what that means."""

import pytest

from chpnet_stream.chain.installed import installed_chains
from chpnet_stream.configurations import WELL_KNOWN, Configuration, Configurations
from chpnet_stream.errors import ConfigurationError
from chpnet_stream.options import ReconstructionOptions
from chpnet_stream.streaming.mrd_scan import is_json

KNOWN = Configurations()


@pytest.mark.parametrize("name", [*WELL_KNOWN, *installed_chains()])
@pytest.mark.parametrize("end", ["", ".xml"])
def test_every_name_gives_options(name: str, end: str) -> None:
    found = KNOWN.named(name + end)
    assert found.name == name + end
    ReconstructionOptions.from_properties(dict(found.properties))
    assert found.takes == {
        "chpnet_grappa_enhance": "images",
        "default_measurement_dependencies": "noise",
    }.get(name, "anything")


def test_an_installed_chain_means_its_own_properties() -> None:
    assert KNOWN.named("chpnet_realtime.xml").properties["deadline_ms"] == "150"


def test_no_name_is_no_wish() -> None:
    assert KNOWN.named("") == Configuration()


def test_other_names_of_a_site() -> None:
    site = Configurations({"Brain": "rss", "knee.xml": "chpnet_realtime"})
    assert site.named("Brain.xml").properties == {"method": "rss"}
    assert site.named("knee").properties["dtype"] == "uint16"
    assert {one["name"] for one in site.listed()} >= {"Brain", "knee.xml", "rss", "chpnet_realtime"}
    with pytest.raises(ConfigurationError, match="unknown configuration 'rsss'"):
        Configurations({"Brain": "rsss"})


def test_a_whole_chain_of_ours() -> None:
    path = installed_chains()["chpnet_realtime"]
    found = KNOWN.of_message(path.read_bytes())
    assert found.properties == KNOWN.named("chpnet_realtime").properties
    assert found.note == ""


def test_a_chain_of_others_is_told() -> None:
    chain = b"<configuration><stream><gadget><name>FFT</name></gadget></stream></configuration>"
    found = KNOWN.of_message(chain)
    assert found.properties == {}
    assert "not by the gadgets of that chain" in found.note


FIRST_VERSION = (
    '<?xml version="1.0" encoding="UTF-8"?>\r\n'
    '<gadgetronStreamConfiguration xmlns="http://gadgetron.sf.net/gadgetron">\r\n'
    "<gadget><name>FFT</name><dll>gadgetron_mricore</dll><classname>FFTGadget</classname>"
    "<property><name>a</name><value>1</value></property></gadget>\r\n"
    "</gadgetronStreamConfiguration>\r\n"
)


def test_a_chain_of_gadgetrons_first_version_is_told_too() -> None:
    """It was replaced by the server's own options without a word."""
    found = KNOWN.of_message(FIRST_VERSION.encode())
    assert found.properties == {}
    assert "not by the gadgets of that chain" in found.note


def test_texts_from_windows() -> None:
    text = '\ufeff{"parameters": {\r\n"method": "rss"\r\n}}\r\n'
    assert is_json(text)
    assert KNOWN.of_json(text).properties == {"method": "rss"}
    assert KNOWN.of_message(text.encode()).properties == {"method": "rss"}
    xml = '\ufeff<configuration>\r\n<property name="method" value="rss"/>\r\n</configuration>\r\n'
    assert KNOWN.of_message(xml.encode()).properties == {"method": "rss"}
    assert KNOWN.of_message("\ufeffrss.xml\r\n".encode()).properties == {"method": "rss"}


def test_a_chain_with_two_of_ours_says_nothing_clear() -> None:
    node = b'<external><connect port="18000"/></external>'
    with pytest.raises(ConfigurationError, match="has 2 gadgets"):
        KNOWN.of_message(b"<configuration><stream>" + 2 * node + b"</stream></configuration>")


@pytest.mark.parametrize("raw", [b"", b"\0\0", b'<?xml version="1.0"?>\n', b"<configuration/>"])
def test_configurations_that_ask_for_nothing(raw: bytes) -> None:
    assert KNOWN.of_message(raw).properties == {}


def test_a_name_may_come_as_a_text() -> None:
    assert KNOWN.of_message(b"simplefft\0").properties["method"] == "rss"


def test_json_replaces_names_and_adds_properties() -> None:
    base = KNOWN.named("chpnet_realtime")
    found = KNOWN.of_json('{"parameters": {"virtual_coils": 4, "flip_rows": true}}', base)
    assert found.properties == {**base.properties, "virtual_coils": "4", "flip_rows": "true"}
    found = KNOWN.of_json('{"parameters": {"config": "rss", "customconfig": "cg-sense"}}', base)
    assert found.properties == {"method": "cg-sense"}
    found = KNOWN.of_json('{"parameters": {"config": null, "customconfig": null}}', base)
    assert found.name == base.name


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{", "can't be read"),
        ("{}", "without parameters"),
        ('{"parameters": [1]}', "without parameters"),
        ('{"parameters": {"series": [1]}}', "parameter series: found"),
        ('{"parameters": {"config": "grapa"}}', "unknown configuration 'grapa'"),
    ],
)
def test_json_that_asks_for_nothing_clear(text: str, fault: str) -> None:
    with pytest.raises(ConfigurationError, match=fault):
        KNOWN.of_message(text.encode())


def test_document_types_are_refused() -> None:
    bomb = b'<!DOCTYPE c [<!ENTITY a "b">]><configuration><stream>&a;</stream></configuration>'
    with pytest.raises(ConfigurationError, match="document type"):
        KNOWN.of_message(bomb)


def test_json_without_end_is_an_error_of_ours() -> None:
    with pytest.raises(ConfigurationError, match="JSON parameters can't be read"):
        KNOWN.of_json('{"parameters": ' + 100_000 * "[")
