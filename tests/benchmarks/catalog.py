"""Cold ``swath encoders search``, interpreter start included."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.table import arguments, show, spread


def main(argv: Sequence[str] | None = None) -> None:
    options = arguments(__doc__, argv)
    command = [str(Path(sys.executable).with_name("swath")), "encoders", "search", "--json"]
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "SWATH_HOME": home}
        subprocess.run(command, env=environment, check=True, capture_output=True)
        times = []
        for _ in range(options.runs or 7):
            began = time.perf_counter()
            subprocess.run(command, env=environment, check=True, capture_output=True)
            times.append(time.perf_counter() - began)
    rows = [{"what": "swath encoders search --json", "seconds": spread(times)}]
    show("Catalog query, cold", rows, ("sqlalchemy", "typer"), as_json=options.json)


if __name__ == "__main__":
    main()
