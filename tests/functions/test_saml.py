"""Metadata for identity providers that speak SAML, held against the standard's own schema."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import xmlschema

from functions.identity.saml import METADATA, metadata
from shared.settings import get_settings
from tests.functions.asgi import call
from tests.functions.platform import Platform


@pytest.fixture(scope="module")
def schema() -> xmlschema.XMLSchema:
    """The schema of saml-metadata-2.0-os, from files: nothing is fetched."""
    package = find_spec("saml2")
    assert package is not None
    assert package.submodule_search_locations is not None
    folder = Path(package.submodule_search_locations[0]) / "data" / "schemas"
    local = {
        namespace: str(folder / file)
        for namespace, file in {
            "http://www.w3.org/2000/09/xmldsig#": "xmldsig-core-schema.xsd",
            "http://www.w3.org/2001/04/xmlenc#": "xenc-schema.xsd",
            "http://www.w3.org/XML/1998/namespace": "xml.xsd",
            "urn:oasis:names:tc:SAML:2.0:assertion": "saml-schema-assertion-2.0.xsd",
        }.items()
    }
    return xmlschema.XMLSchema(str(folder / "saml-schema-metadata-2.0.xsd"), locations=local, allow="local")


@pytest.mark.parametrize(
    "base", ["https://agents.example.com", "https://agents.example.com/platform/", "https://ü.example"]
)
def test_the_metadata_is_valid(schema: xmlschema.XMLSchema, base: str) -> None:
    schema.validate(metadata(base))


def test_what_the_schema_forbids_is_found(schema: xmlschema.XMLSchema) -> None:
    broken = metadata("https://agents.example.com").replace(b'index="0"', b'index="first"')
    assert not schema.is_valid(broken)


async def test_the_metadata_is_public_and_names_the_platforms_address(
    platform: Platform, schema: xmlschema.XMLSchema, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUBLIC_BASE_URL", "https://agents.example.com")
    get_settings.cache_clear()
    reply = await call(platform.serve("identity"), "GET", "/saml/metadata")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/samlmetadata+xml")
    schema.validate(reply.body)
    document = reply.body.decode()
    assert 'entityID="https://agents.example.com/saml/metadata"' in document
    assert 'Location="https://agents.example.com/saml/acs"' in document
    assert METADATA in document
