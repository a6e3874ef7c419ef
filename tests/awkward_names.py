"""Column names that collide with our names, or that some language could interpret as syntax. One
list for all layers: add names that caused an error."""

OURS_IN_GRAPHS = (
    "label", "value", "probabilities", "label_", "matrix", "scores", "best", "classes", "flat",
    "column", "encoded_0", "raw_input_0", "zero", "first", "weight_0",
)  # fmt: skip
OURS_IN_THE_LAKE = (
    "prediction_id", "row", "version", "arm", "predicted_at", "at", "replica", "sequence",
    "latency_s", "error", "date", "label_number", "label_at", "label_tags", "target", "metric",
    "observed_at", "received_at", "source", "tags", "value_json", "lake_error", "in_value",
    "out_label", "number",
)  # fmt: skip
SYNTAX = (
    "with space", " lead", "trail ", "quo\"te", "apos'trophe", "back`tick", "a.b", "a.b.c", "..",
    "a@b", "@", "@@", "a@float64", "x,y", "x;y", "(x)", "{x}", "{}", "{0}", "[red]x[/red]", "[/x]",
    "<b>", "%s", "%(x)s", "$1", "a=b", "a/b", "a\\b", "--drop", "#", "?", "*", "null", "nan",
    "true", "1", "1e5", "-", "_", "__class__", "SELECT", "select", "from", "order", "group", "user",
    "index",
    "x\ty", "x\ny", "'; DROP TABLE predictions; --",
)  # fmt: skip
LETTERS = (
    "Age", "age", "AGE", "größe", "GRÖSSE", "straße", "年齢", "возраст", "عمر", "🙂", "e\u0301",
    "\u00e9", "\u200b", "\ufeffbom", "I", "ı", "x" * 300, "é" * 200,
)  # fmt: skip
AWKWARD_NAMES = (*OURS_IN_GRAPHS, *OURS_IN_THE_LAKE, *SYNTAX, *LETTERS)
