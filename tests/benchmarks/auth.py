"""What the door costs: a token whose key is cached, and an API key; each beside what it cannot do without, in the same run.

Started as `python -m tests.benchmarks.auth` (`make bench-auth`). The floors:

    token      the bare verification of its signature by `cryptography`
    key        the call of a function that does nothing, on the same connection pool
    admission  the call of a function with core.enter in its pipeline, beside the same call after bare set_config

Rounds alternate, so that a noisy machine disturbs both sides alike. Fails when a token takes 0.3 ms or more at the median.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from uuid import UUID, uuid4

import jwt
import psycopg
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from shared.api_keys import ApiKey
from shared.database import Database
from shared.oidc import KeySet, verify
from shared.principal import Principal
from shared.settings import Settings, with_scheme
from tests.benchmarks.stores import throw_away_stores

LIMIT_SECONDS = 0.0003
ROUNDS = 500
WARM_UP = 20

Step = Callable[[], Awaitable[object]]


def tokens(settings: Settings) -> dict[str, tuple[str, Mapping[str, Any], Callable[[bytes, bytes], object]]]:
    """Return a token for each kind of key: the token, its public JWK, and the bare verification of (signature, message)."""
    now = int(time.time())
    claims = {
        "iss": settings.oidc_issuer_url,
        "aud": settings.oidc_audience,
        "azp": settings.oidc_client_id,
        "sub": str(uuid4()),
        "tenant_id": str(uuid4()),
        "roles": ["member"],
        "groups": ["engineering", "berlin"],
        "iat": now,
        "exp": now + 3600,
    }
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    ec_key = ec.generate_private_key(ec.SECP256R1())
    ed_key = ed25519.Ed25519PrivateKey.generate()

    def rs256(signature: bytes, message: bytes) -> object:
        return rsa_key.public_key().verify(signature, message, padding.PKCS1v15(), hashes.SHA256())

    def es256(signature: bytes, message: bytes) -> object:
        der = jwt.utils.raw_to_der_signature(signature, ec_key.curve)
        return ec_key.public_key().verify(der, message, ec.ECDSA(hashes.SHA256()))

    def eddsa(signature: bytes, message: bytes) -> object:
        return ed_key.public_key().verify(signature, message)

    def made(key: Any, algorithm: str, jwk: Mapping[str, Any], bare: Any) -> tuple[str, Mapping[str, Any], Any]:
        return jwt.encode(claims, key, algorithm=algorithm, headers={"kid": algorithm}), {**jwk, "kid": algorithm}, bare

    algorithms = jwt.algorithms
    return {
        "RS256": made(rsa_key, "RS256", algorithms.RSAAlgorithm.to_jwk(rsa_key.public_key(), as_dict=True), rs256),
        "ES256": made(ec_key, "ES256", algorithms.ECAlgorithm.to_jwk(ec_key.public_key(), as_dict=True), es256),
        "EdDSA": made(ed_key, "EdDSA", algorithms.OKPAlgorithm.to_jwk(ed_key.public_key(), as_dict=True), eddsa),
    }


async def compare(name: str, step: Step, floor: Step) -> float:
    """Print both medians and the median of their ratios; return the step's median, in seconds."""
    taken, bare = [], []
    for number in range(WARM_UP + ROUNDS):
        began = time.perf_counter()
        await step()
        between = time.perf_counter()
        await floor()
        ended = time.perf_counter()
        if number >= WARM_UP:
            taken.append(between - began)
            bare.append(ended - between)
    ratio = median(t / b for t, b in zip(taken, bare, strict=True))
    late = quantiles(taken, n=20)[-1]
    print(
        f"{name:22} {median(taken) * 1000:8.3f} ms   p95 {late * 1000:8.3f} ms"
        f"   floor {median(bare) * 1000:8.3f} ms   ratio {ratio:6.2f}"
    )
    return median(taken)


async def measure_tokens(settings: Settings) -> float:
    """Compare each kind of token; return the slowest median."""
    made = tokens(settings)
    loads = 0

    async def load() -> Mapping[str, Any]:
        nonlocal loads
        loads += 1
        return {"keys": [jwk for _, jwk, _ in made.values()]}

    keys, slowest = KeySet(load), 0.0
    for name, (token, _, bare) in made.items():
        head, _, encoded = token.rpartition(".")
        message, signature = head.encode(), jwt.utils.base64url_decode(encoded)

        async def step(token: str = token) -> object:
            return await verify(token, keys, settings)

        async def floor(bare: Any = bare, signature: bytes = signature, message: bytes = message) -> object:
            return bare(signature, message)

        slowest = max(slowest, await compare(f"token {name}", step, floor))
    if loads != 1:
        raise RuntimeError("the keys were not cached")
    return slowest


async def measure_database(folder: Path) -> None:
    """Compare an API key, and the admission of a request, with bare statements."""
    with throw_away_stores(folder) as assembly:
        tenant, key = provision(with_scheme(assembly.connections.migration_database_url, "postgresql"))
        database = await Database(with_scheme(assembly.connections.database_url, "postgresql"), pool_size=1).open()
        principal = Principal(tenant, "bench", "tenant.read", roles=("member",))
        async with await psycopg.AsyncConnection.connect(
            with_scheme(assembly.connections.database_url, "postgresql"), autocommit=True, prepare_threshold=None
        ) as connection:

            async def authenticate() -> object:
                return await database.call(
                    "core.authenticate_key",
                    p_tenant_id=key.tenant_id,
                    p_key_id=key.key_id,
                    p_secret_sha256=key.digest(),
                )

            async def nothing() -> object:
                return await database.call("core.known_roles", p_names=[])

            async def admitted() -> object:
                return await database.call("core.read_tenant", principal)

            async def unadmitted() -> object:
                async with connection.pipeline():
                    await connection.execute("SELECT set_config('app.tenant_id', %s, true)", (str(tenant),))
                    cursor = await connection.execute("SELECT * FROM core.read_tenant()")
                    return await cursor.fetchall()

            await compare("API key", authenticate, nothing)
            await compare("admission (core.enter)", admitted, unadmitted)
        await database.close()


def provision(url: str) -> tuple[UUID, ApiKey]:
    """Make a tenant with a service account and a key."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute("SELECT core.provision_tenant('bench', 'Bench')").fetchone()
        if row is None:
            raise RuntimeError("no tenant")
        tenant: UUID = row[0]
        key = ApiKey.generate(tenant)
        with connection.transaction():
            connection.execute("SELECT core.enter_function(%s, 'bench')", [tenant])
            connection.execute(
                "SELECT core.create_key(%s, %s, 'bench', (core.create_service_account('bench') ->> 'id')::uuid)",
                [key.key_id, key.digest()],
            )
    return tenant, key


async def run() -> int:
    """Measure all; return the exit status."""
    print(f"median of {ROUNDS} rounds; ratio is the median of the rounds' ratios")
    slowest = await measure_tokens(Settings())
    with tempfile.TemporaryDirectory(prefix="bench-auth-", ignore_cleanup_errors=True) as folder:
        await measure_database(Path(folder))
    if slowest >= LIMIT_SECONDS:
        print(f"a token takes {slowest * 1000:.3f} ms at the median; the limit is {LIMIT_SECONDS * 1000:.1f} ms")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(run()))
