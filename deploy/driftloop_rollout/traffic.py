"""Computes what replicas must serve from the rollout's state; repeating it changes nothing."""

from dataclasses import replace

from driftloop_contracts.model import Deployment, ServedVersion, TrafficSplit
from driftloop_rollout.machine import Rollout, State


def superseded(rollout: Rollout, deployment: Deployment) -> bool:
    """Whether another version was made the stable one from outside the rollout."""
    if rollout.champion is None or rollout.state in (State.ROLLING_BACK, State.ABORTING):
        return False
    expected = {rollout.champion.version}
    if rollout.state in (State.WATCHED, State.PROMOTING):
        expected.add(rollout.candidate.version)
    return deployment.split.stable not in expected


def desired(rollout: Rollout, deployment: Deployment) -> Deployment:
    """Return the deployment for this state; equal to the given one if nothing changes."""
    if rollout.champion is None or rollout.finished:
        return deployment
    candidate, champion = rollout.candidate, rollout.champion
    if rollout.state is State.SHADOW:
        # A graph answers in a process of its own; an engine must hold the candidate.
        if not deployment.model.kind.has_engine or rollout.shadow is None:
            return deployment
        return _holding(deployment, champion, candidate)
    if rollout.state in (State.ROLLING_BACK, State.ABORTING):
        return _withdrawn(rollout, champion, deployment)
    if rollout.state is State.PROMOTING:
        promoted = deployment.serving(candidate, TrafficSplit(candidate.version))
        return _holding(promoted, champion)
    if rollout.state is State.WATCHED:
        split = TrafficSplit(candidate.version)
        if rollout.holdback:
            split = _split(rollout, candidate.version, champion.version, rollout.holdback)
        return _holding(deployment.serving(candidate, split), champion)
    if rollout.weight:
        # The salt, and so the hashes of keys, stays the same for the whole rollout; the start of
        # each step makes the draws differ.
        split = _split(rollout, champion.version, candidate.version, rollout.weight)
    else:
        split = TrafficSplit(champion.version)
    return _holding(replace(deployment, split=split), champion, candidate)


def _split(rollout: Rollout, stable: int, canary: int, weight: float) -> TrafficSplit:
    since = rollout.stepped_at.timestamp() if rollout.stepped_at else 0.0
    return TrafficSplit(stable, canary, weight, rollout.id, since, rollout.sticky_s)


def baseless(candidate: ServedVersion, deployment: Deployment) -> bool:
    """Whether it is an adapter whose base version is not served (any more)."""
    return candidate.base is not None and deployment.version(candidate.base) is None


def trimmed(rollout: Rollout, deployment: Deployment, keep_previous: int) -> Deployment:
    """Return the deployment after the promotion: the new champion and the `keep_previous` newest of
    the former ones. Former adapters are all removed, because an engine has room for few; the base
    of a remaining adapter is kept."""
    candidate, champion = rollout.candidate.version, rollout.champion
    last = champion.version if champion else candidate
    former = [v for v in deployment.versions if v.version != candidate and v.base is None]
    # Oldest first; the previous champion counts as the newest regardless of its number.
    former.sort(key=lambda v: (v.version == last, v.version))
    kept = {candidate, rollout.candidate.base}
    kept |= {v.version for v in former[-keep_previous:]} if keep_previous else set()
    versions = tuple(v for v in deployment.versions if v.version in kept)
    return replace(deployment, versions=versions)


def _withdrawn(rollout: Rollout, champion: ServedVersion, deployment: Deployment) -> Deployment:
    """Return all traffic to the last good version: the champion, or the version that was put in its
    place from outside."""
    candidate, split = rollout.candidate.version, deployment.split
    if split.stable == candidate:
        if not rollout.promotion_began:  # made the stable version from outside: not ours to undo
            return deployment
        split = TrafficSplit(champion.version)
        deployment = deployment.serving(champion, split)
    elif split.canary == candidate:
        split = TrafficSplit(split.stable)
    versions = tuple(v for v in deployment.versions if v.version != candidate)
    return replace(deployment, split=split, versions=versions)


def _holding(deployment: Deployment, *needed: ServedVersion) -> Deployment:
    for served in needed:
        if deployment.version(served.version) != served:
            deployment = deployment.with_version(served)
    return deployment


def planned_steps(steps: tuple[float, ...]) -> tuple[float, ...]:
    """Ascending weights that end with 1, and begin below it: nothing is promoted unseen."""
    rungs = sorted({step for step in steps if 0 < step < 1}) or [0.5]
    return (*rungs, 1.0)
