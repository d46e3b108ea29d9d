"""Runs the model server: ``python -m infra.local.model_server``, configured by the environment."""

import logging
import os
import sys
import time

from infra.local.model_server.config import Config, ConfigError

_SHUTDOWN_SECONDS = 2
_BAD_CONFIGURATION = 2

_log = logging.getLogger("model_server")


def main() -> int:
    """Load the model, then serve until a signal; returns the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        config = Config.from_environment(os.environ)
    except ConfigError as error:
        _log.critical("%s", error)
        return _BAD_CONFIGURATION
    # The encoder spreads its passes over threads itself; a BLAS that did so too would only contend with it.
    # It must be set before NumPy is loaded, hence the imports here.
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
        os.environ.setdefault(variable, "1")
    started = time.perf_counter()
    import uvicorn

    from infra.local.model_server.embeddings import Encoder
    from infra.local.model_server.files import ModelFilesMissingError
    from infra.local.model_server.server import create_app

    try:
        encoder = Encoder()
    except ModelFilesMissingError as error:
        _log.critical("%s", error)
        return 1
    _log.info("loaded the model in %.2f s", time.perf_counter() - started)
    try:
        uvicorn.run(
            create_app(config, encoder),
            host=config.host,
            port=config.port,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        )
    finally:
        encoder.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
