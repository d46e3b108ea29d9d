"""What an operator's command works on: the deployment that the variables name, or else the local platform that runs.

`python -m infra.target COMMAND ...` runs a command with the variables of that deployment.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from infra.local.state import Record, StateDir
from shared.settings import Settings, with_scheme

ROOT = Path(__file__).resolve().parents[1]
STORES = ("DATABASE_URL", "MIGRATION_DATABASE_URL")
"""Where one of these is set, a deployment is named."""


def running() -> Record | None:
    """Return what the local platform says of itself, if it runs."""
    state = StateDir(Path(os.environ.get("LOCAL_STATE_DIR") or ROOT / ".local"))
    return None if state.holder() is None else state.read_record()


def variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment, with all that the local platform's processes are started with where it is what is meant."""
    record = None if any(environ.get(name) for name in STORES) else running()
    if record is None:
        return dict(environ)
    from infra.local import environment
    from infra.local.ports import MODEL_SERVER

    urls = environment.Connections(**record.variables)
    found = environment.variables(environ, urls, embedded_models=MODEL_SERVER in record.processes)
    return {**found.inherited, **found.config, **found.secret}


def database_url(settings: Settings) -> str:
    """Return where to work: MIGRATION_DATABASE_URL or DATABASE_URL, or else the local platform that runs."""
    if not {name.lower() for name in STORES} & settings.model_fields_set:
        record = running()
        if record is not None:
            return with_scheme(record.variables["migration_database_url"], "postgresql")
    return settings.migration_url("postgresql")


def with_models(settings: Settings) -> Settings:
    """Return the settings with the local platform's model server, if that platform runs and no other server is set."""
    record = None if "litellm_base_url" in settings.model_fields_set else running()
    url = None if record is None else record.variables.get("model_url")
    return settings if url is None else settings.model_copy(update={"litellm_base_url": url})


def main() -> None:
    """Become the command."""
    command = sys.argv[1:]
    if not command:
        sys.exit("usage: python -m infra.target COMMAND [ARGUMENT ...]")
    try:
        os.execvpe(command[0], command, variables(os.environ))  # noqa: S606 - the operator's own command
    except OSError as error:
        sys.exit(f"error: {command[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
