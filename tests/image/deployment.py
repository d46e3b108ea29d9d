"""Every workload of knative/base in a container of its own, with the ConfigMap of the base, in production mode.

PostgreSQL, Redis and the model server are processes of this machine. Where the ConfigMap names a cluster's addresses and
models, those of this machine take their place; and a document is large that the cluster would call a small one.
"""

from __future__ import annotations

import json
import secrets
from contextlib import ExitStack
from threading import Event
from typing import TYPE_CHECKING, Any, Self

import yaml

from infra.local import environment, manifests, ports, provision
from infra.local.assembly import MANIFESTS
from infra.local.model_server.files import model_directory
from infra.local.ports import BROKER, HOST, JOB_SINK
from infra.local.readiness import wait_until_ready
from tests.image.container import Container
from tests.servers import server

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from infra.local.manifests import Service
    from infra.local.postgres import EmbeddedPostgres
    from infra.local.redis import EmbeddedRedis
    from tests.image.building import Built

MODELS = "/models"
LARGE_BYTES = 16_384
TIMEOUT_SECONDS = 120.0
MEBIBYTE = 1024 * 1024
SUFFIXES = {"Mi": MEBIBYTE, "Gi": 1024 * MEBIBYTE}
JOB_LIMITS = {"memory": "512Mi", "cpu": "1"}
"""Of what has no manifest of its own here."""
JOBS_LIMITS = {"memory": "4Gi", "cpu": "2"}
"""Of what runs the JobSinks' Jobs, which are its own processes here."""


