"""Commands that are killed, and disks that are full: nothing that was there is lost.

    python benchmarks/faults.py kills       30 kills and 4 more of `correct`: 15 minutes on 2 cores
    python benchmarks/faults.py disk        20 full disks: 10 minutes

Kills: each command is run unbroken once. Then it is begun again and again, into an empty folder or
over older files, and killed (SIGKILL) at a random moment of its work, or right after one of its
files has appeared. Every visible file must be the old or the new one, whole; and the command, run
again with `--resume`, must end with the pixels, weights and scores of the unbroken run.

Disk: a file system in memory is filled but for a random part of what the command needs. It must
end with status 1 and one line that says so, all older files must be there byte for byte, nothing
new may be visible, and when there is space the command must end as if nothing had been.

The file system is a `tmpfs` that is mounted for it; where that is not allowed, in a namespace of
users that `unshare` makes. Linux only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import numpy as np

import fiji_poreseg as fp

KILLS = {"segment": 8, "train-resunet": 8, "study": 7, "auto": 7, "correct": 4}
DISKS = 20
MOST_BYTES = 256 * 2**20
PAGE = 4096
LABELLED = (5, 17, 29, 41)
NO_SPACE = "No space left on device"
# Loaded first, so that moments are counted from where the work begins; several checkpoints.
PROGRAM = """
import sys, fiji_poreseg.cli
if {needs_tensorflow}:
    import fiji_poreseg.resunet.training
    fiji_poreseg.resunet.training.STEPS_PER_CHECK = 5
sys.stdout.write("begun\\n")
sys.stdout.flush()
fiji_poreseg.cli.run()
"""

Contents = Mapping[str, str]
# Words of a command line, by the folder of the inputs, that of the outputs, and which of two runs
# it is: the one that left the older files, or the one that replaces them.
Line = Callable[[Path, Path, bool], str]


class Job(NamedTuple):
    """A command to be disturbed.

    `kept` are visible files that may be there after a disturbance, `absent` those that may not,
    and `live` those that are replaced while it is at work.
    """

    line: Line
    resumes: bool = False
    needs_tensorflow: bool = False
    kept: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    live: tuple[str, ...] = ()


def pick(older: bool, one: object, other: object) -> object:
    """The one for the older files, the other for those that replace them."""
    return one if older else other


JOBS: dict[str, Job] = {
    "phantom": Job(lambda _, to, old: f"phantom {to} --slices 30 --size 64 --seed {int(old)}"),
    "train-forest": Job(
        lambda given, to, old: (
            f"train-forest {given}/stack.tif {given}/labels.tif --trees 20 --seed {int(old)} "
            f"--model {to}/f.poreseg --importances {to}/i.csv"
        )
    ),
    "train-resunet": Job(
        lambda given, to, old: (
            f"train-resunet {given}/stack.tif {given}/truth.tif --indices 0,20,40 --steps 30 "
            f"--network small --seed {int(old)} --model {to}/m.poreseg --curve {to}/c.png"
        ),
        resumes=True,
        needs_tensorflow=True,
        kept=("m.checkpoint.npz",),
        live=("c.png", "c.csv"),
    ),
    "segment": Job(
        lambda given, to, old: (
            f"segment {given}/wide.tif --model {given}/{pick(old, 'one', 'other')}.poreseg "
            f"--output {to}/s.tif --probability {to}/p.tif --uncertainty {to}/u.tif"
        ),
        resumes=True,
    ),
    "correct": Job(
        lambda given, to, old: (
            f"correct {given}/{pick(old, 'one', 'first')}.tif "
            f"{given}/{pick(old, 'hand', 'hands')}.tif --checked 3 --output {to}/s.tif "
            f"--hand {to}/hand.tif --history {to}/h.npz --json {to}/c.json"
        )
    ),
    "evaluate": Job(
        lambda given, to, old: (
            f"evaluate {given}/{pick(old, 'one', 'other')}.tif {given}/truth.tif --json {to}/e.json"
        )
    ),
    "measure": Job(
        lambda given, to, old: f"measure {given}/{pick(old, 'one', 'other')}.tif --json {to}/m.json"
    ),
    "suggest": Job(
        lambda given, to, old: (
            f"suggest {given}/stack.tif --model {given}/{pick(old, 'one', 'other')}.poreseg "
            f"--json {to}/s.json --rois {to}/s.zip"
        )
    ),
    "save-labels": Job(
        lambda given, to, old: (
            f"save-labels {given}/stack.tif {given}/{pick(old, 'hand', 'labels')}.tif "
            f"--output {to}/l.zip"
        )
    ),
    "study": Job(
        lambda given, to, old: (
            f"study {given}/stack.tif {given}/truth.tif --counts 3 --repeats 1 --strategies "
            f"distributed --network small --steps 20 --trees 10 --seed {int(old)} --output {to}"
        ),
        resumes=True,
        needs_tensorflow=True,
        kept=("trials/*",),
        absent=("trials/*",),
    ),
    "auto": Job(
        lambda given, to, old: (
            f"auto {given}/stack.tif {given}/labels.tif --count 4 --steps 20 --trees 20 "
            f"--seed {int(old)} --anyway --output {to}"
        ),
        resumes=True,
        needs_tensorflow=True,
        absent=("report.json",),
    ),
}


class Ended(NamedTuple):
    """How a process ended, and how long it was at work."""

    status: int
    said: str
    seconds: float
    changes: int


def main() -> int:
    """Disturb what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("kills", "disk"))
    parser.add_argument("--only", help="one command, such as segment")
    parser.add_argument("--count", type=int, default=DISKS, help=f"full disks; {DISKS}")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments; 0")
    given = parser.parse_args()
    # So that the small disk is unmounted then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        inputs = Path(folder, "inputs")
        prepare(inputs)
        rng = random.Random(given.seed)
        if given.what == "kills":
            return kills(inputs, Path(folder), rng, given.only)
        return disks(
            inputs, Path(folder), rng, [given.only] if given.only else [*JOBS], given.count
        )


