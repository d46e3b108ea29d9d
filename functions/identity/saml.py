"""SAML 2.0 metadata of the platform as a service provider (saml-metadata-2.0-os), for identity providers that ask for it.

The platform itself takes OpenID Connect tokens. A broker such as Keycloak takes the SAML response at this address, behind the
same host name, and issues them.
"""

from functools import cache
from xml.etree.ElementTree import Element, SubElement, register_namespace, tostring

from starlette.requests import Request
from starlette.responses import Response

from shared.settings import get_settings

METADATA = "urn:oasis:names:tc:SAML:2.0:metadata"
PROTOCOL = "urn:oasis:names:tc:SAML:2.0:protocol"
POST_BINDING = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST"
NAME_ID_FORMATS = (
    "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent",
    "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress",
)
MEDIA_TYPE = "application/samlmetadata+xml"


async def show(_: Request) -> Response:
    """Serve the metadata."""
    return Response(metadata(get_settings().public_base_url), media_type=MEDIA_TYPE)


@cache
def metadata(base_url: str) -> bytes:
    """Return the EntityDescriptor of the service provider at a base URL, as XML in UTF-8."""
    register_namespace("md", METADATA)
    base = base_url.rstrip("/")
    entity = Element(f"{{{METADATA}}}EntityDescriptor", entityID=f"{base}/saml/metadata")
    provider = SubElement(
        entity,
        f"{{{METADATA}}}SPSSODescriptor",
        AuthnRequestsSigned="false",
        WantAssertionsSigned="true",
        protocolSupportEnumeration=PROTOCOL,
    )
    for name_id_format in NAME_ID_FORMATS:
        SubElement(provider, f"{{{METADATA}}}NameIDFormat").text = name_id_format
    SubElement(
        provider,
        f"{{{METADATA}}}AssertionConsumerService",
        Binding=POST_BINDING,
        Location=f"{base}/saml/acs",
        index="0",
        isDefault="true",
    )
    document: bytes = tostring(entity, encoding="UTF-8", xml_declaration=True)
    return document
