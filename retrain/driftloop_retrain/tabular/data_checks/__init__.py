"""The stage `data` of a retrain: what is wrong with the rows, before anything learns from them."""

from driftloop_retrain.tabular.data_checks.label_noise import suspected_labels
from driftloop_retrain.tabular.data_checks.stage import (
    DataReport,
    DataUnfit,
    check_labels,
    checked,
)

__all__ = ["DataReport", "DataUnfit", "check_labels", "checked", "suspected_labels"]
