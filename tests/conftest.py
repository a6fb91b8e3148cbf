"""One thread a process: the test processes share the cores, and OpenMP threads would only wait."""

import os

# Read when torch is first imported, here and in every process that a test starts.
os.environ.setdefault("OMP_NUM_THREADS", "1")
