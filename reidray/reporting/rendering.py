"""How the templates beside this file are filled in."""

import re
from collections.abc import Sequence
from math import isnan
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape


def percent(share: float) -> str:
    """A share in 0..1 as `62.1%`; `n/a` where it is not a number."""
    return "n/a" if isnan(share) else f"{100 * share:.1f}%"


def interval(ends: Sequence[float] | None) -> str:
    """The ends of an interval of shares as `58.1 to 66.0%`; `n/a` where there is none."""
    return "n/a" if ends is None else f"{100 * ends[0]:.1f} to {percent(ends[1])}"


def points(difference: float) -> str:
    """A difference of two shares in percentage points, with its sign: `+1.2`."""
    return "n/a" if isnan(difference) else f"{100 * difference:+.1f}"


def duration(seconds: float) -> str:
    """Seconds as people say them: `42 s`, `7 min`, `3 h 05 min`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


def markdown_text(value: object) -> str:
    """Any value as one line of Markdown that shows just its characters."""
    line = " ".join(str(value).split())
    return re.sub(r"([\\`*_\[\]<>|#~&$])", r"\\\1", line)


def markdown_code(value: object) -> str:
    """Any value as one line of Markdown code."""
    line = " ".join(str(value).split())
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    space = " " if len(fence) > 1 else ""
    return f"{fence}{space}{line}{space}{fence}"


def render(template: str, **values: Any) -> str:
    """Fill in a template; values are escaped in HTML.

    Characters that UTF-8 cannot hold, which file names may, come out as their codes.
    """
    page = _ENVIRONMENT.get_template(template).render(values)
    return page.encode("utf-8", "backslashreplace").decode("utf-8")


_ENVIRONMENT = Environment(
    loader=PackageLoader("reidray.reporting"),
    autoescape=select_autoescape(["html"]),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_ENVIRONMENT.filters.update(
    percent=percent,
    interval=interval,
    points=points,
    duration=duration,
    count="{:,}".format,
    markdown=markdown_text,
    code=markdown_code,
)
