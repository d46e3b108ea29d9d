from collections.abc import Callable
from pathlib import Path

import pytest

SERVICE = """
apiVersion: serving.knative.dev/v1
kind: Service
metadata:
  name: worker
  labels:
    networking.knative.dev/visibility: cluster-local
spec:
  template:
    spec:
      containerConcurrency: 2
      timeoutSeconds: 7
      containers:
        - image: platform
          command: [python, -m, shared.serving]
          env:
            - {name: FUNCTION_TARGET, value: work}
            - {name: DATABASE_URL, valueFrom: {secretKeyRef: {name: s, key: WORKER_URL}}}
            - {name: REGION, valueFrom: {configMapKeyRef: {name: c, key: PLACE}}}
            - {name: DEV_JWT_SECRET, valueFrom: {secretKeyRef: {name: s, key: DEV_JWT_SECRET, optional: true}}}
          envFrom:
            - configMapRef: {name: c}
"""

JOB_SINK = """
apiVersion: sinks.knative.dev/v1alpha1
kind: JobSink
metadata: {name: long-work}
spec:
  job:
    spec:
      backoffLimit: 2
      activeDeadlineSeconds: 60
      template:
        spec:
          restartPolicy: Never
          containers:
            - image: platform
              command: [python, -m, work.job]
              env:
                - {name: DATABASE_URL, valueFrom: {secretKeyRef: {name: s, key: WORKER_URL}}}
              envFrom:
                - configMapRef: {name: c}
"""

TRIGGER = """
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: work}
spec:
  broker: default
  filter: {attributes: {type: work.wanted.v1}}
  subscriber: {ref: {apiVersion: serving.knative.dev/v1, kind: Service, name: worker}}
  delivery: {retry: 4, backoffPolicy: linear, backoffDelay: PT0.01S, timeout: PT8S}
"""

TO_JOB_SINK = TRIGGER.replace(
    "serving.knative.dev/v1, kind: Service", "sinks.knative.dev/v1alpha1, kind: JobSink"
).replace("name: worker", "name: long-work")

BROKER = """
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {name: default}
spec:
  delivery: {retry: 2, backoffPolicy: exponential, backoffDelay: PT3S}
"""

PING = """
apiVersion: sources.knative.dev/v1
kind: PingSource
metadata: {name: tick}
spec:
  schedule: "*/5 * * * *"
  data: '{"a": 1}'
  sink: {ref: {apiVersion: serving.knative.dev/v1, kind: Service, name: worker}, uri: /tick}
"""

JOB = """
apiVersion: batch/v1
kind: Job
metadata: {name: migrate}
spec:
  template:
    spec:
      containers:
        - image: platform
          command: [python, -m, alembic, upgrade, head]
"""

SOURCE = """
apiVersion: sources.knative.dev/v1
kind: ContainerSource
metadata: {name: relay}
spec:
  ceOverrides: {extensions: {region: here}}
  sink: {ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: default}}
  template:
    spec:
      containers:
        - image: platform
          command: [python, -m, functions.relay.main]
"""


@pytest.fixture
def kustomization(tmp_path: Path) -> Callable[..., Path]:
    """Write documents as the resources of a kustomization and return its folder."""

    def write(*documents: str, extra: str = "") -> Path:
        names = [f"{number}.yaml" for number in range(len(documents))]
        for name, document in zip(names, documents, strict=True):
            (tmp_path / name).write_text(document)
        resources = "".join(f"\n  - {name}" for name in names)
        (tmp_path / "kustomization.yaml").write_text(f"namespace: here\n{extra}\nresources:{resources}\n")
        return tmp_path

    return write
