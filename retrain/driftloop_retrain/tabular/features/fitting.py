"""Fits declared features to training rows.

A target encoding is fitted out of fold for the training rows themselves: each gets what the other
four fifths of the rows say about its category. Else a category with one row would tell its label.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from driftloop_contracts.errors import Rejected
from driftloop_contracts.feature_rules import FeatureRule
from driftloop_contracts.signature import TensorSpec
from driftloop_retrain.tabular.features.feature import DATE_COLUMNS, SEPARATOR, Feature

FOLDS = 5
SMOOTHING = 20.0
"""The weight, in rows, of the mean of all rows in that of a category."""
CLIPPED = (0.01, 0.99)
"""The quantiles that numbers are clipped at."""
MOST_KEYS = 10_000
"""The most frequent categories that frequency and target know."""
MOST_TARGETS = 20
"""Columns of a target encoding, one for each class."""
MOST_WORDS = 5_000
"""The most frequent words that are hashed."""
TEXTS = ("one_hot", "frequency", "target", "tfidf", "hashed")


def fit_features(
    rules: Sequence[FeatureRule],
    features: pa.Table,
    inputs: Sequence[TensorSpec],
    targets: NDArray[np.float64],
) -> tuple[Feature, ...]:
    """targets [n, k]: the labels as numbers, see `targets_of`. Raises Rejected if a rule does not
    fit its input."""
    specs = {tensor.name: tensor for tensor in inputs}
    for rule in rules:
        for name in rule.inputs:
            if name not in specs:
                raise Rejected(f"features: the model has no input {name!r}")
            tensor, text = specs[name], rule.kind in TEXTS
            if not tensor.scalar or (tensor.datatype == "BYTES") != text:
                wanted = "one text" if text else "one number"
                raise Rejected(f"input {name!r}: the feature {rule.kind} takes {wanted} a row")
    return tuple(_fit(rule, features, targets) for rule in rules)


def out_of_fold(
    fitted: Sequence[Feature],
    features: pa.Table,
    targets: NDArray[np.float64],
    matrix: NDArray[np.float32],
    seed: int,
) -> NDArray[np.float32]:
    """The features' matrix [n, width] of the training rows, with target encodings fitted to other
    folds."""
    fold_of = np.random.default_rng(seed).permutation(features.num_rows) % FOLDS
    found, column = matrix.copy(), 0
    for feature in fitted:
        if feature.kind == "target":
            texts = _texts(feature.inputs, features)
            codes = pc.fill_null(pc.index_in(texts, pa.array(feature.keys, pa.string())), -1)
            code = np.asarray(codes.to_numpy())
            code = np.where(code < 0, len(feature.keys), code)
            for fold in range(FOLDS):
                mine = fold_of == fold
                table = _means(code[~mine], targets[~mine], len(feature.keys))
                found[mine, column : column + feature.width] = table[code[mine]]
        column += feature.width
    return found


def targets_of(
    labels: NDArray[np.generic], classes: NDArray[np.generic] | None
) -> NDArray[np.float64]:
    """[n, 1] values, [n, 1] the second of two classes, else [n, classes] whether it is that one."""
    if classes is None:
        return labels.astype(np.float64)[:, None]
    shown = classes[1:] if len(classes) == 2 else classes[:MOST_TARGETS]
    return np.asarray(labels[:, None] == shown[None, :], np.float64)


def _texts(names: Sequence[str], features: pa.Table) -> pa.Array:
    columns = [pc.fill_null(features[name], "").combine_chunks() for name in names]
    return columns[0] if len(names) == 1 else pc.binary_join_element_wise(*columns, SEPARATOR)


def _fit(rule: FeatureRule, features: pa.Table, targets: NDArray[np.float64]) -> Feature:
    made = Feature(rule.inputs, rule.kind, 1)
    if rule.kind in TEXTS:
        return _fit_texts(rule, made, _texts(rule.inputs, features), targets)
    column = features[rule.inputs[0]].cast(pa.float64(), safe=False)
    values = np.asarray(pc.fill_null(column, float("nan")).to_numpy(), np.float64)
    values = values[np.isfinite(values)]
    if not len(values):
        values = np.zeros(1)
    if rule.kind == "standard":
        spread = float(values.std())
        return replace(made, numbers=np.array([values.mean(), spread if spread > 1e-9 else 1.0]))
    if rule.kind == "clip":
        return replace(made, numbers=np.quantile(values, CLIPPED))
    if rule.kind == "date":
        return replace(made, width=len(DATE_COLUMNS), numbers=np.array([values.max()]))
    shares = np.linspace(0, 1, rule.size + 1)[1:-1]
    return replace(made, numbers=np.unique(np.quantile(values, shares).astype(np.float32)))


def _fit_texts(
    rule: FeatureRule, made: Feature, texts: pa.Array, targets: NDArray[np.float64]
) -> Feature:
    if rule.kind in ("tfidf", "hashed"):
        return _fit_words(rule, made, texts)
    counts = texts.value_counts().to_pylist()
    counts.sort(key=lambda each: (-each["counts"], each["values"]))
    counts = counts[: rule.size if rule.kind == "one_hot" else MOST_KEYS]
    keys = tuple(each["values"] for each in counts)
    if rule.kind == "one_hot":
        table = np.concatenate([np.eye(len(keys)), np.zeros((1, len(keys)))])
    elif rule.kind == "frequency":
        shares = [each["counts"] / len(texts) for each in counts]
        table = np.array([*shares, 0.0])[:, None]
    else:
        codes = pc.fill_null(pc.index_in(texts, pa.array(keys, pa.string())), len(keys))
        table = _means(np.asarray(codes.to_numpy()), targets, len(keys))
    return replace(made, width=table.shape[1], keys=keys, numbers=table.astype(np.float32))


def _fit_words(rule: FeatureRule, made: Feature, texts: pa.Array) -> Feature:
    counts: Counter[str] = Counter()
    for text in texts.to_pylist():
        counts.update(set(text.lower().split()))
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    words = ranked[: rule.size if rule.kind == "tfidf" else MOST_WORDS]
    if not words:
        words = [("", 0)]
    keys = tuple(word for word, _ in words)
    if rule.kind == "tfidf":
        seen = np.array([count for _, count in words], np.float64)
        weights = np.log((1 + len(texts)) / (1 + seen)) + 1
        return replace(made, width=len(keys), keys=keys, numbers=weights)
    columns = np.array([crc32(word.encode()) % rule.size for word in keys])
    # The graph has as many columns as the highest one that a word falls into.
    return replace(made, width=int(columns.max()) + 1, keys=keys, numbers=columns)


def _means(
    codes: NDArray[np.int64], targets: NDArray[np.float64], keys: int
) -> NDArray[np.float32]:
    """[keys + 1, k]: the smoothed means of categories; in the last row that of all rows."""
    prior = targets.mean(axis=0) if len(targets) else np.zeros(targets.shape[1])
    counts = np.bincount(codes, minlength=keys + 1)[:keys].astype(np.float64)
    table = np.empty((keys + 1, targets.shape[1]))
    for number in range(targets.shape[1]):
        sums = np.bincount(codes, weights=targets[:, number], minlength=keys + 1)[:keys]
        table[:keys, number] = (sums + SMOOTHING * prior[number]) / (counts + SMOOTHING)
    table[keys] = prior
    return table.astype(np.float32)
