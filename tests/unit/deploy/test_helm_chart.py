"""The Helm chart, without a cluster: what it renders is valid, agrees with the code, and values
that contradict each other are refused with a sentence."""

import itertools
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_chart import CHART, ROOT, Manifest, Rendered, pod_specs, problems, render
from jsonschema import Draft202012Validator

from driftloop_cli.roles import ROLES
from driftloop_settings import Settings, load_settings
from driftloop_settings.this_process import ThisProcess

LEAST: dict[str, Any] = {
    "settings": {"lake": {"uri": "s3://b/lake"}, "registry": {"artifacts": "s3://b/artifacts"}},
    "store": {"existingSecret": "store"},
    "registry": {"existingSecret": "mlflow"},
    "kafka": {"bootstrapServers": "broker-1:9092,broker-2:9092"},
}
SECRETS = {
    "DRIFTLOOP_STORE__URL": "postgresql+psycopg://u:p@db/driftloop",
    "DRIFTLOOP_REGISTRY__URI": "postgresql+psycopg://u:p@db/mlflow",
    "DRIFTLOOP_KAFKA__SASL_USERNAME": "loop",
    "DRIFTLOOP_KAFKA__SASL_PASSWORD": "123",
}
"""What the Secrets hold, by the variable that shows it."""
KAFKA = {
    "plain": {},
    "password": {
        "securityProtocol": "SASL_SSL", "saslMechanism": "SCRAM-SHA-512",
        "existingSecret": "kafka", "caSecret": "kafka-ca",
    },
    "strimzi": {"mode": "strimzi", "bootstrapServers": "", "strimzi": {"storageClass": "fast"}},
}  # fmt: skip
SERVING = {
    "single": {},
    "without disk": {"persistence": {"enabled": False}, "podAnnotations": {"a": "b"}},
    "ray": {"mode": "rayCluster"},
    "ray with all": {
        "mode": "rayCluster",
        "rayCluster": {
            "autoscaling": True, "authSecret": "ray",
            "redis": {"address": "redis:6379", "existingSecret": "redis"},
            "workers": [
                {
                    "name": "gpu", "replicas": 1, "minReplicas": 0, "maxReplicas": 2, "gpus": 1,
                    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
                    "nodeSelector": {"gpu": "h200"}, "resources": {"limits": {"cpu": "8"}},
                },
            ],
        },
    },
}  # fmt: skip
EXPOSED = {
    "type": "ingress", "hosts": ["ml.example"], "tlsSecret": "tls", "annotations": {"a": "b"}
}  # fmt: skip
OUTSIDE: dict[str, dict[str, Any]] = {
    "inside": {},
    "ingress": {
        "acceptUnauthenticated": True,
        "exposure": {"inference": EXPOSED, "control": {**EXPOSED, "ingressClassName": "nginx"}},
        "networkPolicy": {"metricsFrom": [{"namespaceSelector": {}}], "egress": [{"to": []}]},
    },
    "gateway": {
        "acceptUnauthenticated": True,
        "exposure": {
            "inference": {
                "type": "gatewayApi", "hosts": ["ml.example"], "parentRefs": [{"name": "public"}]
            }
        },
        "networkPolicy": {"enabled": False},
    },
}  # fmt: skip
EXTRAS: dict[str, dict[str, Any]] = {
    "bare": {"podDisruptionBudget": {"enabled": False}, "migration": {"enabled": False}},
    "all": {
        "monitoring": {
            "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
            "rules": {"enabled": True}, "dashboards": {"enabled": True},
        },
        "objectStore": {
            "existingSecret": "s3", "region": "eu-1", "endpoint": "http://minio.s3:9000"
        },
        "extraSecrets": ["more"], "extraEnv": [{"name": "TZ", "value": "UTC"}],
        "image": {"digest": f"sha256:{'0' * 64}", "pullSecrets": ["pull"]},
        "serviceAccount": {"annotations": {"role": "arn"}},
        "archiver": {"replicas": 3}, "monitor": {"replicas": 2},
        "settings": {
            "kafka": {"partitions": 6},
            "control": {"hosts": ["proxy.example"]},
            "monitoring": {"window_rows": 5000},
            "rollout": {"steps": [0.1, 1]},
            "trigger": {"schedule": "0 3 * * *"},
            "alerts": {"routes": [{"name": "ops", "to": "https://hooks.example/x"}]},
        },
    },
}  # fmt: skip
AXES = (KAFKA, SERVING, OUTSIDE, EXTRAS)
COMBINATIONS = list(itertools.product(*AXES))


