"""Memory that is freed is not asked for anew."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import torch
from metad2a._memory import keep_freed

if {kept}:
    keep_freed()
torch.set_num_threads(1)
for _ in range(8):
    torch.ones(2**23)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    torch.ones(2**23)  # 32 MiB, 8,192 pages
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _faults(kept: bool) -> int:
    program = PROGRAM.format(kept=kept)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc is what is asked")
def test_pages_of_freed_tensors_are_used_again():
    assert 4 * _faults(kept=True) < _faults(kept=False)
