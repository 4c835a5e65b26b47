"""Start-up of `lossbench list`, `--help` and a completion, beside `python -c "import typer, rich"`, measured in turn.

    python tests/perf/startup.py [PAIRS]

Goal: at most 1.5. Bytecode is cached, as it is from a user's second command on: where PYTHONDONTWRITEBYTECODE is
set, a checkout would be compiled at every start, while pip has compiled typer and rich.
"""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

COMPLETION = {"_LOSSBENCH_COMPLETE": "complete_bash", "COMP_WORDS": "lossbench\nrun\n--losses\narc", "COMP_CWORD": "3"}


def seconds(*words: str, **variables: str) -> float:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | variables
    start = time.perf_counter()
    subprocess.run(words, check=True, capture_output=True, env=environment)
    return time.perf_counter() - start


def main() -> None:
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    script = Path(sys.executable).with_name("lossbench")
    for words, variables in ((["list"], {}), (["--help"], {}), ([], COMPLETION)):
        ratios = []
        for _ in range(pairs + 1):
            bare = seconds(sys.executable, "-c", "import typer, rich")
            ratios.append(seconds(str(script), *words, **variables) / bare)
        ratios = ratios[1:]  # the first pair warms the file cache
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        name = words[0] if words else "run --losses arc<TAB>"
        print(f"lossbench {name}: {statistics.median(ratios):.2f} of import typer, rich (median of {pairs}, {spread})")


if __name__ == "__main__":
    main()
