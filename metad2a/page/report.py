"""The report: one HTML page with all that was read, suggested, trained; nothing from outside."""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING

from metad2a import __version__
from metad2a.page.dataset_view import dataset_view
from metad2a.page.look import REPORT
from metad2a.page.result_view import list_view, suggestion_view
from metad2a.page.trained_view import trained_view

if TYPE_CHECKING:
    from metad2a.page.visit import Visit

# Pictures and styles are in the page itself; whatever else a name might smuggle in stays inert.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def report(visit: Visit) -> str:
    """Return a whole HTML page on what was read, suggested and trained; it can be sent as it is."""
    name = escape(visit.described.report.name)
    trained = "" if visit.trained is None else trained_view(visit.trained)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Networks for {name}</title><style>{REPORT}</style></head><body>
<header><h1>Networks for {name}</h1>
<p>Made by metad2a {escape(__version__)} on {datetime.now(UTC):%Y-%m-%d}.</p></header>
{suggestion_view(visit.result, visit.searched, live=False)}
{trained}
{list_view(visit.result, visit.k, visit.searched, live=False)}
{dataset_view(visit.described)}
</body></html>
"""
