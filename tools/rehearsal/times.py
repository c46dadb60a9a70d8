"""Moments as clients write them, and as the service does."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

# 2026-01-31T12:00:00.1234567+00:00 and shorter; str() of a datetime has a space in the middle
TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d)?)(?:\.(\d+))?)? ?(Z|[+-]\d\d:?\d\d)?", re.ASCII | re.IGNORECASE
)


def parse(text: str) -> datetime | None:
    """The moment, to the microsecond; None if it is none. One without a zone is taken for UTC."""
    match = TIME.fullmatch(text.strip())
    if match is None:
        return None
    day, clock, fraction, zone = match.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{clock or '00:00:00'}").replace(tzinfo=timezone.utc)
    except ValueError:
        return None
    moment += timedelta(microseconds=int((fraction or "0").ljust(6, "0")[:6]))
    if zone and zone not in "Zz":
        sign = -1 if zone[0] == "-" else 1
        moment -= sign * timedelta(hours=int(zone[1:3]), minutes=int(zone[-2:]))
    return moment


def written(moment: datetime) -> str:
    """As the service writes it: seven decimals and +00:00. Such texts sort as their moments do."""
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f0+00:00")
