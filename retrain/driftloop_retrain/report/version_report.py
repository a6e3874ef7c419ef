"""The report of a version: why it was trained, on what, against what, and what was decided."""

from collections.abc import Iterator
from dataclasses import replace

from driftloop_retrain.report.behaviour import behaviour, postprocessing, twin
from driftloop_retrain.report.document import (
    Document,
    Place,
    Record,
    Section,
    Table,
    facts,
    pairs_table,
    table,
)

GATE = {
    "passed": "passed", "rows": "rows", "champion": "champion", "candidate": "candidate",
    "improvement": "improvement", "low": "95 % from", "high": "95 % to",
    "p_worse": "p, if it were as good", "reason": "reason",
}  # fmt: skip
INTERVALS = {
    "over_champion": "below the champion's loss by",
    "over_champion_low": "95 % from",
    "over_champion_high": "95 % to",
    "over_baseline": "below the baseline's by",
    "over_baseline_low": "95 % from",
    "over_baseline_high": "95 % to",
}
NOT_TESTED = (
    "Latency, memory and errors under load: the rollout compares them on live traffic.",
    "Rows without a label, and rows that no client has sent yet.",
    "Fairness for attributes that the spec does not name as a slice.",
)


def version_report(record: Record) -> Document:
    """record: what `driftloop_retrain.report.record` collects."""
    whole = Place(record)
    lineage, outcome = whole / "lineage", whole / "outcome"
    sections = (
        _summary(whole),
        _trigger(whole),
        _data(lineage, outcome),
        _labels(outcome / "labels"),
        _new_rows(outcome / "new_rows"),
        _checks(outcome / "data_checks"),
        _search(outcome / "search"),
        _several(outcome / "search"),
        _candidates(outcome),
        _comparison(outcome),
        postprocessing(outcome / "postprocessing"),
        *behaviour(outcome / "evaluation"),
        *(s for name, one in (outcome / "outputs").items() for s in _output(str(name), one)),
        twin(outcome / "twin"),
        _rollout(whole / "rollouts"),
        Section("What was not tested", notes=(*_notes(outcome), *NOT_TESTED)),
        _origin(lineage),
    )
    title = f"{lineage.value['model']}, version {lineage.value['version']}"
    return Document(title, tuple(section for section in sections if not section.empty))


def _summary(whole: Place) -> Section:
    lineage, outcome = whole / "lineage", whole / "outcome"
    return Section(
        "Summary",
        facts(
            ("Model", lineage / "model"),
            ("Version", lineage / "version"),
            ("Aliases now", lineage / "aliases"),
            ("Made", lineage / "made_at"),
            ("Made by", lineage / "source"),
            ("Recipe that won", outcome / "family"),
            ("Gate", outcome / "gate" / "verdict"),
            ("Gate overridden", outcome / "gate_override"),
            ("Version it was to beat", lineage / "parent_version"),
            ("Earlier versions", lineage / "ancestors"),
        ),
    )


def _trigger(whole: Place) -> Section:
    lineage, decision = whole / "lineage", whole / "decision"
    evidence = decision / "evidence"
    return Section(
        "Trigger and evidence",
        facts(
            ("Trigger", lineage / "trigger"),
            ("Reason", lineage / "reason"),
            ("Decision", decision / "reason"),
            ("Requested", whole / "retrain" / "at"),
            ("Ended", whole / "retrain" / "ended_at"),
            *((key.replace("_", " "), place) for key, place in evidence.items()),
        ),
    )


def _data(lineage: Place, outcome: Place) -> Section:
    data = lineage / "data"
    return Section(
        "Data",
        facts(
            ("Source", outcome / "data"),
            ("Oldest row", outcome / "data_range" / 0),
            ("Newest row", outcome / "data_range" / 1),
            ("Rows", data / "rows"),
            ("Trained on", data / "trained_rows"),
            ("Held out", data / "holdout_rows"),
            ("Since the change", data / "fresh_rows"),
            ("Change at", data / "change_at"),
            ("Labels received up to", data / "as_of"),
            ("Version of the predictions' table", data / "predictions"),
            ("Version of the labels' table", data / "labels"),
        ),
    )


def _labels(found: Place) -> Section:
    coverage = found / "coverage"
    return Section(
        "Labels",
        facts(
            ("Answers in the time of the rows", found / "answers"),
            ("With a label", found / "labelled"),
            ("Coverage", coverage / "mean"),
            ("95 % from", coverage / "low"),
            ("95 % to", coverage / "high"),
        ),
        (pairs_table("Seconds from answer to label", found / "delay_s", "share", "at most"),),
    )


def _new_rows(found: Place) -> Section:
    """Against the data of the champion."""
    columns = {"column": "column", "distance": "distance of the distributions"}
    return Section(
        "New since the champion's data",
        facts(("Rows", found / "rows"), ("Share of all rows", found / "share")),
        (table("Columns that moved most", (found / "columns").items(), columns),),
    )


def _search(found: Place) -> Section:
    columns = {
        "recipe": "recipe", "parameter": "parameter", "low": "from", "high": "to",
        "scale": "scale", "values": "one of",
    }  # fmt: skip
    return Section(
        "Search",
        facts(
            ("Sampler", found / "sampler"),
            ("Validation", found / "validation"),
            ("Budget, seconds", found / "budget_s"),
            ("Spent, seconds", found / "spent_s"),
            ("Trials", found / "count"),
            ("Ended early", found / "pruned"),
        ),
        (
            table("Space", (found / "space").items(), columns),
            pairs_table("Trials that failed", found / "failed", "reason", "trials"),
        ),
    )


