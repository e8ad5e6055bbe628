"""A fault-injecting file layer: a forked process whose every change to one folder stops at the kernel's door and asks.

The child installs a seccomp filter that hands each file-changing system call to its parent (seccomp user notification,
Linux 5.9 or newer; no privileges needed). So it makes no difference who calls: Python, Rust below safetensors and
tokenizers, or C++ below `torch.save`; and a fault looks to the program exactly as it would if the kernel gave it.

A *boundary* is one such call within the folder, by the child or by a process that it started, in their order: open for
writing or creating, write, truncate, fsync, rename, unlink, mkdir, rmdir, chmod, link. At one of them the layer can

    kill    SIGKILL the calling process before the call
    torn    let half of a write through, then SIGKILL
    power   SIGKILL every process, and empty each file whose last bytes were not yet synced: what a power cut may leave
    term    send SIGTERM to the child, int SIGINT
    full    fail with ENOSPC, this call and every later one that needs space: a full file system
    io      fail this call with EIO
    denied  fail with EROFS, this call and every later change: a file system that turned read-only
    short   let only half of a write through and say so, which is no error
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import select
import signal
import socket
import struct
import sys
import time
import traceback
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

_WRITES = ("write", "pwrite64", "writev", "pwritev", "pwritev2")
# Where a call's paths stand among its arguments: "f0" a descriptor, "p1" a path, "a0p1" a path relative to a folder's.
_ARGUMENTS = {
    "open": ("p0",), "creat": ("p0",), "openat": ("a0p1",), "openat2": ("a0p1",),
    "write": ("f0",), "pwrite64": ("f0",), "writev": ("f0",), "pwritev": ("f0",), "pwritev2": ("f0",),
    "sendfile": ("f0",), "copy_file_range": ("f2",),
    "fsync": ("f0",), "fdatasync": ("f0",), "sync_file_range": ("f0",),
    "ftruncate": ("f0",), "truncate": ("p0",), "fallocate": ("f0",),
    "rename": ("p0", "p1"), "renameat": ("a0p1", "a2p3"), "renameat2": ("a0p1", "a2p3"),
    "link": ("p0", "p1"), "linkat": ("a0p1", "a2p3"), "symlink": ("p1",), "symlinkat": ("a1p2",),
    "unlink": ("p0",), "unlinkat": ("a0p1",), "rmdir": ("p0",), "mkdir": ("p0",), "mkdirat": ("a0p1",),
    "chmod": ("p0",), "fchmod": ("f0",), "fchmodat": ("a0p1",),
}  # fmt: skip
_NUMBERS = {
    "x86_64": {
        "write": 1, "open": 2, "pwrite64": 18, "writev": 20, "sendfile": 40, "fsync": 74, "fdatasync": 75,
        "truncate": 76, "ftruncate": 77, "rename": 82, "mkdir": 83, "rmdir": 84, "creat": 85, "link": 86, "unlink": 87,
        "symlink": 88, "chmod": 90, "fchmod": 91, "openat": 257, "mkdirat": 258, "unlinkat": 263, "renameat": 264,
        "linkat": 265, "symlinkat": 266, "fchmodat": 268, "sync_file_range": 277, "fallocate": 285, "pwritev": 296,
        "renameat2": 316, "copy_file_range": 326, "pwritev2": 328, "openat2": 437,
    },
    "aarch64": {
        "mkdirat": 34, "unlinkat": 35, "symlinkat": 36, "linkat": 37, "renameat": 38, "truncate": 45, "ftruncate": 46,
        "fallocate": 47, "fchmod": 52, "fchmodat": 53, "openat": 56, "write": 64, "writev": 66, "pwrite64": 68,
        "pwritev": 70, "sendfile": 71, "fsync": 82, "fdatasync": 83, "sync_file_range": 84, "renameat2": 276,
        "copy_file_range": 285, "pwritev2": 287, "openat2": 437,
    },
}  # fmt: skip
_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_PIDFD_GETFD = 438
_RECEIVE, _SEND, _STILL_ASKED = 0xC0502100, 0xC0182101, 0x40082102
_NEW_LISTENER, _WAIT_KILLABLE = 8, 32
_NOTICE = struct.Struct("=QIIiIQ6Q")
_ANSWER = struct.Struct("=QqiI")
_CONTINUE = 1
_GROWS = {*_WRITES, "sendfile", "copy_file_range", "fsync", "fdatasync", "ftruncate", "truncate", "fallocate"}
_GROWS |= {"rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat", "mkdir", "mkdirat"}
_SYNCS = ("fsync", "fdatasync")
_REMOVES = ("unlink", "unlinkat", "rmdir")
_libc = ctypes.CDLL(None, use_errno=True)


def why_not() -> str | None:
    """Why this machine cannot run the layer; None where it can."""
    if platform.system() != "Linux" or platform.machine() not in _NUMBERS:
        return f"seccomp user notification is Linux's, on x86_64 or aarch64; this is {platform.platform()}"
    try:
        allowed = Path("/proc/sys/kernel/seccomp/actions_avail").read_text(encoding="utf-8").split()
    except OSError as error:
        return f"this kernel does not say which seccomp actions it has ({error})"
    return None if "user_notif" in allowed else "this kernel has no seccomp user notification"


@dataclass(frozen=True)
class Boundary:
    """One call: its name and its paths, relative to the folder."""

    call: str
    paths: tuple[str, ...]
    size: int = 0
    creates: bool = False

    def faults(self) -> tuple[str, ...]:
        """Those that this call can meet."""
        kinds = ["kill", "power", "term", "int"]
        if self.call in _WRITES and self.size > 1:
            kinds += ["torn", "short"]
        if self.call in _GROWS or self.creates:
            kinds.append("full")
        if self.call not in ("chmod", "fchmod", "fchmodat"):
            kinds += ["io", "denied"] if self.call not in (*_SYNCS, "sync_file_range") else ["io"]
        return tuple(kinds)


@dataclass(frozen=True)
class Fault:
    """What shall happen at the boundary of that number, or at the first behind it that can meet it."""

    kind: str
    at: int


@dataclass
class Outcome:
    """How the child ended. `code` is its exit code, or minus the signal that ended it; None if it hung."""

    code: int | None
    out: str
    err: str
    seconds: float
    """From the fault (or the start) to the end."""
    boundaries: list[Boundary] = field(default_factory=list)
    struck: Boundary | None = None
    by_child: bool = True
    """Whether the struck call was the child's own, not one of a process that it started."""
    left_behind: bool = False
    """Whether a process that the child had started outlived it until it was killed."""

    @property
    def error_lines(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("error: ")]