def prepare(folder: Path) -> None:
    """Make what the commands take."""
    folder.mkdir()
    small = {"feature_size_nm": 150, "attenuation_nm": 150}
    fp.write(folder / "wide.tif", fp.phantom(slices=60, size=160, **small).stack)
    made = fp.phantom(folder, slices=48, size=64, **small)
    truth = made.truth.to_numpy()
    rng = np.random.default_rng(0)
    values = np.where(rng.random(truth.shape) < np.where(truth == 2, 0.2, 0.05), truth, 0)
    values[[z for z in range(len(truth)) if z not in LABELLED]] = 0
    fp.write(folder / "labels.tif", fp.make_labels(values.astype(np.uint8), made.stack))
    for name, seed in {"hand": 1, "hands": 2}.items():
        painted = np.zeros_like(truth)
        for index in random.Random(seed).sample(range(len(truth)), 8):
            painted[index, 20:50, 10:60] = truth[index, 20:50, 10:60]
        fp.write(folder / f"{name}.tif", fp.make_labels(painted, made.stack))
    for name, trees in {"one": 20, "other": 60}.items():
        model = fp.train_forest(made.stack, made.truth, indices=(0, 40), folds=0, trees=trees)
        model.save(folder / f"{name}.poreseg")
        fp.segment(made.stack, model=model, output=folder / f"{name}.tif")
    # What the older correction left is what the later one corrects.
    fp.correct(folder / "one.tif", folder / "hand.tif", checked=(3,), output=folder / "first.tif")


def words(job: Job, inputs: Path, folder: Path, *, old: bool = False, resume: bool) -> list[str]:
    """What to run."""
    more = ["--resume"] if resume and job.resumes else []
    program = PROGRAM.format(needs_tensorflow=job.needs_tensorflow)
    return [sys.executable, "-c", program, *job.line(inputs, folder, old).split(), *more]


