"""The sections of a report on how the candidate behaves on the held-out rows."""

from driftloop_retrain.report.document import (
    Cell,
    Chart,
    Line,
    Place,
    Section,
    Table,
    facts,
    pairs_table,
    table,
)

SHOWN_POINTS = 11


def behaviour(found: Place) -> tuple[Section, ...]:
    return (
        _answers(found),
        _curves(found),
        _columns(found / "importance"),
        _typical(found),
        _groups(found / "groups"),
        _beside_the_champion(found),
        _cost_of_serving(found),
    )


def postprocessing(found: Place) -> Section:
    """What was put behind the model's own answers."""
    return Section(
        "Calibration and decision",
        facts(
            ("Share of the labels that the interval is to cover", found / "interval"),
            ("Share of the labels that the set is to cover", found / "prediction_set"),
            ("Probability from which a class is in the set", found / "set_threshold"),
            ("Form of the calibration", found / "calibration" / "form"),
            ("Slope", found / "calibration" / "slope"),
            ("Log loss before", found / "log_loss" / "before"),
            ("Log loss after", found / "log_loss" / "after"),
            ("Threshold of the second class", found / "threshold"),
            ("Loss before", found / "loss" / "before"),
            ("Loss after", found / "loss" / "after"),
            ("Validation rows that it was measured on", found / "rows"),
        ),
    )


def twin(found: Place) -> Section:
    """Of the graph, with smaller numbers."""
    columns = {"rows": "rows a request", "ratio": "twin's time over the graph's", "high": "at most"}
    forms = [place for _, place in (found / "forms").items()]
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (
            (form / "form").cell,
            (form / "rise" / "mean").cell,
            (form / "rise" / "high").cell,
            (form / "size_bytes").cell,
            (form / "reason").cell,
        )
        for form in forms
    )
    titles = ("form", "rise of the loss", "at most", "bytes", "what follows")
    return Section(
        "Optimised twin",
        facts(
            ("Kept", found / "kept"),
            ("Form", found / "form"),
            ("Reason", found / "reason"),
            ("Rise of the loss that is allowed", found / "allowed"),
            ("Bytes of the plain graph", found / "plain_size_bytes"),
        ),
        (
            Table("Each form", titles, rows),
            *(
                table(
                    f"Times of {form.value['form']}, asked in turn",
                    (form / "speed").items(),
                    columns,
                )
                for form in forms
            ),
        ),
    )


def _answers(found: Place) -> Section:
    confusion = found / "confusion"
    classes = tuple(map(str, (confusion / "classes").value or ()))
    counts = tuple(
        (name, *((confusion / "rows" / i / j).cell for j in range(len(classes))))
        for i, name in enumerate(classes)
    )
    bins = {
        "low": "from", "high": "to", "rows": "rows", "said": "mean probability", "true": "true",
        "true_low": "95 % from", "true_high": "95 % to",
    }  # fmt: skip
    calibration = found / "calibration"
    return Section(
        "Behaviour on the held-out rows",
        facts(
            ("Labels inside the interval or the set, share", found / "covered" / "mean"),
            ("95 % from", found / "covered" / "low"),
            ("95 % to", found / "covered" / "high"),
            ("Mean number of classes in the set", found / "set_size"),
        ),
        tables=(
            Table("Labels (rows) and answers (columns)", ("label", *classes), counts),
            table("Calibration of the answered class", calibration.items(), bins),
            pairs_table(
                "Residuals: quantiles of answer − label", found / "residuals", "share", "value"
            ),
        ),
        charts=(
            Chart(
                "Calibration",
                "How often the answered class is true, by its probability; on the diagonal both "
                "agree. The table has the numbers.",
                "probability",
                "true",
                (
                    Line(
                        "with 95 % intervals",
                        _points(calibration, "said", "true"),
                        _points(calibration, "true_low", "true_high"),
                    ),
                ),
                diagonal=True,
            ),
            Chart(
                "Residuals",
                "How many rows have which difference between answer and label. The table has the "
                "quantiles.",
                "answer − label",
                "rows",
                (
                    Line(
                        "without the hundredth at each end",
                        tuple(
                            ((low + high) / 2, rows)
                            for low, high, rows in _triples(found / "histogram")
                        ),
                        bars=True,
                    ),
                ),
                unit=False,
            ),
        ),
    )


