"""The database: tasks drawn from datasets, and what was measured on them.

``database.build.build`` fills a store by a plan, and needs the search package; what is listed here
does not.
"""

from __future__ import annotations

from database.exchange.files import export, import_files
from database.exchange.merge import merge_store
from database.importers import import_published
from database.jobs.queue import Job, Jobs
from database.plan import Plan, read_plan
from database.reading.status import status
from database.records import Recorded, RefusedRowError
from database.store import Store
from database.tasks import Task, draw_tasks, family_of

__all__ = [
    "Job",
    "Jobs",
    "Plan",
    "Recorded",
    "RefusedRowError",
    "Store",
    "Task",
    "draw_tasks",
    "export",
    "family_of",
    "import_files",
    "import_published",
    "merge_store",
    "read_plan",
    "status",
]
