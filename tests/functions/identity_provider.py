"""A company's identity provider as far as its tokens go: its keys, and what it signs with them."""

import base64
import json
import time
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

ISSUER = "https://idp.example.com/realms/company"
AUDIENCE = "enterprise-agents-api"
CLIENT = "enterprise-agents"
VARIABLES = {
    "ENVIRONMENT": "prod",
    "OIDC_ISSUER_URL": ISSUER,
    "OIDC_AUDIENCE": AUDIENCE,
    "OIDC_CLIENT_ID": CLIENT,
}
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
STRANGER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
"""The key of another realm."""
EC = ec.generate_private_key(ec.SECP256R1())


def jwk(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, kid: str) -> dict[str, Any]:
    """Return the public half of a key as the provider publishes it."""
    if isinstance(key, rsa.RSAPrivateKey):
        public = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    else:
        public = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return public | {"kid": kid, "use": "sig"}


JWKS = {"keys": [jwk(RSA, "rsa"), jwk(EC, "ec"), {"kty": "oct", "kid": "secret", "k": "c2VjcmV0"}]}


def claims(tenant: UUID, **changes: Any) -> dict[str, Any]:
    """Return what a good token says, with changes; None leaves a claim out."""
    now = int(time.time())
    known = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "azp": CLIENT,
        "sub": "4d3c",
        "tenant_id": str(tenant),
        "iat": now,
        "exp": now + 300,
    }
    return {name: value for name, value in (known | changes).items() if value is not None}


def sign(payload: Mapping[str, Any], key: Any = RSA, algorithm: str = "RS256", **header: Any) -> str:
    """Return a token."""
    return jwt.encode(dict(payload), key, algorithm=algorithm, headers={"kid": "rsa"} | header)


def encoded(document: object) -> str:
    """Return a part of a token: JSON in base64url."""
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()
