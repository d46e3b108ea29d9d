"""Signature Version 4 against the examples that AWS has published.

Source: "Signature Calculations for the Authorization Header: Transferring Payload in a Single Chunk", Amazon S3 API Reference.
"""

from datetime import UTC, datetime

import pytest

from functions.ingestion.signing import Credentials, quoted, signed_headers

CREDENTIALS = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "us-east-1")
MOMENT = datetime(2013, 5, 24, tzinfo=UTC)
HOST = "https://examplebucket.s3.amazonaws.com"
EXAMPLES = {
    "an object": (
        f"{HOST}/test.txt",
        {"Range": "bytes=0-9"},
        "host;range;x-amz-content-sha256;x-amz-date",
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    ),
    "a parameter without a value": (
        f"{HOST}/?lifecycle",
        {},
        "host;x-amz-content-sha256;x-amz-date",
        "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
    ),
    "parameters": (
        f"{HOST}/?prefix=J&max-keys=2",
        {},
        "host;x-amz-content-sha256;x-amz-date",
        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
    ),
}


@pytest.mark.parametrize(("url", "headers", "names", "signature"), EXAMPLES.values(), ids=EXAMPLES.keys())
def test_a_published_example_has_its_published_signature(
    url: str, headers: dict[str, str], names: str, signature: str
) -> None:
    signed = signed_headers("GET", url, CREDENTIALS, MOMENT, headers)
    assert signed["Authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
        f"SignedHeaders={names},Signature={signature}"
    )
    assert signed["x-amz-date"] == "20130524T000000Z"
    assert "host" not in signed, "the client sends it by itself"


def test_a_key_is_encoded_once_and_its_slashes_stay() -> None:
    assert quoted("a b/ü+$?#%.txt", safe="/") == "a%20b/%C3%BC%2B%24%3F%23%25.txt"
    assert quoted("a/b~c_d-e.f") == "a%2Fb~c_d-e.f"
