"""torchvision can be imported whatever torch build stands beside it."""

import subprocess
import sys
import textwrap

import pytest


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_import_and_use() -> None:
    """Also after an import that failed, whose remains must not be in the way."""
    done = run("""
        try:
            import torchvision
            fits = True
        except RuntimeError:
            fits = False
        from metad2a import _torchvision
        module = _torchvision.torchvision()
        assert _torchvision.torchvision() is module
        import torch
        from torchvision import datasets, models
        from torchvision.transforms import v2
        image = torch.zeros(3, 8, 8, dtype=torch.uint8)
        assert v2.Resize(4)(image).shape == (3, 4, 4)
        state = _torchvision.state()
        assert state.startswith(module.__version__), state
        assert ("repaired" in state) is not fits, state
    """)
    assert done.returncode == 0, done.stderr


def test_other_errors_pass() -> None:
    done = run("""
        import sys

        class Finder:
            def find_spec(self, name, path=None, target=None):
                if name == "torchvision":
                    raise RuntimeError("something else")

        sys.meta_path.insert(0, Finder())
        from metad2a._torchvision import state, torchvision
        assert state() == "not usable: something else"
        torchvision()
    """)
    assert done.returncode == 1
    assert "RuntimeError: something else" in done.stderr
