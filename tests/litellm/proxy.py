"""A real LiteLLM proxy process on loopback: no database, no telemetry, nothing fetched.

It runs from an environment of its own (`make install-litellm`), pinned by `requirements.lock` beside this file.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Self

from infra.local import ports
from infra.local.ports import HOST
from infra.local.process import ChildProcess, PartError
from infra.local.readiness import wait_until_ready

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / ".venv-litellm" / "bin" / "litellm"
MASTER_KEY = "sk-litellm-test"
READY_PATH = "/health/liveliness"
_READY_TIMEOUT_SECONDS = 120.0

# What LiteLLM's documentation advises for production, as far as it needs no database; and what keeps it from calling out.
_VARIABLES = {
    "LITELLM_MODE": "PRODUCTION",
    # What a configuration names in the environment.
    "LITELLM_MASTER_KEY": MASTER_KEY,
    "OPENAI_API_KEY": "sk-nobody",
    "ANTHROPIC_API_KEY": "sk-nobody",
    "LITELLM_LOG": "ERROR",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_LOCAL_BLOG_POSTS": "True",
    "LITELLM_LOCAL_POLICY_TEMPLATES": "True",
    "LITELLM_LOCAL_AUTOROUTER_PRESETS": "True",
    "DISABLE_ADMIN_UI": "True",
}
_INHERITED = ("PATH", "HOME", "LANG", "TMPDIR")


def model(name: str, base_url: str, key: str = "sk-upstream", *, upstream: str | None = None) -> dict[str, Any]:
    """Return a model of a configuration: served as `name`, asked for as `upstream` at an OpenAI-compatible endpoint."""
    params = {"model": f"openai/{upstream or name}", "api_base": f"{base_url.rstrip('/')}/v1", "api_key": key}
    return {"model_name": name, "litellm_params": params}


def configuration(models: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a configuration for production without a database."""
    return {
        "model_list": list(models),
        "general_settings": {"master_key": MASTER_KEY},
        "litellm_settings": {"request_timeout": 600, "set_verbose": False, "telemetry": False},
    }


class LiteLLM:
    """A proxy with a configuration, its state and log in `folder`; a context manager.

    One worker by default, as LiteLLM advises for a pod; with uvloop, its default on Linux.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any], *, workers: int = 1) -> None:
        if not PROGRAM.exists():
            raise PartError("LiteLLM is not installed: make install-litellm")
        self._folder = folder
        self._config = config
        self._port = ports.free(["litellm"])["litellm"]
        self.key = MASTER_KEY
        self.url = f"http://{HOST}:{self._port}"
        path = folder / "litellm.yaml"
        command = (PROGRAM, "--config", path, "--host", HOST, "--port", self._port, "--num_workers", workers)
        self.process = ChildProcess(
            "litellm",
            tuple(map(str, command)),
            env={name: os.environ[name] for name in _INHERITED if name in os.environ} | _VARIABLES,
            cwd=folder,
            log_path=folder / "litellm.log",
        )

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        # JSON is YAML.
        (self._folder / "litellm.yaml").write_text(json.dumps(self._config), encoding="utf-8")
        self.process.start()
        try:
            wait_until_ready(self.process, self.url + READY_PATH, timeout=_READY_TIMEOUT_SECONDS, abort=Event())
        except BaseException:
            self.process.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stop()
