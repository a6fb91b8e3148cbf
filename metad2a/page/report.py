"""The report: one HTML page with everything that was read and suggested, and nothing from outside."""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING

from metad2a import __version__
from metad2a.page.dataset_view import dataset_view
from metad2a.page.described import Described
from metad2a.page.look import REPORT
from metad2a.page.result_view import result_view

if TYPE_CHECKING:
    from metad2a.result import Suggestions

# Pictures and styles are in the page itself; whatever else a name might smuggle in stays inert.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def report(described: Described, result: Suggestions, k: int) -> str:
    """Return a whole HTML page on the best ``k`` networks of a result."""
    name = escape(described.report.name)
    cells = "".join(f"<li><code>{escape(one.architecture)}</code></li>" for one in result[:k])
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Networks for {name}</title><style>{REPORT}</style></head><body>
<header><h1>Networks for {name}</h1>
<p>Made by metad2a {escape(__version__)} on {datetime.now(UTC):%Y-%m-%d}.</p></header>
{dataset_view(described)}
{result_view(result, k)}
<section class="m2"><h2>Take one along</h2>
<p>In Python, with the architecture's text:</p>
<pre>from metad2a.spaces import SPACES
space = SPACES.get("{escape(result[0].space)}")
network = space.build(space.parse("…"), {result[0].classes})</pre>
<ol>{cells}</ol></section>
<footer><p>Predicted accuracy is the expected test accuracy under the protocol
{escape(result.protocol)}.</p></footer>
</body></html>
"""