def _several(found: Place) -> Section:
    """Of a model with several labels: one model for all, or one for each."""
    lower = found / "lower_by"
    return Section(
        "One model for all labels, or one for each",
        facts(
            ("Chosen", found / "chosen"),
            ("One for all lower by", lower / "mean"),
            ("95 % from", lower / "low"),
            ("95 % to", lower / "high"),
            ("One for all failed", found / "failed_together"),
        )
        if (found / "counts").value
        else (),
        (
            pairs_table(
                "Mean of the scaled losses on the validation rows", found / "losses", "way", "loss"
            ),
            pairs_table("Trials of each search", found / "counts", "search", "trials"),
        ),
    )


def _output(label: str, found: Place) -> Iterator[Section]:
    """The sections of one of several labels."""
    sections = (
        _candidates(found),
        postprocessing(found / "postprocessing"),
        *behaviour(found / "evaluation"),
    )
    for section in sections:
        yield replace(section, title=f"{label}: {section.title}")


def _checks(found: Place) -> Section:
    return Section(
        "Checks and cleaning",
        facts(
            ("Rows read", found / "rows"),
            ("Rows that repeat an earlier one", found / "repeated"),
            ("Labels looked at for noise", found / "suspected_labels" / "rows"),
            ("Labels that are probably wrong", found / "suspected_labels" / "suspected"),
        ),
        (
            pairs_table("Rows left out", found / "left_out", "reason", "rows"),
            pairs_table("Class balance", found / "classes", "class", "rows"),
            pairs_table("Rows with each label", found / "labelled", "label", "rows"),
        ),
        tuple(found.value["warnings"]) if found.value else (),
    )


def _candidates(outcome: Place) -> Section:
    columns = {"family": "recipe", "span": "rows used", "rounds": "rounds", "mean_loss": "loss"}
    first = (outcome / "trials" / 0).value or {}
    columns |= {
        name: INTERVALS.get(name, name.replace("_", " ")) for name in first if name not in columns
    }
    trials = (outcome / "trials").items()
    return Section(
        "Candidates",
        facts(("Rounds of the winner", outcome / "rounds")),
        (table("Each candidate on the validation rows", trials, columns),),
    )


def _comparison(outcome: Place) -> Section:
    both = tuple(
        (name, place.cell, (outcome / "champion_metrics" / name).cell)
        for name, place in (outcome / "metrics").items()
    )
    checks = (outcome / "gate" / "checks").items()
    overall = [check for check in checks if check[1].value["name"] == "overall"]
    others = [check for check in checks if check[1].value["name"] != "overall"]
    others.sort(key=lambda check: check[1].value["improvement"])
    gate = {"name": "check", **GATE}
    return Section(
        "Against the champion",
        facts(
            ("Rows compared natively and as a graph", outcome / "parity" / "rows"),
            ("Largest difference of the graph", outcome / "parity" / "largest_difference"),
            ("p from which on a slice or guardrail is not worse", outcome / "gate" / "level"),
        ),
        (
            Table("On the held-out rows", ("metric", "candidate", "champion"), both),
            table("Gate, the worst slice first", [*overall, *others], gate),
        ),
    )


def _rollout(rollouts: Place) -> Section:
    columns = {
        "at": "at", "event": "event", "state": "state", "weight": "share of the traffic",
        "actor": "by", "reason": "reason",
    }  # fmt: skip
    tables = []
    for _, rollout in rollouts.items():
        caption = f"Rollout {rollout.value.get('id', '')}: {rollout.value.get('state', '')}"
        tables.append(table(caption, (rollout / "history").items(), columns))
    said = facts(
        ("Outcome of the newest rollout", rollouts / 0 / "state"),
        ("Approved by", Place(_approvers(rollouts) or "nobody: its policy asked for nobody")),
    )
    return Section("Rollout and approval", said if rollouts.value else (), tuple(tables))


def _approvers(rollouts: Place) -> list[str]:
    """Who approved or promoted, of people."""
    steps = [step for _, rollout in rollouts.items() for _, step in (rollout / "history").items()]
    found = [step.value for step in steps if step.value.get("event") in ("approve", "promote")]
    return list(dict.fromkeys(str(step.get("actor", "")) for step in found))


def _notes(outcome: Place) -> tuple[str, ...]:
    return tuple((outcome / "gate" / "notes").value or ())


def _origin(lineage: Place) -> Section:
    code, environment = lineage / "code", lineage / "environment"
    return Section(
        "Code, environment and hashes",
        facts(
            ("driftloop", code / "version"),
            ("Commit", code / "commit"),
            ("Sources, SHA-256", code / "sha256"),
            ("Graph, SHA-256", lineage / "graph_sha256"),
            ("Seed", lineage / "seed"),
            ("Python", environment / "python"),
            ("Machine", environment / "machine"),
            ("Packages, SHA-256", environment / "sha256"),
        ),
        (
            pairs_table("Recipes of users, SHA-256", code / "recipes", "recipe", "hash"),
            pairs_table("Files, SHA-256", lineage / "files", "file", "hash"),
            pairs_table(
                "Settings of the retrain", lineage / "training" / "settings", "key", "value"
            ),
        ),
    )