def merged(*parts: dict[str, Any]) -> dict[str, Any]:
    """As helm merges values: objects by key, all else is replaced."""
    found: dict[str, Any] = {}
    for part in parts:
        for key, value in deepcopy(part).items():
            both = isinstance(value, dict) and isinstance(found.get(key), dict)
            found[key] = merged(found[key], value) if both else value
    return found


def values_of(kafka: str, serving: str, outside: str, extras: str) -> dict[str, Any]:
    parts = {"kafka": KAFKA[kafka], "serving": SERVING[serving]}
    return merged(LEAST, parts, OUTSIDE[outside], EXTRAS[extras])


@pytest.fixture
def chart(tmp_path: Path) -> Callable[..., Rendered]:
    return lambda *parts: render(merged(LEAST, *parts), tmp_path)


def environment_of(manifests: tuple[Manifest, ...]) -> dict[str, str]:
    return dict(Rendered(manifests, "").one("ConfigMap", "loop-driftloop")["data"])


def settings_of(manifests: tuple[Manifest, ...], spec: Manifest) -> Settings:
    """What the command reads in a container of these: the code itself checks each variable."""
    (container, *_) = spec["containers"]
    environ = environment_of(manifests)
    for variable in container["env"]:
        environ[variable["name"]] = variable.get("value") or SECRETS.get(variable["name"], "")
    return read(frozenset(environ.items()))


@cache
def read(environ: frozenset[tuple[str, str]]) -> Settings:
    """Pods of a release have the same variables, nearly."""
    return load_settings(environ=dict(environ))


@pytest.mark.parametrize("combination", COMBINATIONS, ids="-".join)
def test_every_combination_of_values_is_valid(
    combination: tuple[str, str, str, str], tmp_path: Path
) -> None:
    rendered = render(values_of(*combination), tmp_path)
    assert rendered.error == ""
    assert [problem for m in rendered.manifests for problem in problems(m)] == []
    names = [(m["kind"], m["metadata"]["name"]) for m in rendered.manifests]
    assert len(set(names)) == len(names)
    for manifest in rendered.manifests:
        for spec in pod_specs(manifest):
            settings = settings_of(rendered.manifests, spec)
            assert settings.control.insecure
            check_pod(spec)
    check_services(rendered.manifests)


