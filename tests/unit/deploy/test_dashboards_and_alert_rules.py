"""The files for Grafana and Prometheus are what their sources say, and use metrics that exist."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from prometheus_server import program

ROOT = Path(__file__).parents[3]
DASHBOARDS = sorted((ROOT / "deploy" / "grafana").glob("*.json"))
RULES = ROOT / "deploy" / "prometheus" / "alerts.yml"
METRIC = re.compile(r"driftloop_\w+")


@pytest.mark.parametrize("source", ["grafana/dashboards.py", "prometheus/alert_rules.py"])
def test_files_say_what_their_source_says(source: str) -> None:
    command = [sys.executable, str(ROOT / "deploy" / source), "--check"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("path", [*DASHBOARDS, RULES], ids=lambda path: path.stem)
def test_every_metric_that_is_asked_for_is_in_the_reference(path: Path) -> None:
    reference = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    known = set(METRIC.findall(reference))
    asked = {name.removesuffix("_bucket") for name in METRIC.findall(path.read_text())}
    assert asked
    assert asked <= known


def test_panels_do_not_overlap_and_ids_differ() -> None:
    assert len(DASHBOARDS) == 3
    for path in DASHBOARDS:
        panels = json.loads(path.read_text())["panels"]
        places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
        assert len(set(places)) == len({panel["id"] for panel in panels}) == len(panels)


def test_promtool_accepts_the_rules() -> None:
    command = [program("promtool"), "check", "rules", str(RULES)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    rules = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
    assert f"{len(rules)} rules found" in run.stdout


def test_promtool_accepts_the_example_configuration() -> None:
    example = RULES.with_name("prometheus.yml")
    command = [program("promtool"), "check", "config", str(example)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
