"""Starts a submission's process with as few rights as the system allows: `python -I -S launcher.py JSON`.

The grader runs this file in a session of its own. It uses the standard library alone and imports nothing of the
package. On Linux, as root or with user namespaces, the process gets a file system that holds the Python environment,
read-only, and an empty folder; a list of processes that begins with itself; and no network. Everywhere with `resource`,
limits of time, memory, processes, files and their sizes are set. What was enforced stands in PGM_RNN_ENFORCED.

When the first process of the namespace ends, the kernel kills all others in it, whatever session they moved to.
"""

import ctypes
import json
import os
import signal
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

MOUNTS, PROCESSES, NETWORK, MESSAGES, USERS = 0x00020000, 0x20000000, 0x40000000, 0x08000000, 0x10000000
BIND, RECURSIVE, PRIVATE, READ_ONLY, NO_SUID, NO_DEVICES = 4096, 16384, 1 << 18, 1, 2, 4
MOUNT_SETATTR, HERE, ALL_BELOW = 442, -100, 0x8000
PARENT_DIES, NO_NEW_RIGHTS = 1, 38
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/etc/ssl", "/etc/fonts", "/sys")
SCRATCH = "/scratch"
"""The folder, in memory, in which the process may write."""
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")


class _Attributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "user_namespace")]


def main(job: dict[str, Any]) -> NoReturn:
    """Isolate, then run the command of the job; ends with its exit status."""
    enforced: list[str] = []
    if sys.platform == "linux":
        _control(PARENT_DIES, signal.SIGKILL)
        if _unshare(enforced):
            _as_first_process()
            try:
                _enter(_tree(job), job["work"], enforced)
            except OSError as error:
                _give_up(f"the file system of the submission could not be made: {error}")
    elif hasattr(os, "fork"):
        _wait_for(os.fork())
    _restrict(job, enforced)
    home = SCRATCH if "files" in enforced else job["work"]
    os.chdir(home)
    environment = job["environment"] | {"HOME": home, "TMPDIR": home, "PGM_RNN_ENFORCED": " ".join(enforced)}
    try:
        os.execve(job["command"][0], job["command"], environment)
    except OSError as error:
        _give_up(f"the user of the submission cannot run {job['command'][0]}: {error.strerror}")


def _give_up(message: str) -> NoReturn:
    print(message, file=sys.stderr, flush=True)
    os._exit(71)


def _library() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _control(option: int, value: int) -> None:
    _library().prctl(option, value, 0, 0, 0)


def _unshare(enforced: list[str]) -> bool:
    """Leave the namespaces of the system: all of them, or none if it does not allow it."""
    user, group = os.getuid(), os.getgid()
    try:
        _checked(_library().unshare(MOUNTS | PROCESSES | NETWORK | MESSAGES | (USERS if user else 0)))
    except (OSError, AttributeError):
        return False
    if user:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    enforced += ["processes", "network"]
    return True


def _as_first_process() -> None:
    """Go on as a child of the first process of the new namespace."""
    for _ in range(2):
        if child := os.fork():
            _wait_for(child)
        _control(PARENT_DIES, signal.SIGKILL)


def _wait_for(child: int) -> None:
    if not child:
        return
    while True:  # the first process inherits orphans too
        try:
            ended, status = os.wait()
        except InterruptedError:
            continue
        if ended == child:
            os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _tree(job: dict[str, Any]) -> list[str]:
    """Paths that the process sees: the system's, and those that Python needs, under their names and where they lead."""
    names = [*SYSTEM, *DEVICES, *(path for name in job["visible"] for path in (name, os.path.realpath(name)))]
    return [name for name in dict.fromkeys(names) if os.path.lexists(name)]


def _mount(source: str, target: Path, kind: str, flags: int, options: str = "") -> None:
    texts = (os.fsencode(text) for text in (source, target, kind))
    _checked(_library().mount(*texts, ctypes.c_ulong(flags), os.fsencode(options)))


def _enter(paths: Sequence[str], work: str, enforced: list[str]) -> None:
    """Make a file system of these paths, read-only but for one empty folder, and make it the root."""
    root = Path(work)
    _mount("none", Path("/"), "none", RECURSIVE | PRIVATE)
    _mount("tmpfs", root, "tmpfs", NO_SUID | NO_DEVICES, "mode=755,size=1m")
    for path in sorted(paths, key=len):
        _show(path, root / path.lstrip("/"))
    for name in (SCRATCH.lstrip("/"), "proc"):
        (root / name).mkdir(exist_ok=True)
    if not (root / "tmp").exists():
        (root / "tmp").symlink_to(SCRATCH)
    for hidden in _HIDDEN:
        if (root / hidden.lstrip("/")).is_dir():
            _mount("tmpfs", root / hidden.lstrip("/"), "tmpfs", NO_SUID, "mode=000,size=4k")
    attributes = _Attributes(READ_ONLY)
    number, whole, size = ctypes.c_long(MOUNT_SETATTR), ctypes.c_uint(ALL_BELOW), ctypes.c_size_t(32)
    _checked(_library().syscall(number, HERE, os.fsencode(root), whole, ctypes.byref(attributes), size))
    _mount("tmpfs", root / SCRATCH.lstrip("/"), "tmpfs", NO_SUID | NO_DEVICES, "mode=1777,size=64m")
    with suppress(OSError):  # some containers do not allow it; /proc is then empty
        _mount("proc", root / "proc", "proc", NO_SUID | NO_DEVICES)
    os.chroot(root)
    os.chdir("/")
    enforced.append("files")


_HIDDEN: list[str] = []


def _show(path: str, target: Path) -> None:
    """Make a path of the system visible below the new root, unless a folder that is shown has it already."""
    if os.path.lexists(target):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if os.path.islink(path):
        target.symlink_to(os.readlink(path))
        return
    if os.path.isdir(path):
        target.mkdir()
    else:
        target.touch()
    _mount(path, target, "none", BIND | RECURSIVE)


def _restrict(job: dict[str, Any], enforced: list[str]) -> None:
    """Set the limits, give up the rights of root, and make sure that none come back."""
    try:
        import resource
    except ImportError:  # Windows
        return
    others = 0 if job["user"] or "processes" in enforced else _processes_of(os.getuid())
    for name, value in job["limits"].items():
        limit = getattr(resource, f"RLIMIT_{name}", None)
        if limit is None:
            continue
        wanted = value + (others if name == "NPROC" else 0)
        most = resource.getrlimit(limit)[1]
        wanted = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
        try:
            resource.setrlimit(limit, (wanted, wanted))
            enforced.append(name)
        except (ValueError, OSError):  # macOS refuses RLIMIT_AS
            pass
    if job["user"]:
        os.setgroups([])
        os.setgid(job["user"])
        os.setuid(job["user"])
        enforced.append("user")
    if sys.platform == "linux":
        _control(PARENT_DIES, signal.SIGKILL)
        _control(NO_NEW_RIGHTS, 1)


def _processes_of(user: int) -> int:
    """Number of processes of a user, where the system tells it."""
    return sum(_owner(entry) == user for entry in _listed("/proc"))


def _listed(folder: str) -> Iterable[Path]:
    try:
        return [entry for entry in Path(folder).iterdir() if entry.name.isdecimal()]
    except OSError:
        return []


def _owner(path: Path) -> int:
    try:
        return path.stat().st_uid
    except OSError:
        return -1


if __name__ == "__main__":
    _job = json.loads(sys.argv[1])
    _HIDDEN += _job["hidden"]
    main(_job)