def run(
    command: Sequence[str],
    folder: Path,
    until: Callable[[float, int], bool] = lambda *_: False,
) -> Ended:
    """Run a command, and kill it as soon as `until` says so of its seconds and its changes."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said)
        assert process.stdout is not None
        begun = process.stdout.readline()
        since, changes, before = time.monotonic(), 0, files_in(folder)
        os.set_blocking(process.stdout.fileno(), False)
        while process.poll() is None:
            process.stdout.read()
            now = files_in(folder)
            changes += now != before
            before = now
            if until(time.monotonic() - since, changes):
                process.send_signal(signal.SIGKILL)
                process.wait()
            time.sleep(0.0005)
        said.seek(0)
        text = said.read().decode()
    if not begun:
        raise RuntimeError(f"the program did not begin: {text}")
    return Ended(process.returncode, text, time.monotonic() - since, changes)


def files_in(folder: Path) -> frozenset[tuple[str, int]]:
    """All files of a folder, hidden ones, too, each with the number that it has on the disk."""
    found = []
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                found.append((f"{place}/{name}", os.stat(f"{place}/{name}").st_ino))
            except FileNotFoundError:
                continue
    return frozenset(found)


def contents(folder: Path, *, exact: bool = False) -> dict[str, str]:
    """Digests of the visible files of a folder, by their names.

    Unless `exact`, of what they hold but for times and for how they were called.
    """
    found = {}
    for path in visible(folder):
        data = path.read_bytes()
        kept = data if exact else told(path, data)
        found[str(path.relative_to(folder))] = hashlib.sha256(kept).hexdigest()
    return found


def visible(folder: Path) -> list[Path]:
    """The files of a folder that are not hidden."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]


def told(path: Path, data: bytes) -> bytes:
    """What a file holds, without what differs from run to run."""
    if path.name == "run.json":
        bundle = json.loads(data)
        for trial in bundle["trials"]:
            del trial["seconds"]
        del bundle["command_line"], bundle["macro_line"]
        return json.dumps(bundle).encode()
    if path.name == "report.html":
        return re.sub(rb"<pre>.*?</pre>", b"", data, flags=re.DOTALL)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return repr([(name, archive.read(name)) for name in archive.namelist()]).encode()
    if path.name == "h.npz":
        with np.load(path) as arrays:
            held = {name: arrays[name].tobytes() for name in arrays}
        described = json.loads(held.pop("audit"))
        for entry in described["entries"]:
            del entry["made"], entry["is_whole"]
        return repr((sorted(held.items()), described)).encode()
    return data


def hidden(folder: Path) -> list[str]:
    """Hidden files and folders."""
    return sorted(path.name for path in folder.rglob(".*"))


class Reference(NamedTuple):
    """A command undisturbed: the older files, what it leaves, and what it took."""

    older: Path
    whole: Contents
    ended: Ended


def unbroken(
    job: Job, inputs: Path, folder: Path, work: Path, look: Callable[..., bool] = lambda *_: False
) -> Reference:
    """Run a command over older files that the same one left; `look` is called meanwhile."""
    clear(folder)
    assert_done(run(words(job, inputs, folder, old=True, resume=False), folder))
    older = work / "older"
    shutil.rmtree(older, ignore_errors=True)
    shutil.copytree(folder, older)
    ended = run(words(job, inputs, folder, resume=False), folder, look)
    assert_done(ended)
    return Reference(older, contents(folder), ended)


def assert_done(ended: Ended) -> None:
    """Go no further where an undisturbed command failed."""
    if ended.status != 0:
        raise RuntimeError(ended.said)


def clear(folder: Path, older: Path | None = None) -> None:
    """Empty a folder, or leave in it what is in another one."""
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if older is not None:
        shutil.copytree(older, folder, dirs_exist_ok=True)


def finish(job: Job, inputs: Path, folder: Path) -> tuple[Ended, bool]:
    """Run a command again after it was disturbed; whether it had to be begun anew."""
    ended = run(words(job, inputs, folder, resume=True), folder)
    # Where it was stopped before it wrote anything down, the older files are another run's.
    if ended.status == 1 and "leave resume out to start anew" in ended.said:
        return run(words(job, inputs, folder, resume=False), folder), True
    return ended, False


