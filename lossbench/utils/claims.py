"""Claims on work that processes of one or many machines share through a folder, without locks of the operating system.

A claim is a file ``<place>/<number>`` that names its process. Its life:

- **Made** exclusively (``O_CREAT | O_EXCL``), with the next number: the highest number counts, so that of several
  processes that want the claim exactly one gets it. A process that makes a file and then sees a higher one, or the
  same number already over, withdraws.
- **Renewed** every `BEAT` seconds by a thread that sets its modification time, with the clock of the file server.
- **Ended** by renaming it to ``<number>.over``. The next one then makes the next number and deletes all lower ones.
- **Taken over**, in the same way, if its process is dead, which only a process of the same machine can know, at once;
  or if it has not been renewed for `STALE` seconds on the monotonic clock of the process that watches. Clocks of
  different machines are never compared. A look after a gap counts as `BEAT` seconds at most, so that a watcher that
  was itself suspended, or waited for the server, does not take its own absence for another's.
- **Checked** before every `whole_file` of its process is renamed into place, and by `heed_fence`: if the file is gone
  or renamed, `ClaimLost` is raised. A taken-over process that wakes up again ends its work there.

180 seconds are the grace period of an NFS server that restarts (90 s), in which nobody can renew anything, the longest
time for which a client may believe old attributes (60 s), one beat, and some room.

**Guaranteed**: what the old process has not put in place when the new one looks what is finished, it never puts in
place. The new one first ends the old claim, then deletes the old process's half-written files, and only then looks.
The old one writes its half-written file before it checks its claim, and renames it after. So either the check fails,
or the renaming fails, or the file is in place before the new one looks, wherever the old one is stopped and for
however long. Of several that take over at once, one makes the next number.

**Assumed**, as NFS v3 and v4 do by default, and every local file system: exclusive creation and rename are atomic on
the server. Opening a file asks the server for it anew (close-to-open consistency). A client that has changed a folder
(here: made a file in it) drops what it remembers of that folder if others have changed it too; it is done before every
look that matters, because clients also remember for up to 60 s that a file or a folder was not there. With the mount
option ``nocto`` the check may be as old as the attribute cache (60 s at most by default), which a process stopped for
`STALE` seconds has outlived. Working locks (``flock``, NFS's lock manager) are not needed.

**Not guaranteed**: that nothing is ever done twice. A process that did not run for `STALE` seconds loses its claim
though it lives, and what it did since its last whole file is done again. What is appended or deleted without
`whole_file` is only checked just before, not at the same instant. A process that hangs while its threads run keeps its
claim. Processes on Windows do not know each other's death and wait for `STALE` seconds; so does everyone for a process
that was killed between making its file and writing its name, or whose machine was started again. All processes must
be allowed to write each other's files, and nobody may delete the folder of claims while one of them runs.
"""

import errno
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event, Thread

from lossbench.utils.files import fenced
from lossbench.utils.owner import Owner

BEAT = 15.0  # seconds between two renewals of a claim
STALE = 180.0  # seconds without any after which a claim is taken over

_OVER = ".over"
_GONE = (errno.ENOENT, errno.ESTALE)
_LONGEST = 10_000  # bytes of a claim


class ClaimLost(BaseException):
    """This process has lost its claim to another one. A `BaseException`: it is no failure of what was being done."""


@contextmanager
def claimed(place: Path, guarded: Path) -> Iterator[bool]:
    """Hold a claim while the context lasts; yields False at once if another live process holds it.

    Files that `whole_file` writes in the context are renamed into place only while the claim holds.

    Args:
        place: the folder of the claim's files, which is made where it is missing.
        guarded: the folder that the holder writes to; it need not exist.

    Raises:
        ClaimLost: at the end of a `whole_file` and from `heed_fence`, in the context.
        OSError: `place` or `guarded` cannot be written.
    """
    claim = None
    try:
        claim = _make(place, guarded)
        if claim is None:
            yield False
        else:
            with fenced(claim.token, claim.check):
                yield True
    finally:
        if claim is not None:
            claim.end()


