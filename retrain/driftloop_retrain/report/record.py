"""The record of a version: all that its report is made from, as JSON."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from driftloop_artifacts import IN_PLACE, Files
from driftloop_contracts.errors import NotFound
from driftloop_registry.port import Registry
from driftloop_retrain.record.lineage import lineage_document
from driftloop_retrain.report.html_page import html_page
from driftloop_retrain.report.markdown_page import markdown_page, model_card
from driftloop_retrain.report.version_report import version_report
from driftloop_store import Store

RECORD = "record.json"


def version_record(
    registry: Registry, store: Store, model: str, number: int, files: Files = IN_PLACE.use
) -> dict[str, Any]:
    """lineage: how it was made. outcome: what the retrain measured. retrain, decision, rollouts:
    what the store still has of them. Raises NotFound."""
    lineage = lineage_document(registry, model, number, files)
    outcome = lineage.pop("report")
    record = {
        "lineage": lineage,
        "outcome": json.loads(Path(outcome).read_text()) if outcome else None,
        "retrain": None,
        "decision": None,
        "rollouts": [
            found
            for found in store.rollouts(model)
            if (found.get("candidate") or {}).get("version") == number
        ],
    }
    try:
        if lineage.get("retrain_id"):
            retrain = store.retrain(lineage["retrain_id"])
            known = retrain.to_dict()
            result = known.pop("result")
            record |= {"retrain": known, "outcome": record["outcome"] or result}
            if retrain.decision_id is not None:
                record["decision"] = store.record("decisions", retrain.decision_id)
    except NotFound:  # of a store that was cut
        pass
    found: dict[str, Any] = json.loads(json.dumps(record, default=str))
    return found


def pages(record: Mapping[str, Any]) -> dict[str, str]:
    """The files of a report: the same bytes for the same record."""
    text = json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    record = json.loads(text)  # in the order of its file, from which it may be made again
    document = version_report(record)
    return {
        "report.html": html_page(document),
        "report.md": markdown_page(document),
        "README.md": model_card(record, document),
        RECORD: text,
    }