def wrong(job: Job, found: Contents, older: Contents, new: Contents) -> list[str]:
    """Visible files that are neither the old nor the new one, or are missing."""
    bad = [
        name
        for name, digest in found.items()
        if digest not in (older.get(name), new.get(name))
        and not any(fnmatch(name, pattern) for pattern in (*job.kept, *job.live))
    ]
    lost = [
        f"{name} is gone"
        for name in older.keys() - found.keys()
        if not any(fnmatch(name, pattern) for pattern in job.absent)
    ]
    return bad + lost


def kills(inputs: Path, work: Path, rng: random.Random, only: str | None) -> int:
    """Kill commands at random moments."""
    totals: Counter[str] = Counter()
    rows, faults = [], []
    for name, count in KILLS.items():
        if only not in (None, name):
            continue
        job, folder = JOBS[name], work / "run"
        whole = unbroken(job, inputs, folder, work)
        older, seen = contents(whole.older), Counter[str]()
        for number in range(count):
            # A correction needs the history of the earlier one.
            is_over = name == "correct" or number % 3 == 2
            while True:
                clear(folder, whole.older if is_over else None)
                ended = killed_once(job, inputs, folder, whole, is_over, (number, count), rng)
                if ended.status == -signal.SIGKILL:
                    break
                # It ended before that moment: the machine has less to do than it had.
                assert_done(ended)
                whole = whole._replace(ended=ended)
            found = contents(folder)
            bad = wrong(job, found, older if is_over else {}, whole.whole)
            left = len(hidden(folder))
            is_new = found == whole.whole
            if not (name == "correct" and is_new):
                again, anew = finish(job, inputs, folder)
                seen["anew"] += anew
                if again.status != 0:
                    bad.append(again.said.strip())
            if contents(folder) != whole.whole:
                bad.append("the end differs from the unbroken run's")
            seen.update(over=is_over, left=bool(left), litter=len(hidden(folder)))
            seen.update(kills=1, equal=not bad)
            faults += [f"{name}, kill {number + 1} after {ended.seconds:.2f} s: {b}" for b in bad]
            when = f"{ended.seconds:.2f} s, {ended.changes} changes"
            tell(f"{name} {number + 1} of {count}, {when}: {'; '.join(bad) or 'equal'}")
        totals.update(seen)
        rows.append((name, f"{whole.ended.seconds:.1f}", *columns(seen)))
        shutil.rmtree(whole.older)
    rows.append(("all", "", *columns(totals)))
    head = "command,s unbroken,kills,over older files,work kept,begun anew,hidden left,equal"
    return show(head.split(","), rows, faults, totals["equal"], totals["kills"], "equal")


def columns(seen: Counter[str]) -> list[str]:
    """What is counted of kills."""
    return [str(seen[name]) for name in ("kills", "over", "left", "anew", "litter", "equal")]


def killed_once(
    job: Job,
    inputs: Path,
    folder: Path,
    whole: Reference,
    is_over: bool,
    place: tuple[int, int],
    rng: random.Random,
) -> Ended:
    """Begin a command and kill it: every second time at a moment, else at a change of its files."""
    number, count = place
    seconds = (number + rng.random()) / count * whole.ended.seconds
    change = rng.randint(1, max(1, whole.ended.changes))
    at_moment = number % 2 == 0

    def until(passed: float, changes: int) -> bool:
        return passed >= seconds if at_moment else changes >= change

    return run(words(job, inputs, folder, resume=not is_over), folder, until)