@contextmanager
def alone(place: Path, guarded: Path, *, patience: float | None = None) -> Iterator[None]:
    """Wait for a claim and hold it while the context lasts.

    Args:
        place: as for `claimed`.
        guarded: likewise.
        patience: seconds to wait at most; for ever if None.

    Raises:
        TimeoutError: the claim was not free for that long.
        OSError: as `claimed`; or the claim was lost, because this process was stopped for too long.
    """
    begun, pause = time.monotonic(), 0.01
    try:
        while True:
            with claimed(place, guarded) as mine:
                if mine:
                    yield
                    return
            if patience is not None and time.monotonic() - begun > patience:
                raise TimeoutError(errno.ETIMEDOUT, f"another process has kept {place} for {patience:.0f} s")
            time.sleep(pause)
            pause = min(1.5 * pause, 1.0)
    except ClaimLost as lost:
        raise OSError(errno.ESTALE, str(lost)) from None


def is_held(place: Path) -> bool:
    """Return whether there is a claim that did not end, be its process alive or not."""
    return place.is_dir() and not _highest(place)[1]


def end_of_dead(place: Path, owner: Owner) -> None:
    """End the claim of a process that is known to be dead, though nobody here can see it: its machine has failed.

    Should it live after all, it loses the claim as one that was taken over does.

    Raises:
        OSError: `place` cannot be read or written.
    """
    number, over = _highest(place) if place.is_dir() else (0, True)
    if not over and _read(place / str(number))[0] == owner:
        _end(place / str(number))


def silence(place: Path) -> float:
    """Return for how many seconds a claim has not been renewed, by the file server's clock; 0 if nobody holds it.

    It is a hint: a server that was away makes it long. Only watching (`claimed`, again and again) shows more.

    Raises:
        OSError: `place` cannot be written.
    """
    if not is_held(place):
        return 0.0
    number, _ = _highest(place)
    now = place / f".now.{secrets.token_hex(8)}"
    now.touch()
    try:
        with (place / str(number)).open("rb") as file:
            return max(0.0, now.stat().st_mtime - os.fstat(file.fileno()).st_mtime)
    except OSError as error:
        if error.errno not in _GONE:
            raise
        return 0.0  # it has just ended
    finally:
        now.unlink()


class _Claim:
    """A claim of this process, renewed by a thread until it ends."""

    def __init__(self, file: Path, token: str):
        self.file, self.token, self._ended = file, token, Event()

    def start(self) -> None:
        """Renew it from now on."""
        Thread(target=self._renew, name=f"claim {self.file}", daemon=True).start()

    def _renew(self) -> None:
        while not self._ended.wait(BEAT):
            with suppress(OSError):  # a server may be away for a while; whether the claim holds is asked in `check`
                os.utime(self.file)  # without a time: the server's clock

    def check(self) -> None:
        """Raise `ClaimLost` unless this process still holds the claim, or where that cannot be known."""
        try:
            text = self.file.read_text(encoding="utf-8")
        except OSError as error:
            if error.errno not in _GONE:
                raise ClaimLost(f"the claim {self.file} cannot be read ({error.strerror})") from error
            text = ""
        if self.token not in text:
            raise ClaimLost(f"this process did not run for {STALE:.0f} s, and another one took over its work")

    def end(self) -> None:
        """Let others have it."""
        self._ended.set()
        with suppress(OSError):  # the server is away: then it is taken over in time
            _end(self.file)


def _make(place: Path, guarded: Path) -> _Claim | None:
    """Make the next claim if the last is over or abandoned; None if another process holds it or was faster."""
    place.mkdir(parents=True, exist_ok=True)
    last, over = _highest(place)
    if not over and not _abandoned(place / str(last)):
        return None
    file, token = place / str(last + 1), secrets.token_hex(8)
    try:
        descriptor = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except FileExistsError:
        return None
    claim = _Claim(file, token)
    try:
        claim.start()
        with open(descriptor, "w", encoding="utf-8") as opened:  # noqa: PTH123  it has no path
            json.dump({**asdict(Owner.this_process()), "token": token}, opened)
        faster = _highest(place) != (last + 1, False)  # the first look was out of date: another has ended this number
        if not faster:
            _retire(place, last, guarded)
    except BaseException:  # Ctrl-C too: in a notebook the process lives on
        claim.end()
        raise
    if faster:
        claim.end()
        return None
    return claim