def _curves(found: Place) -> Section:
    curve = found / "curve"
    points = curve.items()
    step = max(1, len(points) // SHOWN_POINTS)
    columns = {
        "threshold": "threshold", "recall": "found", "false_positive_rate": "false positives",
        "precision": "precision",
    }  # fmt: skip
    return Section(
        "Thresholds",
        facts(("Class", found / "scored")) if points else (),
        (table("What other thresholds would give", points[::step], columns),),
        charts=(
            Chart(
                "ROC",
                "The share of the class that is found, by the share of other rows called so. The "
                "table has some of the points.",
                "false positives",
                "found",
                (Line("", ((0.0, 0.0), *_points(curve, "false_positive_rate", "recall"))),)
                if points
                else (),
                diagonal=True,
            ),
            Chart(
                "Precision and recall",
                "The share of the rows called so that are of the class, by the share of the class "
                "that is found. The table has some of the points.",
                "found",
                "precision",
                (Line("", _points(curve, "recall", "precision")),),
            ),
        ),
    )


def _columns(importance: Place) -> Section:
    columns = {
        "column": "column", "rise": "rise", "low": "95 % from", "high": "95 % to",
        "was": "champion's", "moved": "moved by",
    }  # fmt: skip
    return Section(
        "Importance of columns",
        tables=(table("Rise of the loss if a column is shuffled", importance.items(), columns),),
    )


def _typical(found: Place) -> Section:
    columns = {"column": "column", "value": "value", "contribution": "contribution"}
    tables = []
    for _, row in (found / "contributions").items():
        share = f"{float(row.value['quantile']):.0%}"
        tables.append(
            table(
                f"The row at {share} of the scores: what moves it from the mean",
                (row / "columns").items(),
                columns,
            )
        )
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        ((row / "quantile").cell, (row / "score").cell, (row / "mean").cell)
        for _, row in (found / "contributions").items()
    )
    scores = Table("Typical rows", ("quantile", "score", "mean score"), rows)
    return Section(
        "Typical rows explained",
        facts(("Score of", found / "scored")) if rows else (),
        (scores, *tables),
        notes=("Shapley values of the served graph, sampled; their sum is about score less mean.",)
        if rows
        else (),
    )


def _groups(groups: Place) -> Section:
    names = {"group": "group", "rows": "rows"}
    for key, name in (
        ("loss", "mean loss"), ("called_positive", "called positive"), ("missed", "missed"),
        ("false_positives", "false positives"),
    ):  # fmt: skip
        first = (groups / 0).value or {}
        if key in first:
            names |= {key: name, f"{key}_low": "95 % from", f"{key}_high": "95 % to"}
    return Section(
        "Groups",
        tables=(table("Rates in the groups that the spec declares", groups.items(), names),),
    )


def _beside_the_champion(found: Place) -> Section:
    differ = found / "disagreement"
    gain = differ / "gain_where_they_differ"
    return Section(
        "Disagreement with the champion",
        facts(
            ("Rows", differ / "rows"),
            ("Answered otherwise", differ / "differ"),
            ("Share", differ / "share" / "mean"),
            ("Share, 95 % from", differ / "share" / "low"),
            ("Share, 95 % to", differ / "share" / "high"),
            ("Mean distance of the answers", differ / "mean_distance"),
            ("Loss lower where they differ, by", gain / "mean"),
            ("95 % from", gain / "low"),
            ("95 % to", gain / "high"),
        ),
    )


def _cost_of_serving(found: Place) -> Section:
    columns = {
        "rows": "rows a request", "seconds": "seconds", "champion_seconds": "champion's",
        "ratio": "ratio", "low": "95 % from", "high": "95 % to",
    }  # fmt: skip
    return Section(
        "Latency, size and memory",
        facts(
            ("Bytes of the graph", found / "size_bytes"),
            ("Bytes of the champion's graph", found / "champion_size_bytes"),
            ("Bytes of memory, loaded and run", found / "memory_bytes"),
            ("Bytes of memory of the champion", found / "champion_memory_bytes"),
        ),
        (
            table(
                "Median time of the graph, asked in turn with the champion's",
                (found / "speed").items(),
                columns,
            ),
        ),
    )


def _points(place: Place, x: str, y: str) -> tuple[tuple[float, float], ...]:
    found = ((row.value.get(x), row.value.get(y)) for _, row in place.items())
    return tuple((float(a), float(b)) for a, b in found if a is not None and b is not None)


def _triples(place: Place) -> list[tuple[float, float, float]]:
    return [(row.value["low"], row.value["high"], row.value["rows"]) for _, row in place.items()]
