"""What a process gives up before it reads a document. None of it can be undone, and none of it needs a privilege."""

import contextlib
import ctypes
import os
import resource
import signal
import sysconfig
from pathlib import Path

from functions.ingestion.reading.limits import MEBIBYTE, Limits

OPEN_FILES = 64
JSON_BYTES_A_CHARACTER = 8
"""What a character of text takes at most in the answer: six for an escape, and a share of page offsets."""

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NO_NEW_PRIVS = 38

# Landlock (kernel: include/uapi/linux/landlock.h); the numbers of system calls are the same on every architecture.
SYS_LANDLOCK_CREATE_RULESET = 444
SYS_LANDLOCK_ADD_RULE = 445
SYS_LANDLOCK_RESTRICT_SELF = 446
LANDLOCK_CREATE_RULESET_VERSION = 1
LANDLOCK_RULE_PATH_BENEATH = 1
READ_FILE = 1 << 2
READ_DIR = 1 << 3
FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16}
"""How many rights over files a version of Landlock knows, from the version on."""
TCP_RIGHTS = 0b11
TCP_SINCE = 4
SCOPES = 0b11
"""Abstract sockets, and signals to processes outside."""
SCOPES_SINCE = 6


class RulesetAttr(ctypes.Structure):
    """struct landlock_ruleset_attr."""

    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class PathBeneathAttr(ctypes.Structure):
    """struct landlock_path_beneath_attr."""

    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


_libc = ctypes.CDLL(None, use_errno=True)


def die_with(parent: int) -> None:
    """Have the kernel end this process when its parent, whose id is given, ends."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def confine(limits: Limits) -> None:
    """Bound memory, processor time and files; give up opening files, network, signals to others and new programs."""
    # Where memory runs out all the same, the kernel ends this process and not the server.
    with contextlib.suppress(OSError), Path("/proc/self/oom_score_adj").open("w", encoding="ascii") as score:
        score.write("1000")
    processors = os.cpu_count() or 1
    bounds = {
        resource.RLIMIT_AS: limits.memory_bytes,
        # Only a backstop: whoever watches this process ends it after limits.seconds.
        resource.RLIMIT_CPU: int(limits.seconds * processors) + 5,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: JSON_BYTES_A_CHARACTER * limits.characters + MEBIBYTE,
        resource.RLIMIT_NOFILE: OPEN_FILES,
    }
    for kind, bound in bounds.items():
        _, ceiling = resource.getrlimit(kind)
        least = bound if ceiling == resource.RLIM_INFINITY else min(bound, ceiling)
        resource.setrlimit(kind, (least, least))
    _prctl(PR_SET_DUMPABLE, 0)
    _prctl(PR_SET_NO_NEW_PRIVS, 1)
    _shut_in()


def landlock_version() -> int:
    """Return the kernel's version of Landlock, 0 where it has none."""
    return max(0, int(_libc.syscall(SYS_LANDLOCK_CREATE_RULESET, None, 0, LANDLOCK_CREATE_RULESET_VERSION)))


def _shut_in() -> None:
    """Deny every file but Python's own library, TCP, and signals to others, as far as the kernel knows how to."""
    version = landlock_version()
    if not version:
        return
    rights = max(count for since, count in FILE_RIGHTS.items() if version >= since)
    attr = RulesetAttr(
        handled_access_fs=(1 << rights) - 1,
        handled_access_net=TCP_RIGHTS if version >= TCP_SINCE else 0,
        scoped=SCOPES if version >= SCOPES_SINCE else 0,
    )
    ruleset = _checked(_libc.syscall(SYS_LANDLOCK_CREATE_RULESET, ctypes.byref(attr), _size(version), 0))
    # Codecs are modules that Python loads when a document first names them.
    library = os.open(sysconfig.get_path("stdlib"), os.O_PATH | os.O_CLOEXEC)
    rule = PathBeneathAttr(READ_FILE | READ_DIR, library)
    _checked(_libc.syscall(SYS_LANDLOCK_ADD_RULE, ruleset, LANDLOCK_RULE_PATH_BENEATH, ctypes.byref(rule), 0))
    _checked(_libc.syscall(SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0))
    os.close(library)
    os.close(ruleset)


def _size(version: int) -> int:
    """Return how much of RulesetAttr a version knows, in bytes."""
    if version >= SCOPES_SINCE:
        return 24
    return 16 if version >= TCP_SINCE else 8


def _prctl(option: int, value: int) -> None:
    _checked(_libc.prctl(option, value, 0, 0, 0))


def _checked(result: int) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result
