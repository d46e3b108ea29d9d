"""Chance that can be repeated: SEED and ROUNDS of the environment."""

import os
import secrets
from random import Random

SEED = os.environ.get("SEED") or secrets.token_hex(4)
ROUNDS = int(os.environ.get("ROUNDS") or 20)
"""How often everything is done."""


def chance(*names: object) -> Random:
    """Return the run's own random numbers for what these names name."""
    return Random("/".join(map(str, (SEED, *names))))  # noqa: S311 - nothing is kept secret by them
