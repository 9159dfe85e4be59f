"""One process of the fuzzing: cases of one reader, under an audit hook and a bound on memory.

Where it is, it writes into a file before every case, so that whoever started it knows on which one it died.
"""

import json
import os
import random
import resource
import struct
import sys
import threading
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "tests")]

# What no reader has any business doing. Compiling is left out: equations are parsed by `ast`, which runs nothing of
# what it compiles but says "compile" all the same.
FORBIDDEN = {
    "os.system", "os.exec", "os.spawn", "os.posix_spawn", "os.fork", "os.forkpty", "subprocess.Popen", "os.remove",
    "pickle.find_class", "ctypes.dlopen", "socket.connect", "socket.getaddrinfo", "urllib.Request", "os.rename",
    "os.truncate", "shutil.rmtree", "webbrowser.open",
}  # fmt: skip
PROGRESS = struct.Struct("<qqqqd")  # cases done, accepted, refused, the most memory (KiB), the slowest (seconds)


class Watch:
    """The audit hook: it cannot be removed, only told to look away."""

    def __init__(self) -> None:
        self.looking = False
        self.seen: Counter[str] = Counter()
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.looking:
            return
        runs = event == "exec" and not _importing()
        writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
        if event in FORBIDDEN or runs or writes:
            self.seen[f"{event} {str(args)[:120]}"] += 1


def _importing() -> bool:
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def _place(error: BaseException) -> str:
    """Where an error came from: its kind, the last of our own lines, and the very last."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if f"{os.sep}qidbayes{os.sep}" in f.filename]
    named = [f"{Path(f.filename).name}:{f.lineno}" for f in (*ours[-1:], *frames[-1:])]
    return f"{type(error).__name__} at {' > '.join(dict.fromkeys(named))}"


def main(reader: str, seed: int, first: int, last: int, room: int, folder: Path) -> None:
    """Run the cases from `first` to before `last`."""
    from readers import READERS

    under_test = READERS[reader]
    case = under_test.prepare(folder)
    watch, found, examples = Watch(), Counter[str](), {}
    accepted = refused = 0
    slowest = 0.0
    progress = os.open(folder / "progress", os.O_WRONLY | os.O_CREAT)
    warm = [(f"warm-{seed}", i) for i in range(min(under_test.warm_up, last - first))]
    for number, (name, i) in enumerate([*warm, *((str(seed), i) for i in range(first, last))]):
        counted = number >= len(warm)
        if number == len(warm):
            size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (size + room, size + room))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        os.pwrite(progress, PROGRESS.pack(i if counted else first, accepted, refused, peak, slowest), 0)
        call, allowed = case(random.Random(f"{reader}-{name}-{i}"))
        began = time.process_time()
        watch.looking = counted
        try:
            call()
            outcome = None
        except allowed as error:
            outcome = error
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 (finding these is what it is for)
            watch.looking = False
            place = _place(error)
            found[place] += counted
            examples.setdefault(place, f"{name}-{i}: {str(error)[:100]!r}")
            continue
        watch.looking = False
        if counted:
            if threading.active_count() > 1:  # a call that did not come back, and would disturb the next
                last = i + 1
            accepted += outcome is None
            refused += outcome is not None
            slowest = max(slowest, time.process_time() - began)
            if i + 1 == last:
                break
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    os.pwrite(progress, PROGRESS.pack(last, accepted, refused, peak, slowest), 0)
    print(
        json.dumps(
            {"last": last, "tracebacks": {p: [n, examples[p]] for p, n in found.items() if n}, "events": watch.seen}
        ),
        flush=True,
    )
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:6]), Path(sys.argv[6]))