def check_pod(spec: Manifest) -> None:
    # Kubernetes would add DRIFTLOOP_GATEWAY_PORT and the like, which are no settings.
    assert spec["enableServiceLinks"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    volumes = {volume["name"] for volume in spec["volumes"]} | {"state"}
    for container in spec["containers"]:
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"] is True
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
        assert container["resources"]
        check_arguments(container.get("args"))


def check_arguments(arguments: list[str] | None) -> None:
    if arguments is None:  # Ray's own, which KubeRay starts
        return
    command, *rest = arguments
    assert command in ("role", "up", "migrate")
    named = {"role": rest[:1], "up": rest[1:2], "migrate": []}[command]
    names = {name for part in named for name in part.split(",")}
    assert names <= {role.name for role in ROLES}


def check_services(manifests: tuple[Manifest, ...]) -> None:
    """Each selects pods that have the port that it sends to."""
    templates = [
        part["template"]
        for m in manifests
        if m["kind"] in ("Deployment", "StatefulSet", "RayCluster")
        for part in (
            [m["spec"]["headGroupSpec"], *m["spec"]["workerGroupSpecs"]]
            if m["kind"] == "RayCluster"
            else [m["spec"]]
        )
    ]
    for service in (m for m in manifests if m["kind"] == "Service"):
        if service["spec"].get("clusterIP") == "None":
            continue
        wanted = service["spec"]["selector"].items()
        chosen = [t for t in templates if wanted <= t["metadata"]["labels"].items()]
        assert chosen, service["metadata"]["name"]
        for port in service["spec"]["ports"]:
            for template in chosen:
                listed = [p for c in template["spec"]["containers"] for p in c.get("ports", [])]
                known = {p["name"]: p["containerPort"] for p in listed}
                assert known[port["targetPort"]] == port["port"]


def test_a_field_that_is_misspelt_is_noticed(chart: Callable[..., Rendered]) -> None:
    """The check of the test above can fail."""
    (deployment,) = chart().of("Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    assert any("readinesProbe" in problem for problem in problems(deployment))
    ray = chart({"serving": SERVING["ray"]}).of("RayCluster")[0]
    ray["spec"]["workerGroupSpecs"][0]["maxReplica"] = 3
    assert any("maxReplica" in problem for problem in problems(ray))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no store": ({"store": {"existingSecret": ""}}, "store.existingSecret is empty"),
    "lake on disk": ({"settings": {"lake": {"uri": "/data"}}}, "settings.lake.uri must be s3://"),
    "artifacts on disk": (
        {"settings": {"registry": {"artifacts": "/data"}}}, "registry.artifacts must be s3://"
    ),
    "no registry": ({"registry": {"existingSecret": ""}}, "name MLflow's database or server"),
    "two registries": (
        {"settings": {"registry": {"uri": "http://mlflow:5000"}}}, "are both set; keep one"
    ),
    "no brokers": ({"kafka": {"bootstrapServers": ""}}, "kafka.bootstrapServers must name"),
    "two Kafkas": ({"kafka": {"mode": "strimzi"}}, "leave kafka.bootstrapServers"),
    "no password": (
        {"kafka": {"securityProtocol": "SASL_SSL"}}, "kafka.existingSecret must name a Secret"
    ),
    "a password for nobody": ({"kafka": {"existingSecret": "k"}}, "sends no password"),
    "idle archivers": ({"archiver": {"replicas": 3}}, "the other archivers would have no work"),
    "open to all": ({"networkPolicy": {"enabled": False}}, "set acceptUnauthenticated=true"),
    "open to the world": (
        {"exposure": {"control": {"type": "ingress", "hosts": ["x.example"]}}},
        "put a proxy that asks for credentials in front",
    ),
    "no host": (
        {"acceptUnauthenticated": True, "exposure": {"control": {"type": "ingress"}}},
        "exposure.control.hosts must name a host",
    ),
    "no Gateway": (
        {
            "acceptUnauthenticated": True,
            "exposure": {"inference": {"type": "gatewayApi", "hosts": ["x.example"]}},
        },
        "exposure.inference.parentRefs must name a Gateway",
    ),
    "no range": (
        {
            "serving": {
                "mode": "rayCluster",
                "rayCluster": {
                    "workers": [
                        {"name": "a", "replicas": 5, "minReplicas": 1, "maxReplicas": 4}
                    ]
                },
            }
        },
        "a has 5 replicas, which is not between minReplicas 1 and maxReplicas 4",
    ),
    "a misspelt value": ({"gateway": {"replica": 2}}, "replica"),
    "an unknown setting": ({"settings": {"monitoring": {"window_row": 5}}}, "window_row"),
    "a setting out of bounds": ({"settings": {"monitoring": {"min_rows": 1}}}, "min_rows"),
    "a setting of the chart's": ({"settings": {"serving": {"host": "::"}}}, "host"),
    "a secret as a value": ({"settings": {"kafka": {"sasl_password": "x"}}}, "sasl_password"),
    "root": ({"podSecurityContext": {"runAsUser": 0}}, "runAsUser"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_values_that_contradict_each_other_are_refused(
    case: str, chart: Callable[..., Rendered]
) -> None:
    values, sentence = REFUSED[case]
    error = " ".join(chart(values).error.split())
    assert sentence in error


def test_the_settings_of_the_values_reach_the_roles(chart: Callable[..., Rendered]) -> None:
    rendered = chart(EXTRAS["all"])
    (deployment,) = rendered.of("Deployment")
    (spec,) = pod_specs(deployment)
    settings = settings_of(rendered.manifests, spec)
    assert settings.monitoring.window_rows == 5000
    assert settings.rollout.steps == (0.1, 1.0)
    assert settings.alerts.routes[0].name == "ops"
    assert settings.kafka.partitions == 6
    assert {"proxy.example", "loop-driftloop-gateway", "loop-driftloop-serving.ml.svc"} <= {
        *settings.control.hosts
    }


def test_a_change_of_the_settings_restarts_the_pods(chart: Callable[..., Rendered]) -> None:
    def checksum(*parts: dict[str, Any]) -> str:
        (found,) = chart(*parts).of("Deployment")
        return str(found["spec"]["template"]["metadata"]["annotations"]["checksum/settings"])

    assert checksum() == checksum()
    assert checksum() != checksum({"settings": {"monitoring": {"window_rows": 5000}}})


def test_the_migration_runs_before_the_roles_and_needs_nothing_of_the_release(
    chart: Callable[..., Rendered],
) -> None:
    rendered = chart({"kafka": KAFKA["strimzi"]})
    (job,) = rendered.of("Job")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    (spec,) = pod_specs(job)
    (container,) = spec["containers"]
    referred = [source["configMapRef"]["name"] for source in container["envFrom"]]
    hooks = {
        m["metadata"]["name"]
        for m in rendered.of("ConfigMap")
        if "helm.sh/hook" in m["metadata"].get("annotations", {})
    }
    assert set(referred) <= hooks
    assert "serviceAccountName" not in spec
    assert "PASSWORD" not in json.dumps(container["env"])
    settings_of(rendered.manifests, spec)


def test_probes_and_scrapes_ask_for_paths_that_are_answered(chart: Callable[..., Rendered]) -> None:
    api = (ROOT / "docs" / "reference" / "rest-api.md").read_text()
    rendered = chart(EXTRAS["all"], {"serving": SERVING["ray"]})
    text = "\n".join(json.dumps(m) for m in (*rendered.manifests, *chart(EXTRAS["all"]).manifests))
    paths = set(re.findall(r'"httpGet": \{"path": "([^"]+)"', text))
    assert paths == {"/api/health", "/v2/health/live", "/v2/health/ready"}
    for path in paths | {"/metrics"}:
        assert f"`{path}`" in api or f" {path}`" in api, path


def test_a_role_is_alive_while_it_touches_its_file(
    chart: Callable[..., Rendered], tmp_path: Path
) -> None:
    (spec,) = pod_specs(chart().one("StatefulSet", "loop-driftloop-monitor"))
    settings = load_settings(state_dir=tmp_path, environ={})
    mounted = "/var/lib/driftloop"
    command = spec["containers"][0]["livenessProbe"]["exec"]["command"]
    command = [word.replace(mounted, str(settings.state_dir)) for word in command]
    assert subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode == 1
    process = ThisProcess.of(settings)
    process.show_alive("monitor")
    assert subprocess.run(command, check=False).returncode == 0
    file, hour_ago = process.folder / "monitor", time.time() - 3_600
    os.utime(file, (hour_ago, hour_ago))
    assert subprocess.run(command, check=False).returncode == 1


def test_the_rules_and_dashboards_are_those_of_the_release(chart: Callable[..., Rendered]) -> None:
    rendered = chart(EXTRAS["all"])
    (rule,) = rendered.of("PrometheusRule")
    alerts = ROOT / "deploy" / "prometheus" / "alerts.yml"
    assert rule["spec"] == yaml.safe_load(alerts.read_text())
    dashboards = rendered.one("ConfigMap", "loop-driftloop-dashboards")["data"]
    for name in ("fleet", "model", "serving"):
        file = ROOT / "deploy" / "grafana" / f"{name}.json"
        assert json.loads(dashboards[f"driftloop-{name}.json"]) == json.loads(file.read_text())
    (monitor,) = rendered.of("ServiceMonitor")
    assert monitor["spec"]["jobLabel"] == "app.kubernetes.io/name"
    assert 'up{job="driftloop"}' in alerts.read_text()


def test_the_schema_of_values_says_what_its_source_says() -> None:
    command = [sys.executable, str(ROOT / "deploy" / "helm" / "values_schema.py"), "--check"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_defaults_and_the_examples_fit_the_schema() -> None:
    """Also where helm cannot be had."""
    schema = Draft202012Validator(json.loads((CHART / "values.schema.json").read_text()))
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    for at in range(max(map(len, AXES))):  # each part of the values once
        combination = [[*axis][at % len(axis)] for axis in AXES]
        values = merged(defaults, values_of(*combination))
        assert [error.message for error in schema.iter_errors(values)] == []
    misspelt = merged(defaults, {"gateway": {"replica": 2}})
    assert list(schema.iter_errors(misspelt))


def test_the_chart_has_the_version_of_the_release() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = (ROOT / "pyproject.toml").read_text()
    assert f'version = "{chart["appVersion"]}"' in project
