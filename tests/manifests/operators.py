"""The kinds of other operators that the manifests use: strictly the fields that are used, since no package has their schemas.

Written after the operators' API references: Prometheus Operator 0.80 (monitoring.coreos.com/v1) and External Secrets 0.16
(external-secrets.io/v1). A field that is not here is refused, so that a misspelt one is found; a new one is looked up first.
"""

from typing import Any

from tests.manifests.crd import Schema

TEXT = {"type": "string", "minLength": 1}
DURATION = {"type": "string", "pattern": r"^(\d+(ms|s|m|h|d))+$"}
LABEL = {"type": "string", "pattern": r"^[a-zA-Z_][a-zA-Z0-9_]*$"}


def fields(*required: str, **properties: Any) -> Schema:
    """Return the schema of an object with these fields and no others."""
    return {"type": "object", "required": list(required), "properties": properties}


def many(items: Schema) -> Schema:
    """Return the schema of a list that is not empty."""
    return {"type": "array", "minItems": 1, "items": items}


def texts(items: Schema = TEXT) -> Schema:
    """Return the schema of a mapping of names to texts."""
    return {"type": "object", "additionalProperties": items}


RELABELING = fields(sourceLabels=many(LABEL), targetLabel=LABEL)
ENDPOINT = fields(
    "port",
    port=TEXT,
    path={"type": "string", "pattern": "^/"},
    interval=DURATION,
    scrapeTimeout=DURATION,
    relabelings=many(RELABELING),
)
SELECTOR = fields(
    matchLabels=texts(),
    matchExpressions=many(
        fields(
            "key",
            "operator",
            key=TEXT,
            operator={"type": "string", "enum": ["In", "NotIn", "Exists", "DoesNotExist"]},
            values=many(TEXT),
        )
    ),
)
ALERT: dict[str, Any] = {
    **fields(
        "alert",
        "expr",
        alert=TEXT,
        expr={"x-kubernetes-int-or-string": True},
        labels=texts(),
        annotations=texts(),
    )
}
ALERT["properties"]["for"] = DURATION
STORE_REF = fields("name", name=TEXT, kind={"type": "string", "enum": ["SecretStore", "ClusterSecretStore"]})
VAULT = fields(
    "server",
    server={"type": "string", "pattern": "^https://"},
    path=TEXT,
    version={"type": "string", "enum": ["v1", "v2"]},
    auth=fields(
        kubernetes=fields(
            "mountPath",
            "role",
            mountPath=TEXT,
            role=TEXT,
            serviceAccountRef=fields("name", name=TEXT, namespace=TEXT),
        )
    ),
)
SPECS: dict[tuple[str, str], Schema] = {
    ("monitoring.coreos.com/v1", "PodMonitor"): fields(
        "selector", "podMetricsEndpoints", selector=SELECTOR, podMetricsEndpoints=many(ENDPOINT)
    ),
    ("monitoring.coreos.com/v1", "PrometheusRule"): fields(
        groups=many(fields("name", "rules", name=TEXT, rules=many(ALERT)))
    ),
    ("external-secrets.io/v1", "ExternalSecret"): fields(
        refreshInterval=DURATION,
        secretStoreRef=STORE_REF,
        dataFrom=many(fields(extract=fields("key", key=TEXT))),
        target=fields(
            name=TEXT,
            creationPolicy={"type": "string", "enum": ["Owner", "Orphan", "Merge", "None"]},
            deletionPolicy={"type": "string", "enum": ["Delete", "Merge", "Retain"]},
            template=fields(engineVersion={"type": "string", "enum": ["v2"]}, data=texts()),
        ),
    ),
    ("external-secrets.io/v1", "ClusterSecretStore"): fields(
        "provider",
        provider=fields("vault", vault=VAULT),
        conditions=many(fields(namespaces=many(TEXT))),
    ),
}


def kinds(common: Schema) -> dict[tuple[str, str], Schema]:
    """Return the schema of each kind, with what every object has."""
    return {key: fields("metadata", "spec", **common, spec=spec) for key, spec in SPECS.items()}
