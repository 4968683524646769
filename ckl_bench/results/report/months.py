"""Names of stages that are months, as people say them."""

from __future__ import annotations

import re
from calendar import month_abbr

_SNAPSHOTS = re.compile(r"(\d{4})?(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])-(\d{4})?(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])")


def month_name(stage: str) -> str:
    """Two snapshots' dates as months: "0201-0301" is "Feb→Mar", "20230101-20230201" is "Jan 2023→Feb".

    A year is said again where it changes, a day where a snapshot is not of the first; other names stay as they are.
    """
    found = _SNAPSHOTS.fullmatch(stage)
    if not found:
        return stage
    year, month, day, later, last_month, last_day = found.groups()
    if (year is None) != (later is None):
        return stage
    days = {day, last_day} != {"01"}

    def said(year: str | None, month: str, day: str) -> str:
        return " ".join(filter(None, (str(int(day)) if days else "", month_abbr[int(month)], year)))

    return f"{said(year, month, day)}→{said(later if later != year else None, last_month, last_day)}"
