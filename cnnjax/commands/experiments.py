# SPDX-License-Identifier: Apache-2.0
"""List the shipped experiments with their results."""

import argparse
import ast
import json
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "experiments"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of the command."""
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Prints, for each file, the first line of its docstring and the line that begins with "Result:"."""
    found = [_read(path) for path in sorted(FOLDER.glob("*.py")) if path.stem not in ("__init__", "default")]
    if args.json:
        print(json.dumps(found, ensure_ascii=False))
        return 0
    for experiment in found:
        print(f"{experiment['config']}\n    {experiment['title']}\n    Result: {experiment['result']}")
    return 0


def _read(path: Path) -> dict[str, str]:
    lines = (ast.get_docstring(ast.parse(path.read_text())) or "").splitlines() or [""]
    results = [line.partition(":")[2].strip() for line in lines if line.startswith("Result:")]
    place = Path(*path.parts[-2:])
    return {"config": str(place), "title": lines[0], "result": results[0] if results else "not yet measured"}
