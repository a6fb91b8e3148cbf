"""``metad2a doctor``: what an installation looks like, for a bug report."""

from __future__ import annotations

import os
import platform
from argparse import ArgumentParser, Namespace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from metad2a.cli.common import add_json, answer, columns

PACKAGES = (
    "metad2a",
    "torch",
    "torch-geometric",
    "numpy",
    "pillow",
    "pyarrow",
    "safetensors",
    "huggingface-hub",
    "sqlalchemy",
    "gradio",
)


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    add_json(parser)


def run(args: Namespace) -> int:
    """Print what was found; what is missing or broken is said, and no error."""
    from metad2a import _torchvision
    from metad2a.model.artifact import FILES
    from metad2a.model.hub import resolve
    from metad2a.settings import cache_folder

    model = resolve()
    missing = [name for name in FILES if not (model / name).is_file()]
    devices, threads = _devices()
    found = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "torchvision": _torchvision.state(),
        "devices": devices,
        "threads": threads,
        "cores": os.cpu_count(),
        "cache": None if (cache := cache_folder()) is None else str(cache),
        "hub_cache": _hub_cache(),
        "model": {"folder": str(model), "present": not missing, "missing": missing},
    }
    answer(args, found, _text(found))
    return 0


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _devices() -> tuple[list[str], int | None]:
    """Return the names of the devices that torch sees, and the threads it uses on the CPU."""
    try:
        import torch
    except (ImportError, OSError) as error:  # a missing shared library is an OSError
        return [f"none, torch cannot be imported: {error}"], None
    names = [f"cpu ({torch.backends.cpu.get_cpu_capability()})"]
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        names.append(
            f"cuda:{number} ({properties.name}, {properties.total_memory / 2**30:.0f} GiB)"
        )
    return names, torch.get_num_threads()


def _hub_cache() -> str | None:
    try:
        from huggingface_hub.constants import HF_HUB_CACHE
    except ImportError:
        return None
    return str(HF_HUB_CACHE)


def _text(found: dict[str, Any]) -> str:
    model = found["model"]
    state = f"lacks {', '.join(model['missing'])}" if model["missing"] else "present"
    rows = [
        ("python", f"{found['python']} on {found['platform']}"),
        *((name, known or "not installed") for name, known in found["packages"].items()),
        ("torchvision", found["torchvision"]),
        ("devices", ", ".join(found["devices"])),
        ("threads", f"{found['threads']} of {found['cores']} cores"),
        ("cache", found["cache"] or "none: this user has no home; METAD2A_CACHE names a folder"),
        ("hub cache", str(found["hub_cache"])),
        ("model", f"{model['folder']}: {state}"),
    ]
    return columns(rows)