def run(
    work: Callable[[], int],
    folder: Path,
    scratch: Path,
    *,
    fault: Fault | None = None,
    watched: bool = True,
    limit: float = 60.0,
) -> Outcome:
    """Do `work` in a forked child and return how it ended.

    Args:
        folder: whose changes are boundaries; a real path, without symbolic links.
        scratch: a folder outside it, for what the child prints.
        fault: what happens at which boundary; None only watches.
        watched: False runs without the layer, for work that shall just be done.
        limit: seconds after the fault, and as many before it, after which everything is killed.
    """
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        _child(work, theirs if watched else None, scratch)
    theirs.close()
    supervisor = _Supervisor(pid, folder, fault, limit)
    try:
        listener = socket.recv_fds(ours, 1, 1)[1] if watched else []
        ours.close()
        code = supervisor.serve(listener[0] if listener else None)
    finally:
        supervisor.clear()
    return Outcome(
        code,
        (scratch / "out").read_text(encoding="utf-8", errors="replace"),
        (scratch / "err").read_text(encoding="utf-8", errors="replace"),
        supervisor.seconds,
        supervisor.boundaries,
        supervisor.struck,
        supervisor.by_child,
        supervisor.left_behind,
    )


def _child(work: Callable[[], int], door: socket.socket | None, scratch: Path) -> None:
    code = 97
    try:
        _libc.prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG: it does not outlive the supervisor
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for name, number in (("out", 1), ("err", 2)):
            descriptor = os.open(scratch / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(descriptor, number)
            os.close(descriptor)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))
        if door is not None:
            listener = _install()
            socket.send_fds(door, [b"x"], [listener])
            os.close(listener)
            door.close()
        code = work()
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                code = code or 98
        os._exit(code)


