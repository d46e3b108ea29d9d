"""Chance that can be repeated: SEED, ROUNDS, DOCUMENTS and KILLS of the environment."""

import os
import secrets
from random import Random

SEED = os.environ.get("SEED") or secrets.token_hex(4)
ROUNDS = int(os.environ.get("ROUNDS") or 20)
"""How often everything is done."""
DOCUMENTS = int(os.environ.get("DOCUMENTS") or 2000)
KILLS = int(os.environ.get("KILLS") or 10)
"""How often the worker that reads and the function that embeds are killed, each, while so many documents come in."""
REPEATED = f"SEED={SEED} ROUNDS={ROUNDS} DOCUMENTS={DOCUMENTS} KILLS={KILLS}"


def chance(*names: object) -> Random:
    """Return the run's own random numbers for what these names name."""
    return Random("/".join(map(str, (SEED, *names))))  # noqa: S311 - nothing is kept secret by them


def ages(random: Random, number: int, of: int) -> list[float]:
    """Return the ages of four turns, in parts of their lives, at the moment when something is done to them.

    The first falls at random into its own part of a life and a bit more: together, `of` of them cover it evenly. Of the
    others one is just being accepted and handed on, and one is about to end, be settled and be told.
    """
    return [
        1.1 * (number + random.random()) / of,
        random.uniform(0, 0.08),
        random.uniform(0.95, 1.05),
        random.uniform(0, 1.1),
    ]
