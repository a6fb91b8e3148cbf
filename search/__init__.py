"""Weight-sharing search: find, refine or check architectures on a user's dataset."""

from search.checking import check
from search.engine import Progress
from search.refinement import refine
from search.result import SearchResult
from search.searching import search

__all__ = ["Progress", "SearchResult", "check", "refine", "search"]