def disks(inputs: Path, work: Path, rng: random.Random, wanted: Sequence[str], count: int) -> int:
    """Let disks be full: so many, of each command in turn."""
    names = [wanted[number % len(wanted)] for number in range(count)]
    rows, faults, fine = [], [], 0
    with small_disk(work / "disk") as disk:
        for name in sorted(names, key=list(JOBS).index):
            if not rows or rows[-1][0] != name:
                job, folder = JOBS[name], disk / "run"
                whole, peak = needs(job, inputs, folder, work)
                older = contents(whole.older, exact=True)
            while True:
                clear(folder, whole.older)
                free = rng.randrange(0, peak, PAGE)
                with filled(disk, free):
                    ended = run(words(job, inputs, folder, resume=False), folder)
                if ended.status != 0:
                    break
                # What it needs at most was there for a moment too short to be seen.
                peak = max(PAGE, free)
            bad = complaints(job, ended, contents(folder, exact=True), older, hidden(folder))
            again, anew = finish(job, inputs, folder)
            if again.status != 0:
                bad.append(again.said.strip())
            if contents(folder) != whole.whole or hidden(folder):
                bad.append(f"the end differs from the undisturbed run's: {hidden(folder)}")
            fine += not bad
            place = re.search(r"`(\w+)`", ended.said)
            rows.append(
                (
                    name,
                    f"{peak // 1024}",
                    f"{free // 1024}",
                    str(ended.status),
                    place[1] if place else "",
                    "anew" if anew else "again" if not job.resumes else "resumed",
                    "yes" if not bad else "no",
                )
            )
            faults += [f"{name} with {free} bytes free: {one}" for one in bad]
            tell(f"{name}, {free // 1024} KiB of {peak // 1024}: {ended.said.strip()}")
    head = ["command", "KiB needed", "KiB free", "status", "names", "then", "nothing lost"]
    return show(head, rows, faults, fine, len(rows), "lost nothing")


def complaints(
    job: Job, ended: Ended, found: Contents, older: Contents, left: Sequence[str]
) -> list[str]:
    """What is wrong with how a command met a full disk."""
    bad = []
    lines = [line for line in ended.said.splitlines() if not line.startswith("Note: ")]
    if ended.status != 1:
        bad.append(f"the status is {ended.status}")
    if len(lines) != 1 or NO_SPACE not in lines[0] or not lines[0].startswith("fiji-poreseg: "):
        bad.append(f"it says {ended.said!r}")
    for name in found.keys() | older.keys():
        patterns = (*job.kept, *job.live)
        if found.get(name) != older.get(name) and not any(fnmatch(name, one) for one in patterns):
            bad.append(f"{name} is another one, or gone, or new")
    allowed = (".*.begun", ".*.journal") if job.resumes else ()
    bad += [f"{one} is left" for one in left if not any(fnmatch(one, good) for good in allowed)]
    return bad


def needs(job: Job, inputs: Path, folder: Path, work: Path) -> tuple[Reference, int]:
    """A command undisturbed on a disk, and the bytes that it needs beside the older files."""
    free: list[int] = []

    def look(*_: float) -> bool:
        free.append(free_bytes(folder))
        return False

    folder.mkdir(exist_ok=True)
    reference = unbroken(job, inputs, folder, work, look)
    # At most it is needed for too short a moment to be seen, perhaps; all new files are.
    files = sum(-(-path.stat().st_size // PAGE) * PAGE for path in visible(folder))
    return reference, max(files, free[0] - min(free))


def free_bytes(folder: Path) -> int:
    """What is free where a folder is."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


@contextmanager
def filled(disk: Path, free: int) -> Iterator[None]:
    """Leave so many bytes free on a disk."""
    ballast = disk / "ballast"
    with ballast.open("wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, free_bytes(disk) - free)
    try:
        yield
    finally:
        ballast.unlink()


@contextmanager
def small_disk(place: Path) -> Iterator[Path]:
    """A file system of its own."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={MOST_BYTES}", "none", str(place)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        if os.environ.get("FAULTS_ALONE"):
            raise RuntimeError("no file system can be mounted here")
        again = ["unshare", "--map-root-user", "--mount", sys.executable, *sys.argv]
        raise SystemExit(subprocess.run(again, env={**os.environ, "FAULTS_ALONE": "1"}).returncode)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def show(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    faults: Sequence[str],
    fine: int,
    count: int,
    what: str,
) -> int:
    """Print a table, what went wrong and how many did not."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, *rows):
        tell(" | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)))
    for fault in faults:
        tell(fault)
    tell(f"{fine} of {count} {what}")
    return 0 if fine == count else 1


def tell(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