class Deployment:
    """The platform in containers; `urls` by Service, `containers` by name."""

    def __init__(self, built: Built, postgres: EmbeddedPostgres, redis: EmbeddedRedis, folder: Path) -> None:
        self.built = built
        self.containers: dict[str, Container] = {}
        self.manifests = manifests.load(MANIFESTS)
        self.objects = _objects()
        self._postgres = postgres
        self._folder = folder
        self._stack = ExitStack()
        self._ports = ports.free([BROKER, JOB_SINK, *self.manifests.services])
        self.urls = {name: f"http://{HOST}:{port}" for name, port in self._ports.items()}
        passwords = {role: secrets.token_urlsafe(24) for role in (environment.FUNCTIONS_ROLE, environment.RELAY_ROLE)}
        self._passwords = passwords
        database = environment.DATABASE
        self.secret = {
            "DATABASE_URL": postgres.url(database, user="app", password=passwords["app"]),
            "RELAY_DATABASE_URL": postgres.url(database, user="relay", password=passwords["relay"]),
            "MIGRATION_DATABASE_URL": postgres.url(database),
            "REDIS_URL": redis.url,
            "LITELLM_API_KEY": secrets.token_hex(24),
            "SECRET_KEY": secrets.token_hex(32),
        }
        self.config: dict[str, str] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            models = server(
                "models",
                "infra.local.model_server",
                self._folder,
                LITELLM_API_KEY=self.secret["LITELLM_API_KEY"],
                MODEL_TOKENS_PER_SECOND="0",
            )
            model_url, _ = stack.enter_context(models)
            self.config = self._configuration(model_url)
            stack.callback(self._stop)
            self._start()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def container(
        self,
        name: str,
        command: Sequence[str],
        variables: Mapping[str, str],
        limits: Mapping[str, str] | None = None,
        *,
        scratch: bool = False,
    ) -> Container:
        """Return a container of the image that is not started yet."""
        limits = limits or JOB_LIMITS
        return Container(
            name,
            self.built.root,
            command,
            config=self.built.config,
            environment=variables,
            folder=self._folder,
            memory_bytes=quantity(limits["memory"]),
            cpus=processors(limits["cpu"]),
            volumes={MODELS: model_directory()},
            scratch=scratch,
        )

    def function(self, service: Service, name: str | None = None) -> Container:
        """Return a Knative Service's container that is not started yet."""
        variables = service.container.environment(self.config, self.secret) | self.address(service.name)
        return self.container(name or service.name, service.container.command, variables, self.limits(service.name))

    def limits(self, name: str) -> Mapping[str, str]:
        """Return the limits of a Service or a source, as its manifest has them."""
        container: Mapping[str, Any] = self.objects[name]["spec"]["template"]["spec"]["containers"][0]
        found: Mapping[str, str] = container["resources"]["limits"]
        return found

    def address(self, part: str) -> dict[str, str]:
        """Return where a part listens."""
        return {"HOST": HOST, "PORT": str(self._ports[part])}

    def job(self, name: str, command: Sequence[str], **variables: str) -> str:
        """Run a command of the image to its end and return what it said; fails when it fails."""
        names = ("DATABASE_URL", "MIGRATION_DATABASE_URL", "SECRET_KEY", "REDIS_URL", "LITELLM_API_KEY")
        environ = self.config | {name: self.secret[name] for name in names} | variables
        container = self.container(name, command, environ)
        container.start()
        try:
            status = container.wait(TIMEOUT_SECONDS)
            said = container.log_tail(2000)
        finally:
            container.stop()
        assert status == 0, said
        return said

    def _configuration(self, model_url: str) -> dict[str, str]:
        """Return the ConfigMap of the base with the addresses and models of this machine."""
        models = environment.variables({}, _nowhere(model_url), embedded_models=True).config
        data = dict(self.objects["enterprise-agents"]["data"])
        here = {name: value for name, value in models.items() if name in data} | {"LITELLM_BASE_URL": model_url}
        here |= {"LARGE_DOCUMENT_BYTES": str(LARGE_BYTES)}
        here |= {"EMBEDDING_TOKENIZER": f"{MODELS}/tokenizer.json", "ENVIRONMENT": data["ENVIRONMENT"]}
        return data | here

    def _start(self) -> None:
        provision.create_database(self._postgres.superuser_url, environment.DATABASE)
        assert self.manifests.migration is not None
        self.job("migration", self.manifests.migration.command)
        provision.set_passwords(self._postgres.superuser_url, self._passwords)
        subscribers = {name: self.urls[name] for name in (*self.manifests.services, JOB_SINK)}
        own = {"LOCAL_SUBSCRIBERS": json.dumps(subscribers), "LOCAL_PING_SECONDS": "5"}
        parts = [self.container(BROKER, ("python", "-m", "infra.local.broker"), own | self.address(BROKER))]
        variables = self.config | {"DATABASE_URL": self.secret["DATABASE_URL"]} | self.address(JOB_SINK)
        parts.append(
            self.container(JOB_SINK, ("python", "-m", "infra.local.jobs"), variables, JOBS_LIMITS, scratch=True)
        )
        parts += [self.function(service) for service in self.manifests.services.values()]
        for source in self.manifests.sources:
            variables = source.container.environment(self.config, self.secret)
            variables |= {"K_SINK": self.urls[BROKER], "K_CE_OVERRIDES": json.dumps({"extensions": source.extensions})}
            parts.append(self.container(source.name, source.container.command, variables, self.limits(source.name)))
        for part in parts:
            self.containers[part.name] = part
            part.start()
        for name, url in self.urls.items():
            part = self.containers[name]
            wait_until_ready(part, f"{url}/health/ready", timeout=TIMEOUT_SECONDS, abort=Event())

    def _stop(self) -> None:
        for container in self.containers.values():
            container.stop()


def _objects() -> dict[str, dict[str, Any]]:
    """Return Services, sources and the ConfigMap of the base by name."""
    kinds = {"ConfigMap", "ContainerSource"}
    found = {}
    for path in sorted(MANIFESTS.rglob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            if document and (document["kind"] in kinds or document["apiVersion"].startswith("serving.knative.dev/")):
                found[document["metadata"]["name"]] = document
    return found


def _nowhere(model_url: str) -> environment.Connections:
    return environment.Connections("", "", "", "", model_url)


def quantity(text: str) -> int:
    """Return a Kubernetes quantity of memory in bytes."""
    return int(text[:-2]) * SUFFIXES[text[-2:]]


def processors(text: str) -> float:
    """Return a Kubernetes quantity of processors."""
    return int(text.removesuffix("m")) / 1000 if text.endswith("m") else float(text)
