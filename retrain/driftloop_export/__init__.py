"""A trained model of any framework becomes an ONNX graph that answers as it does, checked row by
row.

from driftloop_export import export
export(model, sample, name="loans", labels=labels, output="folder/")
"""

from driftloop_export.comparison import Differs
from driftloop_export.exporting import Exported, export
from driftloop_export.mlflow_log import log_model
from driftloop_export.native import Native
from driftloop_export.port import NotExportable, NotInstalled

__all__ = ["Differs", "Exported", "Native", "NotExportable", "NotInstalled", "export", "log_model"]
