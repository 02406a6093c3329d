"""Parse durations such as `90s`, `10m` and `1h`."""

import re

DEFAULT_WAIT = "10m"
"""Time that a job waits for the resources of a cluster."""

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?) ?([smhd])", re.ASCII)


def parse_duration(text: str, field: str) -> float:
    """Return a duration in seconds.

    >>> [parse_duration(text, "wait_for_resources") for text in ("90s", "10m", "1.5h", "0s")]
    [90.0, 600.0, 5400.0, 0.0]

    Args:
        text: a number with its unit: s, m, h or d.
        field: field of the configuration, for the message.

    Raises:
        ValueError: the text is another one; the message names the field and the form.
    """
    found = DURATION.fullmatch(text.strip())
    if found is None:
        shown = text if len(text) <= 40 else f"{text[:40]}..."
        raise ValueError(f"`{field}` is {shown!r}: expected a time such as 90s, 10m or 1h")
    return float(found[1]) * SECONDS[found[2]]
