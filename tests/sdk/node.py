"""The official Node client of the OpenAI API at a server of ours: `check` returns what tests/sdk/node/check.mjs saw."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent / "node"
_TIMEOUT_SECONDS = 120.0


def check(base_url: str, key: str, *, chat_model: str, embedding_model: str) -> dict[str, Any]:
    """Return the script's report by step; `base_url` is without /v1.

    Skips the test where there is no Node, unless REQUIRE_NODE is set, as in continuous integration; fails where there is Node
    and the client is not installed.
    """
    node = shutil.which("node")
    if node is None:
        if os.environ.get("REQUIRE_NODE"):
            pytest.fail("there is no node on PATH, and REQUIRE_NODE is set")
        pytest.skip("there is no node on PATH")
    if not (FOLDER / "node_modules" / "openai").is_dir():
        pytest.fail("the client is not installed: make install-node-sdk")
    variables = {
        "OPENAI_BASE_URL": f"{base_url.rstrip('/')}/v1",
        "OPENAI_API_KEY": key,
        "CHAT_MODEL": chat_model,
        "EMBEDDING_MODEL": embedding_model,
    }
    done = subprocess.run(
        [node, "check.mjs"],
        cwd=FOLDER,
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report
