"""The schema of the chart's values: `python deploy/helm/values_schema.py` writes it anew from
`SHAPES` and from driftloop's settings, with `--check` it only compares.

Helm checks values with it before it renders anything, so that a misspelt value, or a setting that
does not exist, is refused on the caller's machine.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from driftloop_settings import Settings
from driftloop_settings.describe import describe_settings, secret_keys
from generated_files import keep

FILE = Path(__file__).parent / "driftloop" / "values.schema.json"
SET_BY_THE_CHART = frozenset(
    {
        "state_dir", "store.url", "serving.ray_address", "serving.ray_port", "serving.host",
        "serving.port", "serving.grpc_port", "serving.ingress", "control.host", "control.port",
        "control.insecure", "kafka.bootstrap_servers", "kafka.port", "kafka.heap_mb",
        "kafka.security_protocol", "kafka.ssl_cafile", "kafka.sasl_mechanism",
        "kafka.sasl_username",
    }
)  # fmt: skip
"""Settings that follow from other values of the chart, or from its Secrets."""

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
PORT: Schema = {"type": "integer", "minimum": 1024, "maximum": 65535}
FREE: Schema = {"type": "object"}
TEXTS: Schema = {"type": "array", "items": TEXT}
OBJECTS: Schema = {"type": "array", "items": FREE}
LABELS: Schema = {"type": "object", "additionalProperties": TEXT}
SIZE: Schema = {"type": "string", "pattern": "^[0-9]+(Mi|Gi|Ti)$"}


def one_of(*words: str) -> Schema:
    return {"enum": list(words)}


def shape(required: Sequence[str] = (), **properties: Schema) -> Schema:
    found: Schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
    }
    return found | ({"required": list(required)} if required else {})


RESOURCES = shape(requests=FREE, limits=FREE, claims=OBJECTS)
PERSISTENCE = shape(enabled=FLAG, size=SIZE, storageClass=TEXT)
PLACE: dict[str, Schema] = {
    "nodeSelector": LABELS,
    "tolerations": OBJECTS,
    "affinity": FREE,
    "podAnnotations": LABELS,
}
ROLE = shape(("replicas",), replicas=COUNT, resources=RESOURCES, persistence=PERSISTENCE, **PLACE)
GATEWAY = shape(("replicas", "port"), replicas=COUNT, port=PORT, resources=RESOURCES, **PLACE)
WORKERS = shape(
    ("name", "replicas", "minReplicas", "maxReplicas"),
    name={"type": "string", "pattern": "^[a-z]([a-z0-9-]*[a-z0-9])?$"},
    replicas=COUNT,
    minReplicas=COUNT,
    maxReplicas={"type": "integer", "minimum": 1},
    gpus=COUNT,
    resources=RESOURCES,
    **PLACE,
)
RAY = shape(
    rayVersion=TEXT,
    rayPort=PORT,
    autoscaling=FLAG,
    authSecret=TEXT,
    redis=shape(address=TEXT, existingSecret=TEXT, key=TEXT),
    head=shape(resources=RESOURCES),
    workers={"type": "array", "items": WORKERS, "minItems": 1},
)
EXPOSED = shape(
    ("type",),
    type=one_of("none", "ingress", "gatewayApi"),
    hosts=TEXTS,
    annotations=LABELS,
    ingressClassName=TEXT,
    tlsSecret=TEXT,
    parentRefs=OBJECTS,
)
SHAPES: Mapping[str, Schema] = {
    "global": FREE,  # Helm's own
    "image": shape(
        ("repository",),
        repository={"type": "string", "minLength": 1},
        tag=TEXT,
        digest={"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
        pullPolicy=one_of("Always", "IfNotPresent", "Never"),
        pullSecrets=TEXTS,
    ),
    "nameOverride": TEXT,
    "fullnameOverride": TEXT,
    "extraSecrets": TEXTS,
    "extraEnv": OBJECTS,
    "store": shape(existingSecret=TEXT, key=TEXT),
    "registry": shape(existingSecret=TEXT, key=TEXT),
    "objectStore": shape(
        existingSecret=TEXT,
        region=TEXT,
        endpoint={"type": "string", "pattern": "^(https?://[^/]+)?$"},
    ),
    "kafka": shape(
        ("mode",),
        mode=one_of("external", "strimzi"),
        bootstrapServers=TEXT,
        securityProtocol=one_of("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"),
        saslMechanism=one_of("", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"),
        existingSecret=TEXT,
        usernameKey=TEXT,
        passwordKey=TEXT,
        caSecret=TEXT,
        caKey=TEXT,
        strimzi=shape(
            replicas={"type": "integer", "minimum": 1},
            storage=SIZE,
            storageClass=TEXT,
            resources=RESOURCES,
        ),
    ),
    "serviceAccount": shape(create=FLAG, name=TEXT, annotations=LABELS),
    "acceptUnauthenticated": FLAG,
    "networkPolicy": shape(
        enabled=FLAG, inferenceFrom=OBJECTS, controlFrom=OBJECTS, metricsFrom=OBJECTS,
        egress=OBJECTS,
    ),
    "migration": shape(
        enabled=FLAG, resources=RESOURCES, deadlineSeconds={"type": "integer", "minimum": 1}
    ),
    "gateway": GATEWAY,
    **dict.fromkeys(("archiver", "monitor", "retrain", "rollout", "alerts"), ROLE),
    "serving": shape(
        ("mode",),
        mode=one_of("single", "rayCluster"),
        port=PORT,
        grpcPort=PORT,
        resources=RESOURCES,
        persistence=PERSISTENCE,
        terminationGracePeriodSeconds=COUNT,
        rayCluster=RAY,
        **PLACE,
    ),
    "podDisruptionBudget": shape(enabled=FLAG),
    "podSecurityContext": {
        **FREE,
        "required": ["runAsNonRoot", "runAsUser"],
        "properties": {
            "runAsNonRoot": {"const": True},
            "runAsUser": {"type": "integer", "minimum": 1},
        },
    },
    "exposure": shape(inference=EXPOSED, control=EXPOSED),
    "monitoring": shape(
        serviceMonitor=shape(enabled=FLAG, interval=TEXT, labels=LABELS),
        rules=shape(enabled=FLAG, labels=LABELS),
        dashboards=shape(enabled=FLAG, labels=LABELS),
    ),
}  # fmt: skip


def settings_schema() -> tuple[Schema, Schema]:
    """The settings that a ConfigMap may hold, and the definitions that their schemas refer to."""
    whole = Settings.model_json_schema()
    left_out = SET_BY_THE_CHART | secret_keys()
    sections: dict[str, Schema] = {}
    for setting in describe_settings():
        if setting.name in left_out:
            continue
        name = whole["properties"][setting.section].get("$ref", "").rpartition("/")[2]
        fields = whole["$defs"][name]["properties"]
        section = sections.setdefault(setting.section, shape())
        section["properties"][setting.key] = _undefaulted(fields[setting.key])
    # Empty until the operator fills them in; the templates ask for them.
    for place, key in (("lake", "uri"), ("registry", "artifacts")):
        sections[place]["properties"][key] = TEXT
        sections[place]["required"] = [key]
    # Of lists of objects, such as the routes of alerts.
    named = {part for part in whole["$defs"] if f'"#/$defs/{part}"' in json.dumps(sections)}
    return shape(("lake", "registry"), **sections), {n: whole["$defs"][n] for n in sorted(named)}


def _undefaulted(field: Schema) -> Schema:
    """Without what a schema of values does not need; defaults would be taken for the chart's."""
    return {k: v for k, v in field.items() if k not in ("default", "title")}


def text() -> str:
    settings, definitions = settings_schema()
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$defs": definitions,
        **shape(("settings",), settings=settings, **SHAPES),
    }
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    keep({FILE: text()}, sys.argv[1:])
