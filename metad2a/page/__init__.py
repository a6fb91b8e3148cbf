"""The web page: labelled images in, suggested networks with their drawings and measurements out.

Everything that the page needs comes from this machine: no fonts, scripts or usage statistics of
others. What an upload holds may be anybody's: it is opened in a sandbox, belongs to one visitor,
and all text from it is escaped. Gradio is imported when the page is built.
"""

from metad2a.page.backend import Backend
from metad2a.page.serve import build_page, launch

__all__ = ["Backend", "build_page", "launch"]
