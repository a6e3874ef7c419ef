"""A time in seconds since 1970 (UTC) as parts, cycles, and age."""

from math import tau

import numpy as np

from driftloop_retrain.tabular.features.nodes import Nodes

DATE_COLUMNS = (
    "year", "month", "day", "weekday", "hour", "hour_sin", "hour_cos", "weekday_sin", "weekday_cos",
    "year_sin", "year_cos", "age_days",
)  # fmt: skip
DAY_S, HOUR_S = 86_400, 3_600


def date_nodes(value: str, newest_s: float, nodes: Nodes) -> str:
    """[n] seconds to [n, DATE_COLUMNS] float32, missing for a missing time. newest_s: what ages are
    counted from. The calendar is computed in whole numbers (H. Hinnant, days_from_civil)."""

    def whole(number: int) -> str:
        return nodes.constant(np.int64(number))

    def op(kind: str, a: str, b: str | int) -> str:
        return nodes.add(kind, a, b if isinstance(b, str) else whole(b))

    seconds = nodes.add("Cast", value, to=11)
    missing = nodes.add("IsNaN", seconds)
    known = nodes.add("Where", missing, nodes.constant(np.float64(0.0)), seconds)
    time = nodes.add("Cast", nodes.add("Floor", known), to=7)
    in_day = op("Mod", time, DAY_S)
    days = op("Div", op("Sub", time, in_day), DAY_S)
    hour = op("Div", in_day, HOUR_S)
    weekday = op("Mod", op("Add", days, 3), 7)
    shifted = op("Add", days, 719_468)  # days since 0000-03-01
    era = op("Div", op("Sub", shifted, op("Mod", shifted, 146_097)), 146_097)
    of_era = op("Sub", shifted, op("Mul", era, 146_097))
    corrected = op("Sub", of_era, op("Div", of_era, 1_460))
    corrected = op("Add", corrected, op("Div", of_era, 36_524))
    year = op("Div", op("Sub", corrected, op("Div", of_era, 146_096)), 365)
    begun = op("Add", op("Mul", year, 365), op("Div", year, 4))
    of_year = op("Sub", of_era, op("Sub", begun, op("Div", year, 100)))
    from_march = op("Div", op("Add", op("Mul", of_year, 5), 2), 153)
    day = op("Add", op("Sub", of_year, op("Div", op("Add", op("Mul", from_march, 153), 2), 5)), 1)
    month = op("Add", op("Mod", op("Add", from_march, 2), 12), 1)
    late = nodes.add("Cast", nodes.add("LessOrEqual", month, whole(2)), to=7)
    full_year = op("Add", op("Add", year, op("Mul", era, 400)), late)

    def number(part: str) -> str:
        return nodes.add("Cast", part, to=1)

    def cycle(part: str, length: float) -> list[str]:
        angle = nodes.add("Mul", number(part), nodes.constant(np.float32(tau / length)))
        return [nodes.add("Sin", angle), nodes.add("Cos", angle)]

    seconds_old = nodes.add("Sub", nodes.constant(np.float64(newest_s)), known)
    age = nodes.add("Div", seconds_old, nodes.constant(np.float64(DAY_S)))
    parts = [number(part) for part in (full_year, month, day, weekday, hour)]
    parts += [*cycle(hour, 24), *cycle(weekday, 7), *cycle(of_year, 365.25), number(age)]
    shape = nodes.constant(np.array([-1, 1], np.int64))
    columns = [nodes.add("Reshape", part, shape) for part in parts]
    none = nodes.add("Reshape", missing, shape)
    nan = nodes.constant(np.float32("nan"))
    return nodes.add("Where", none, nan, nodes.add("Concat", *columns, axis=1))
