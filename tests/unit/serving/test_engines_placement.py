"""Which engines a language model has, and which versions they hold."""

import json

from driftloop_contracts.language import SIGNATURE
from driftloop_contracts.model import Deployment, ModelSpec, ServedVersion, TrafficSplit
from driftloop_contracts.replica import HeldVersions, LoadedVersions, Reasons, ReplicaReport
from driftloop_serving.cluster.placement import (
    ENGINE_KEY,
    applications_of,
    has_applied,
    place,
)
from driftloop_serving.replicas.replica_config import EngineConfig, ReplicaConfig, fingerprint
from driftloop_serving.replicas.replica_status import loaded_versions

NONE: Reasons = {}


def version(number: int, base: int | None = None) -> ServedVersion:
    return ServedVersion(number, f"/versions/{number}", SIGNATURE, base)


def deployment(*versions: ServedVersion, is_loaded: bool = True, **engine: object) -> Deployment:
    options = {"engine": engine, "replicas": 2, "cpus": 1.5}
    spec = ModelSpec("m", "generation", "text", options=options, runtime="vllm")
    return Deployment(spec, versions, TrafficSplit(1), revision=7, loaded=is_loaded)


def test_weights_have_an_engine_and_adapters_share_it() -> None:
    model = deployment(version(1), version(2, base=1), version(3), version(4, base=1))
    placement = place([model], {})
    assert [(own.application, own.user_config) for own in placement.own] == [
        ("engine-m-1", EngineConfig(model, 1)),
        ("engine-m-3", EngineConfig(model, 3)),
    ]
    assert applications_of(model) == ("engine-m-1", "engine-m-3")
    assert {(own.replicas, own.cpus, own.build) for own in placement.own} == {
        (2, 1.5, "build_engine")
    }


def test_an_adapter_or_a_split_restarts_no_engine_but_other_options_do() -> None:
    def environment(model: Deployment) -> str:
        return place([model], {}).own[0].environment[ENGINE_KEY]

    alone = environment(deployment(version(1)))
    assert environment(deployment(version(1), version(2, base=1))) == alone
    assert environment(deployment(version(1), max_model_len=512)) != alone


def test_the_shared_replicas_are_told_where_engines_answer() -> None:
    told = LoadedVersions(held=(1,), addresses={1: ("127.0.0.1:5",)}, failed={2: "no"})
    shared = place([deployment(version(1))], {"m": told}).shared
    (entry,) = shared.remote
    assert (entry.held, entry.addresses, entry.failed) == ((1,), told.addresses, told.failed)
    assert ReplicaConfig.from_dict(shared.to_dict()) == shared


def test_an_unloaded_language_model_has_no_engine() -> None:
    assert place([deployment(version(1), is_loaded=False)], {}).own == ()


def test_a_placement_counts_as_applied_once_all_replicas_that_receive_requests_say_so() -> None:
    wanted = place([deployment(version(1))], {})
    assert wanted.models == {"m"}
    old, new = (
        ReplicaReport(pid=1, config=fingerprint(json.loads(json.dumps(shared.to_dict()))))
        for shared in (place([], {}).shared, wanted.shared)
    )
    assert has_applied(wanted, [("driftloop", new), ("engine-m-1", old)])
    assert not has_applied(wanted, [("driftloop", new), ("driftloop", old)])
    assert not has_applied(wanted, [("driftloop", ReplicaReport(pid=1))])


def report(address: str, revision: int, *versions: int, failed: Reasons = NONE) -> ReplicaReport:
    held = HeldVersions(revision=revision, versions=versions, failed=failed)
    written = ReplicaReport(pid=1, models={"m": held}, address=address)
    assert ReplicaReport.from_dict(written.to_dict()) == written
    return written


def test_a_version_counts_when_all_engines_of_its_base_hold_it() -> None:
    first = [report("a", 7, 1, 2), report("b", 6, 1)]
    other = [report("c", 7, 3)]
    found = loaded_versions("m", [first, other], 7)
    assert found == LoadedVersions(
        versions=(1, 3),
        held=(1, 3),
        revision=6,
        addresses={1: ("a", "b"), 2: ("a",), 3: ("c",)},
    )
    assert LoadedVersions.from_dict(found.to_dict()) == found


def test_a_version_counts_when_those_who_are_asked_know_where_it_is() -> None:
    engines = [[report("a", 7, 1, 2)]]
    found = loaded_versions("m", engines, 7, known=[(1, 2), (1,)])
    assert (found.held, found.versions) == ((1, 2), (1,))
    assert loaded_versions("m", engines, 7, known=[]).versions == ()


def test_nothing_is_held_while_an_engine_is_being_started() -> None:
    assert loaded_versions("m", [[]], 7) == LoadedVersions(revision=0)
    refused = report("", 7, failed={1: "why"})
    assert loaded_versions("m", [[refused]], 7).failed == {1: "why"}


def test_where_nothing_is_to_be_held_the_revision_has_come() -> None:
    assert loaded_versions("m", [], 7).revision == 7
