"""Makes golden loss curves anew: ``python -m tests.models.methods.golden [METHOD …]``."""

from __future__ import annotations

import importlib
import json
import sys

from models.methods import METHODS
from tests.models.methods.harness import GOLDEN, GOLDEN_TOLERANCE, golden_run


def main(names: list[str]) -> None:
    for name in names or sorted(path.stem for path in GOLDEN.glob("*.json")):
        tests = importlib.import_module(
            f"tests.models.methods.test_{METHODS[name].module.rsplit('.', 1)[-1]}"
        )
        document = {
            "method": name,
            "command": f"python -m tests.models.methods.golden {name}",
            "tolerance": GOLDEN_TOLERANCE,
            "losses": golden_run(tests.make, name, **getattr(tests, "GOLDEN_SETTINGS", {}))[0],
        }
        GOLDEN.mkdir(exist_ok=True)
        path = GOLDEN / f"{name}.json"
        path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        print(f"{path}: {document['losses'][0]:.6g} … {document['losses'][-1]:.6g}")


if __name__ == "__main__":
    main(sys.argv[1:])
