"""strace around a process that is otherwise as it is: what it wrote, synced and sent, and faults of the disk.

    [*tracing(log, "fdatasync:error=EIO:when=3..5"), *command]     # the process stays the caller's own child
    wait_for_end(log)                                              # the tracer writes on for a moment after the end

The test is skipped with a sentence where strace is not installed or may not trace.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from functools import cache
from pathlib import Path

import pytest

MISSING = "strace is not installed: apt install strace"
FORBIDDEN = "strace may not trace here: the kernel or the container forbids ptrace"
ENDS_WITHIN = 60.0  # s
WRITING = "pwrite64 pwritev pwritev2 write writev ftruncate truncate fallocate copy_file_range sendfile splice"
SYNCING = "fsync fdatasync sync_file_range msync sync syncfs"
NAMING = "open openat creat rename renameat renameat2 unlink unlinkat link linkat symlink symlinkat"
SPEAKING = "sendto sendmsg sendmmsg recvfrom recvmsg"


@cache
def why_not() -> str:
    """Why nothing can be traced here; "" where it can."""
    program = shutil.which("strace")
    if program is None:
        return MISSING
    tried = subprocess.run([program, "-f", "-o", "/dev/null", "true"], capture_output=True, check=False, timeout=60)
    return "" if tried.returncode == 0 else FORBIDDEN


def needed() -> None:
    """Skip the test where nothing can be traced."""
    if reason := why_not():
        pytest.skip(reason)


def tracing(log: Path, *faults: str) -> list[str]:
    """Before a command: records every call that changes a file or a name, syncs, sends or receives, with its data.

    `faults` as `strace -e inject=` has them. -D: the process is ours and not strace's, so that signals and exit codes are
    its own. --seccomp-bpf: what is not recorded costs nothing; but no signal can be injected then.
    """
    calls = ",".join(f"?{call}" for call in f"{WRITING} {SYNCING} {NAMING} {SPEAKING}".split())
    fast = [] if any("signal=" in fault for fault in faults) else ["--seccomp-bpf"]
    injected = [f"-einject={fault}" for fault in faults]
    return ["strace", "-D", "-f", *fast, "-yy", "-xx", "-s10000000", f"-o{log}", f"-etrace={calls}", *injected]


def wait_for_end(log: Path) -> None:
    """Until the recording of a process that has ended is complete."""
    until = time.monotonic() + ENDS_WITHIN
    last = b""
    while time.monotonic() < until:
        last = log.read_bytes().rpartition(b"\n")[0].rpartition(b"\n")[2] if log.exists() else b""
        if b" +++ " in last:
            return
        time.sleep(0.02)
    raise AssertionError(f"strace did not end: {last[:200]!r}")