def _highest(place: Path) -> tuple[int, bool]:
    """Return the highest number there, 0 if none, and whether that claim is over."""
    return max(((_number(entry), _is_over(entry)) for entry in _claims(place)), default=(0, True))


def _claims(place: Path) -> list[Path]:
    return [entry for entry in place.iterdir() if entry.name.removesuffix(_OVER).isdecimal()]


def _number(entry: Path) -> int:
    return int(entry.name.removesuffix(_OVER))


def _is_over(entry: Path) -> bool:
    return entry.name.endswith(_OVER)


def _retire(place: Path, last: int, guarded: Path) -> None:
    """End all claims up to a number, delete what their processes have half written, and the claims.

    In this order: once a claim is over, its process renames nothing that it has not written by now. And as long as the
    claim is there, it says whose files are to be deleted, should this process be killed.
    """
    for entry in [entry for entry in _claims(place) if _number(entry) <= last and not _is_over(entry)]:
        _end(entry)
    _refresh(guarded)
    for entry in [entry for entry in _claims(place) if _number(entry) <= last]:
        if token := _read(entry)[1]:
            for half in guarded.glob(f".*.{token}*"):
                half.unlink(missing_ok=True)
        entry.unlink(missing_ok=True)


def _end(file: Path) -> None:
    with suppress(FileNotFoundError):  # somebody else has ended it
        file.rename(file.with_name(file.name + _OVER))


def _refresh(folder: Path) -> None:
    """Make this client ask the server for a folder and for what is in it, by changing it.

    A client may also remember that the folder itself was not there; only the server knows whether it can be made.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir()
    except FileExistsError:
        probe = folder / f".look.{secrets.token_hex(8)}"
        with suppress(FileNotFoundError):
            probe.touch()
            probe.unlink()
    else:
        with suppress(OSError):  # a process that has lost its claim may have come between
            folder.rmdir()


def _abandoned(file: Path) -> bool:
    """Return whether a claim's process is dead, or the claim was not renewed for too long."""
    owner, _, renewed = _read(file)
    return (owner is not None and owner.is_dead()) or _unchanged_for(file, renewed) >= STALE


def _read(file: Path) -> tuple[Owner | None, str, tuple[int, ...]]:
    """Return a claim's process and token, which a killed process may not have written, and when it was renewed."""
    try:
        with file.open("rb") as opened:  # opening asks the server anew
            facts, text = os.fstat(opened.fileno()), opened.read(_LONGEST)
    except OSError as error:
        if error.errno not in _GONE:
            raise
        return None, "", ()  # it has just ended
    renewed = (facts.st_ino, facts.st_size, facts.st_mtime_ns)
    try:
        found = json.loads(text)
        token, pid = found.pop("token"), found["pid"]
        if type(pid) is not int or pid < 1 or not token.isalnum():
            raise ValueError(text)
        return Owner(**found), token, renewed
    except (ValueError, TypeError, KeyError, AttributeError):
        return None, "", renewed


@dataclass
class _Watch:
    """What a claim looked like, for how many seconds it has looked so, and when that was seen last."""

    renewed: tuple[int, ...]
    unchanged: float
    looked: float


_watches: dict[Path, _Watch] = {}


def _unchanged_for(file: Path, renewed: tuple[int, ...]) -> float:
    """Return for how many seconds this process has seen a claim unchanged."""
    now, watch = time.monotonic(), _watches.get(file)
    if watch is None or watch.renewed != renewed:
        watch = _watches[file] = _Watch(renewed, 0.0, now)
    watch.unchanged += min(now - watch.looked, BEAT)
    watch.looked = now
    return watch.unchanged