def _install() -> int:
    """Put the filter on this process; the descriptor on which its notices come."""
    numbers = _NUMBERS[platform.machine()]
    load, equal, mask, leave = 0x20, 0x15, 0x45, 0x06
    notify, allow = 0x7FC00000, 0x7FFF0000
    program: list[tuple[int, int, int, int]] = [(load, 0, 0, 4), (equal, 1, 0, _AUDIT[platform.machine()])]
    program += [(leave, 0, 0, allow), (load, 0, 0, 0)]
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
    for name, number in numbers.items():
        if name in ("open", "openat"):  # only those that may change something
            flags = 16 + 8 * (1 if name == "open" else 2)
            program += [(equal, 0, 4, number), (load, 0, 0, flags), (mask, 0, 1, writing)]
            program += [(leave, 0, 0, notify), (leave, 0, 0, allow)]
        else:
            program += [(equal, 0, 1, number), (leave, 0, 0, notify)]
    program.append((leave, 0, 0, allow))
    code = b"".join(struct.pack("=HBBI", *line) for line in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    filter_ = struct.pack("@HP", len(program), ctypes.addressof(buffer))
    if _libc.prctl(38, 1, 0, 0, 0) != 0:  # PR_SET_NO_NEW_PRIVS
        raise OSError(ctypes.get_errno(), "prctl")
    # Linux 5.19 and newer: a signal waits for the answer, instead of breaking the call off to have it asked again.
    for flags in (_NEW_LISTENER | _WAIT_KILLABLE, _NEW_LISTENER):
        listener = _libc.syscall(_SECCOMP[platform.machine()], 1, flags, filter_)  # SECCOMP_SET_MODE_FILTER
        if listener >= 0:
            break
    if listener < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    return int(listener)


class _Supervisor:
    def __init__(self, pid: int, folder: Path, fault: Fault | None, limit: float) -> None:
        self._pid = pid
        self._folder = str(folder)
        self._fault = fault
        self._limit = limit
        self._names = {number: name for name, number in _NUMBERS[platform.machine()].items()}
        self._start = time.monotonic()
        self._seen = {pid}
        self._unsynced: set[tuple[int, int]] = set()
        self._sticky: int | None = None
        self._cut = False
        self.boundaries: list[Boundary] = []
        self.struck: Boundary | None = None
        self.by_child = True
        self.left_behind = False
        self.seconds = 0.0

    def serve(self, listener: int | None) -> int | None:
        """Answer until the child and all its own have ended; the child's code."""
        ending = os.pidfd_open(self._pid)
        watch = select.poll()
        watch.register(ending, select.POLLIN)
        if listener is not None:
            watch.register(listener, select.POLLIN)
        code: int | None = None
        ended = False
        try:
            while not (ended and listener is None):
                left = self._start + self._limit - time.monotonic()
                events = watch.poll(max(left, 0) * 1000) if left > 0 else []
                if not events:
                    self.left_behind = ended
                    break
                for descriptor, event in events:
                    if descriptor == ending:
                        _, status = os.waitpid(self._pid, 0)
                        code = os.waitstatus_to_exitcode(status)
                        self.seconds = time.monotonic() - self._start
                        ended = True
                        self._start, self._limit = time.monotonic(), min(self._limit, 15.0)
                        watch.unregister(ending)
                    elif event & select.POLLIN:
                        assert listener is not None
                        self._answer(listener)
                    else:  # nobody is left behind the filter
                        assert listener is not None
                        watch.unregister(listener)
                        os.close(listener)
                        listener = None
            if not ended:
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)
                self.seconds = time.monotonic() - self._start
        finally:
            os.close(ending)
            if listener is not None:
                os.close(listener)
        if self._cut:
            self._empty_unsynced()
        return code

    def clear(self) -> None:
        """Nobody that this child started is left."""
        for pid in self._seen - {self._pid}:
            if self._ours(pid):
                os.kill(pid, signal.SIGKILL)

    def _ours(self, pid: int) -> bool:
        """Whether that number is still a process behind a filter of ours: numbers are used again."""
        try:
            status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        except OSError:
            return False
        return "\nSeccomp:\t2" in status and "\nNoNewPrivs:\t1" in status

    def _answer(self, listener: int) -> None:
        buffer = bytearray(_NOTICE.size)
        try:
            fcntl.ioctl(listener, _RECEIVE, buffer, True)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR):  # who asked was ended or interrupted meanwhile
                return
            raise
        identity, thread, _, number, _, _, *arguments = _NOTICE.unpack(buffer)
        value, error = 0, 0
        flags = _CONTINUE
        before = len(self.boundaries)
        try:
            boundary = self._boundary(thread, self._names[number], arguments)
            if boundary is not None:
                value, error, flags = self._at(boundary, thread, arguments)
        except (OSError, ValueError):
            if self._still_asked(listener, identity):
                raise
        try:
            fcntl.ioctl(listener, _SEND, bytearray(_ANSWER.pack(identity, value, -error, flags)), True)
        except OSError as gone:
            if gone.errno not in (errno.ENOENT, errno.EINPROGRESS):
                raise
            if self.struck is None:  # broken off by a signal: it will be asked again, and is one boundary
                del self.boundaries[before:]

    def _still_asked(self, listener: int, identity: int) -> bool:
        """Whether who asked still waits: it may have been killed meanwhile."""
        try:
            fcntl.ioctl(listener, _STILL_ASKED, struct.pack("=Q", identity))
        except OSError:
            return False
        return True

    # What a call is about ---------------------------------------------------------------------------------------------

    def _boundary(self, thread: int, call: str, arguments: list[int]) -> Boundary | None:
        paths = [self._path(thread, where, arguments) for where in _ARGUMENTS[call]]
        inside = [path for path in paths if path == self._folder or path.startswith(self._folder + "/")]
        if not inside or (call in ("mkdir", "mkdirat") and os.path.exists(paths[0])):  # which changes nothing
            return None
        creates, size = False, 0
        if call in ("open", "openat", "openat2", "creat"):
            flags = arguments[1 if call == "open" else 2] if call != "creat" else os.O_CREAT
            creates = bool(flags & os.O_CREAT) and not os.path.exists(paths[0])
            if not creates and not flags & (os.O_TRUNC | os.O_WRONLY | os.O_RDWR):
                return None
        elif call in ("write", "pwrite64", "sendfile"):
            size = arguments[2] if call != "sendfile" else arguments[3]
        elif call in ("writev", "pwritev", "pwritev2"):
            size = sum(length for _, length in self._pieces(thread, arguments))
        process = self._process(thread)
        self._seen.add(process)
        self._follow(call, paths, thread, arguments)
        relative = tuple(os.path.relpath(path, self._folder) for path in paths)
        return Boundary(call, relative, size, creates)

    def _path(self, thread: int, where: str, arguments: list[int]) -> str:
        if where[0] == "f":
            return os.readlink(f"/proc/{thread}/fd/{arguments[int(where[1])]}").removesuffix(" (deleted)")
        if where[0] == "p":
            start, place = f"/proc/{thread}/cwd", int(where[1])
        else:
            descriptor = ctypes.c_int(arguments[int(where[1])]).value
            start = f"/proc/{thread}/cwd" if descriptor == -100 else f"/proc/{thread}/fd/{descriptor}"
            place = int(where[3])
        text = self._text(thread, arguments[place])
        path = text if text.startswith("/") else f"{os.readlink(start)}/{text}"
        return os.path.normpath(path)

    def _text(self, thread: int, address: int) -> str:
        with open(f"/proc/{thread}/mem", "rb", buffering=0) as memory:
            memory.seek(address)
            found = b""
            while b"\0" not in found and len(found) < 4096:
                found += memory.read(min(256, 4096 - (address + len(found)) % 4096))
        return os.fsdecode(found.partition(b"\0")[0])

    def _bytes(self, thread: int, address: int, size: int) -> bytes:
        with open(f"/proc/{thread}/mem", "rb", buffering=0) as memory:
            memory.seek(address)
            return memory.read(size)

    def _pieces(self, thread: int, arguments: list[int]) -> list[tuple[int, int]]:
        count = arguments[2]
        return list(struct.iter_unpack("=QQ", self._bytes(thread, arguments[1], 16 * count)))

    def _process(self, thread: int) -> int:
        for line in Path(f"/proc/{thread}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("Tgid:"):
                return int(line.split()[1])
        raise ValueError(thread)

    def _follow(self, call: str, paths: list[str], thread: int, arguments: list[int]) -> None:
        """Keep in mind which files' last bytes would not outlive a power cut."""
        if call in _WRITES or call in ("ftruncate", "fallocate", "sendfile", "copy_file_range", *_SYNCS):
            status = os.stat(f"/proc/{thread}/fd/{arguments[2 if call == 'copy_file_range' else 0]}")
            mine = (status.st_dev, status.st_ino)
            if call in _SYNCS:
                self._unsynced.discard(mine)
            else:
                self._unsynced.add(mine)
        elif call in ("unlink", "unlinkat") and os.path.isfile(paths[0]):
            # The number may be given to another file.
            status = os.stat(paths[0], follow_symlinks=False)
            self._unsynced.discard((status.st_dev, status.st_ino))

    # What happens to it -----------------------------------------------------------------------------------------------

    def _at(self, boundary: Boundary, thread: int, arguments: list[int]) -> tuple[int, int, int]:
        if self._cut:  # there is no power for this one either
            os.kill(self._process(thread), signal.SIGKILL)
            return 0, 0, _CONTINUE
        number = len(self.boundaries)
        self.boundaries.append(boundary)
        if self._sticky is not None and self._fails_too(boundary):
            return 0, self._sticky, 0
        fault = self._fault
        if fault is None or self.struck or number < fault.at or fault.kind not in boundary.faults():
            return 0, 0, _CONTINUE
        self.struck = boundary
        process = self._process(thread)
        self.by_child = process == self._pid
        self._start = time.monotonic()
        kind = fault.kind
        if kind in ("kill", "torn", "power"):
            if kind == "torn":
                self._half(process, boundary, thread, arguments)
            self._cut = kind == "power"
            for one in [process] if kind != "power" else [self._pid, *self._seen]:
                if one in (process, self._pid) or self._ours(one):
                    os.kill(one, signal.SIGKILL)
            return 0, 0, _CONTINUE
        if kind in ("term", "int"):
            os.kill(self._pid, signal.SIGTERM if kind == "term" else signal.SIGINT)
            return 0, 0, _CONTINUE
        if kind == "short":
            return self._half(process, boundary, thread, arguments), 0, 0
        if kind == "io":
            return 0, errno.EIO, 0
        if kind == "full":
            self._sticky = errno.ENOSPC
        elif kind == "denied":
            self._sticky = errno.EROFS
        else:
            raise ValueError(kind)
        return 0, self._sticky, 0

    def _fails_too(self, boundary: Boundary) -> bool:
        if self._sticky == errno.ENOSPC:
            return boundary.creates or boundary.call in _GROWS
        return boundary.call not in _SYNCS

    def _half(self, process: int, boundary: Boundary, thread: int, arguments: list[int]) -> int:
        """Do half of the write in the caller's place: how many bytes."""
        if boundary.call in ("write", "pwrite64"):
            data = self._bytes(thread, arguments[1], boundary.size // 2)
        else:
            data = b"".join(self._bytes(thread, *piece) for piece in self._pieces(thread, arguments))
            data = data[: boundary.size // 2]
        whose = os.pidfd_open(process)
        try:
            twin = _libc.syscall(_PIDFD_GETFD, whose, ctypes.c_int(arguments[0]), 0)  # it shares the place in the file
        finally:
            os.close(whose)
        if twin < 0:
            raise OSError(ctypes.get_errno(), "pidfd_getfd")
        try:
            if boundary.call in ("write", "writev"):
                return os.write(twin, data)
            return os.pwrite(twin, data, arguments[3])
        finally:
            os.close(twin)

    def _empty_unsynced(self) -> None:
        for root, _, names in os.walk(self._folder):
            for name in names:
                path = os.path.join(root, name)
                status = os.stat(path, follow_symlinks=False)
                if (status.st_dev, status.st_ino) in self._unsynced:
                    os.truncate(path, 0)


def shown(boundaries: Collection[Boundary]) -> str:
    """One line a boundary, for people."""
    return "\n".join(f"{number}: {b.call} {' -> '.join(b.paths)} {b.size or ''}" for number, b in enumerate(boundaries))
