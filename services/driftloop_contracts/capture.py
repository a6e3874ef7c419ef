"""Capture rules of a model: what replicas leave out or change before anything is written to disk.

In the model's spec, under `options.capture`:

    options:
      capture:
        sample: 0.1
        drop: [birth_date]
        hash: [customer]
        truncate: {comment: 80}

`sample`: the share of predictions to capture, overriding the setting `capture.sample`. Whole
predictions are chosen by their id. Columns are inputs or outputs, by their tensor's name: a dropped
one is null, a hashed one is a keyed BLAKE2b in hex (equal texts have equal hashes), a truncated one
keeps its first N characters. Labels are not sampled.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from driftloop_contracts.errors import Rejected, listed
from driftloop_contracts.language import ANSWERED_BY
from driftloop_contracts.model import ModelSpec
from driftloop_contracts.signature import Signature

KEYS = ("sample", "drop", "hash", "truncate")
SAMPLED = "sampled"
"""The reason under which predictions excluded by sampling are counted as dropped."""


@dataclass(frozen=True, slots=True)
class CaptureRules:
    """The rules of one model. `sample` None: the setting `capture.sample` applies."""

    sample: float | None = None
    drop: frozenset[str] = frozenset()
    hash: frozenset[str] = frozenset()
    truncate: Mapping[str, int] = field(default_factory=dict)

    @property
    def columns(self) -> frozenset[str]:
        """The columns that reach the lake changed or not at all, and so must not be judged."""
        return self.drop | self.hash | self.truncate.keys()

    def check_types(self, signature: Signature) -> None:
        """Raises Rejected if a rule for texts names a column of another type."""
        texts = [("hash", column) for column in self.hash]
        texts += [("truncate", column) for column in self.truncate]
        kinds = [*signature.accepted, *signature.outputs]
        for rule, column in sorted(texts):
            for tensor in kinds:
                if tensor.name == column and tensor.datatype != "BYTES":
                    raise Rejected(
                        f"capture: {rule}: column {column!r} is {tensor.datatype}, and only texts "
                        "(BYTES) can be; `drop` it"
                    )


def parse_capture(options: Mapping[str, Any]) -> CaptureRules:
    """Parse the rules in a spec's `options`. Raises Rejected if they are invalid."""
    wanted = options.get("capture") or {}
    if not isinstance(wanted, Mapping):
        raise Rejected(f"the option `capture` must be an object with {', '.join(KEYS)}")
    unknown = sorted(set(wanted) - set(KEYS))
    if unknown:
        raise Rejected(f"capture: there is no rule {unknown[0]!r}; there are {', '.join(KEYS)}")
    sample = wanted.get("sample")
    if sample is not None and (
        isinstance(sample, bool) or not isinstance(sample, (int, float)) or not 0 <= sample <= 1
    ):
        raise Rejected("capture: sample: must be a share from 0 to 1")
    truncate = wanted.get("truncate") or {}
    if not isinstance(truncate, Mapping) or not all(
        isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in truncate.values()
    ):
        raise Rejected(
            "capture: truncate: give columns with the number of characters to keep, {column: 80}"
        )
    rules = CaptureRules(
        None if sample is None else float(sample),
        _columns("drop", wanted),
        _columns("hash", wanted),
        dict(truncate),
    )
    for column in sorted(rules.columns):
        if sum(column in named for named in (rules.drop, rules.hash, rules.truncate)) > 1:
            raise Rejected(f"capture: column {column!r} has more than one rule")
    return rules


def _columns(rule: str, wanted: Mapping[str, Any]) -> frozenset[str]:
    columns = wanted.get(rule) or []
    if not isinstance(columns, list) or not all(isinstance(c, str) for c in columns):
        raise Rejected(f"capture: {rule}: give a list of columns")
    return frozenset(columns)


def check_capture(spec: ModelSpec, signature: Signature, *, has_key: bool) -> None:
    """Raises Rejected, naming rule and column, if a model's capture rules do not fit the model.

    has_key: whether the setting `capture.hash_key` is set.
    """
    rules = parse_capture(spec.options)
    inputs = {t.name for t in signature.accepted}
    known = inputs | {t.name for t in signature.outputs}
    judged = {spec.output, *(o.output for o in spec.judged_by if o.label is not None)}
    by_answer = any(o.kind.reads == "answer" for o in spec.judged_by)
    scored = {name.partition("_")[2] for name in ANSWERED_BY} if by_answer else set()
    for rule, columns in _by_rule(rules):
        for column in sorted(columns):
            if column not in known:
                raise Rejected(
                    f"capture: {rule}: the model has no column {column!r}; it has "
                    f"{listed(sorted(known))}"
                )
            if spec.task is not None and column in judged:
                raise Rejected(
                    f"capture: {rule}: column {column!r} is the output that labels are compared "
                    "with; it must be captured unchanged"
                )
            if column in scored:
                raise Rejected(
                    f"capture: {rule}: the metric `scorer` reads the column {column!r}; it must be "
                    "captured unchanged"
                )
            if rule != "drop" and spec.recipe is not None and column in inputs:
                raise Rejected(
                    f"capture: {rule}: the recipe {spec.recipe!r} would learn from values of "
                    f"column {column!r} that no request carries; `drop` it, or deploy without a "
                    "recipe"
                )
    rules.check_types(signature)
    if rules.hash and not has_key:
        raise Rejected(
            f"capture: hash: column {min(rules.hash)!r} needs the setting capture.hash_key: "
            "without a secret key, hashes of names and numbers can be guessed"
        )


def _by_rule(rules: CaptureRules) -> Iterable[tuple[str, Iterable[str]]]:
    return ("drop", rules.drop), ("hash", rules.hash), ("truncate", rules.truncate)


def is_sampled(prediction_id: str, share: float) -> bool:
    """Whether a prediction is among the `share` to capture; the same for its retries.

    Independent of the traffic split, which hashes the same id for requests without a routing key.
    """
    digest = blake2b(prediction_id.encode(), digest_size=8, person=b"capture").digest()
    return int.from_bytes(digest, "big") < share * 2**64
