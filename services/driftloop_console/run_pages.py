"""The pages of one rollout and of one retrain."""

from collections.abc import Mapping

from driftloop_console import words
from driftloop_console.context import ConsoleContext
from driftloop_console.page import Link, Page, Section, facts_section, table_section
from driftloop_console.views import retrain_page, rollout_page
from driftloop_console.views.fleet import model_url, version_url
from driftloop_console.views.measured import measured
from driftloop_contracts.errors import NotFound
from driftloop_contracts.retrain import Retrain, attempts_of
from driftloop_rollout.machine import Rollout
from driftloop_rollout.permission import NAMES

Params = Mapping[str, str]


def rollout(context: ConsoleContext, params: Params, query: Params) -> Page:
    found = Rollout.from_record(context.store.rollout(params["id"]))
    model, candidate = found.model, found.candidate.version
    facts = {
        "Model": Link(model, model_url(model)),
        "State": found.state.replace("_", " "),
        "Candidate": Link(f"version {candidate}", version_url(model, candidate)),
        "Champion": Link(
            f"version {found.champion.version}", version_url(model, found.champion.version)
        )
        if found.champion
        else None,
        "Verdict so far": found.verdict,
        "Now": found.reason,
        "Waits for a person to approve": NAMES[found.awaits] if found.awaits else None,
        "Waiting": found.evidence.waiting if found.evidence else None,
        "Time to a verdict": found.outlook.sentence if found.outlook else None,
        "Rolled back without one at": words.time(found.deadline_at)
        if found.deadline_at and not found.finished
        else None,
        "Ended": words.time(found.finished_at) if found.finished_at else None,
    }
    sections = (
        facts_section("facts", "", facts),
        Section("actions", "Steer it", "rollout_actions.html", {
            "rollout": found, "events": rollout_page.possible(found),
            "read_only": context.settings.control.read_only,
        }),
        Section("steps", "Steps", "steps.html", {"steps": rollout_page.steps(found)}),
        facts_section("shadow", "In the shadow", rollout_page.shadow_facts(found)),
        table_section("Agreement in the shadow", rollout_page.agreement_table(found), query),
        table_section("Pairs in the shadow", rollout_page.pair_table(found), query),
        Section("evidence", "Evidence over time", "charts.html", {
            "charts": rollout_page.evidence_charts(found),
            "empty": "Nothing is compared yet: the canary needs traffic in both arms.",
        }),
        table_section("Evidence", rollout_page.evidence_table(found), query),
        table_section("Metrics of both versions", rollout_page.metrics_table(found), query),
        table_section("Record", rollout_page.record_table(found.history), query),
    )  # fmt: skip
    title = f"Rollout of {model}, version {candidate}"
    return Page(title, "Fleet", sections, frozenset({model}))


def retrain(context: ConsoleContext, params: Params, query: Params) -> Page:
    found: Retrain = context.store.retrain(params["id"])
    decision = None
    if found.decision_id is not None:
        try:
            decision = context.store.record("decisions", found.decision_id)
        except NotFound:  # of a store that was cut
            decision = None
    attempts = attempts_of(found, context.store.retrains(found.model))
    sections = (
        facts_section("facts", "", retrain_page.facts(found, decision)),
        table_section("Attempts", retrain_page.attempts_table(attempts), query),
        Section(
            "actions",
            "Steer it",
            "retrain_actions.html",
            {
                "retrain": found,
                "read_only": context.settings.control.read_only,
            },
        ),
        facts_section("trigger", "What the trigger saw", retrain_page.evidence(decision)),
        facts_section("data", "Checks of the data", retrain_page.data_checks(found)),
        table_section("Trials", retrain_page.trials_table(found), query),
        table_section("Gate", retrain_page.gate_table(found), query),
        facts_section("lineage", "What it gave", retrain_page.lineage(found)),
        facts_section("metrics", "Measured on the hold-out", measured(found.metrics)),
    )
    return Page(f"Retrain of {found.model}", "Fleet", sections, frozenset({found.model}))
