"""Settings of a server that shares the machine with its client."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from mrl_db.model.errors import ValueRangeError

PORT = 5432  # of the socket's name; nothing listens on a network
_MEGABYTE = 1 << 20


def checked_settings(settings: object) -> dict[str, str]:
    """Returns settings of the caller's as text; numbers and booleans are taken as they are."""
    if not isinstance(settings, Mapping):
        raise ValueRangeError(
            f"settings is {settings!r:.60}, wanted a dict such as {{'work_mem': '64MB'}}"
        )
    checked = {}
    for name, value in settings.items():
        if not isinstance(name, str) or not re.fullmatch(r"\w+(\.\w+)?", name, re.ASCII):
            raise ValueRangeError(f"settings names {name!r:.60}, wanted a setting of PostgreSQL")
        if not isinstance(value, (str, int, float)) or not str(value).isprintable():
            raise ValueRangeError(
                f"settings has {value!r:.60} for {name!r}, wanted a printable string or a number"
            )
        checked[name] = str(value)
    return checked


def write_settings(data: Path, settings: Mapping[str, str]) -> None:
    """Writes the file of a cluster's settings that is ours."""
    lines = ["# Written by mrl_db at every start. Settings of your own: ALTER SYSTEM SET …", ""]
    for name, value in sorted(settings.items()):
        quoted = value.replace("'", "''")
        lines.append(f"{name} = '{quoted}'")
    conf = data / "mrl_db.conf"
    conf.write_text("\n".join(lines) + "\n")
    conf.chmod(0o644)  # the folder above is private; the server's user must read it


def sensible_settings() -> dict[str, str]:
    """Returns settings: a quarter of the memory for the buffers, at most 2 GB, and so on."""
    memory = _memory_bytes()
    maintenance = min(2048, max(64, memory // 8 // _MEGABYTE))
    settings = {
        "listen_addresses": "",
        "port": str(PORT),
        "unix_socket_permissions": "0700",
        "shared_buffers": f"{min(2048, max(128, memory // 4 // _MEGABYTE))}MB",
        "effective_cache_size": f"{max(256, memory // 2 // _MEGABYTE)}MB",
        "maintenance_work_mem": f"{maintenance}MB",
        "max_parallel_maintenance_workers": str(max(1, min(8, os.cpu_count() or 1))),
        "max_wal_size": "4GB",
        "jit": "off",
        "recovery_init_sync_method": "syncfs",  # a small cluster recovers in 0.3 s, not 3 s
        "random_page_cost": "1.1",
    }
    shared = shutil.disk_usage("/dev/shm").free if os.path.isdir("/dev/shm") else 0
    # A parallel index build shares its memory there; containers often have 64 MB.
    if shared < (maintenance + 64) * _MEGABYTE:
        settings["dynamic_shared_memory_type"] = "mmap"
    return settings


def _memory_bytes() -> int:
    """Memory that this process may use: the machine's, or less where a control group says so."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):
        memory = min(memory, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return memory
