"""Weight-sharing search: find, refine or check architectures on a user's dataset."""

from search.engine import Progress
from search.result import SearchResult
from search.searching import search

__all__ = ["Progress", "SearchResult", "search"]
