"""Render the templates of reports and model cards."""

import re
from collections.abc import Sequence
from math import isnan
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape


def percent(share: float) -> str:
    """Format a share in 0..1 as `62.1%`, and NaN as `n/a`.

    >>> percent(0.6213)
    '62.1%'
    """
    return "n/a" if isnan(share) else f"{100 * share:.1f}%"


def interval(ends: Sequence[float] | None) -> str:
    """Format the ends of an interval of shares as `58.1 to 66.0%`, and None as `n/a`.

    >>> interval([0.581, 0.66])
    '58.1 to 66.0%'
    """
    return "n/a" if ends is None else f"{100 * ends[0]:.1f} to {percent(ends[1])}"


def points(difference: float) -> str:
    """Format a difference of two shares in percentage points, with its sign.

    >>> points(0.012)
    '+1.2'
    """
    return "n/a" if isnan(difference) else f"{100 * difference:+.1f}"


def duration(seconds: float) -> str:
    """Format a number of seconds.

    >>> duration(42), duration(420), duration(11_100)
    ('42 s', '7 min', '3 h 05 min')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


def markdown_text(value: object) -> str:
    r"""Escape a value as one line of Markdown text.

    >>> print(markdown_text("a_b"))
    a\_b
    """
    line = " ".join(str(value).split())
    return re.sub(r"([\\`*_\[\]<>|#~&$])", r"\\\1", line)


def markdown_code(value: object) -> str:
    """Format a value as one line of Markdown code.

    >>> markdown_code("a_b")
    '`a_b`'
    """
    line = " ".join(str(value).split())
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    space = " " if len(fence) > 1 else ""
    return f"{fence}{space}{line}{space}{fence}"


def render(template: str, **values: Any) -> str:
    """Render a template of `reidray/reporting/templates`. HTML templates escape the values.

    File names may hold characters that UTF-8 cannot encode. They appear as escape sequences.

    Args:
        template: the file name of the template.
        values: the variables of the template.
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
