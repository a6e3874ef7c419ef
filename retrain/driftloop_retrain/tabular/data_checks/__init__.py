"""The stage `data` of a retrain: what is wrong with the rows, before anything learns from them."""

from driftloop_retrain.tabular.data_checks.label_noise import suspected_labels
from driftloop_retrain.tabular.data_checks.stage import DataReport, DataUnfit, checked

__all__ = ["DataReport", "DataUnfit", "checked", "suspected_labels"]
