# SPDX-License-Identifier: Apache-2.0
"""Imports point one way: nouns <- parts <- step, train, evaluate <- runs <- commands <- run.py."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Lower layers first. A module may import from its own layer's package and from layers before it.
LAYERS = (
    ("types", "errors", "host_memory"),
    ("jsonfile",),
    ("patterns", "param_groups", "ssim", "processes"),
    ("stopping", "read_ahead"),
    ("config_json",),
    (
        "config",
        "trust",
        "metrics",
        "tasks",
        "optim",
        "lookahead",
        "data",
        "augment",
        "report",
        "layers",
        "checksums",
        "notes",
    ),
    ("models", "preprocess", "inspect", "see", "devices", "checkpoint", "protocols", "memory"),
    ("step", "evaluate", "outline", "sharding"),
    ("shared",),
    ("members",),
    ("train", "workdir", "remote"),
    ("experiment",),
    (
        "predict",
        "strips",
        "parts",
        "largest_batch",
        "pictures",
        "results",
        "training_run",
        "weights",
        "transfer",
        "export",
        "architectures",
        "views",
        "page",
        "latent",
    ),
    ("bench", "ensemble", "sweep", "verify"),
    ("assess",),
    ("commands",),
)
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def part(module: str) -> str | None:
    names = module.split(".")
    return names[1] if names[0] == "cnnjax" and len(names) > 1 else None


def test_every_part_has_a_layer_and_imports_only_downwards():
    for path in sorted((ROOT / "cnnjax").rglob("*.py")):
        own = path.relative_to(ROOT / "cnnjax").with_suffix("").parts[0]
        if own == "__init__":
            continue
        assert own in RANK, f"{own}: give it a layer in this test"
        for module in imported(path):
            other = part(module)
            if other and other != own and other in RANK:
                assert RANK[other] <= RANK[own], f"{path.name} ({own}) imports {other}, which stands above it"


def test_the_trainer_knows_no_model_data_or_task():
    for name in ("step", "train"):
        parts = {part(module) for module in imported(ROOT / f"cnnjax/{name}.py")}
        assert not parts & {"models", "data", "tasks", "augment", "experiment"}


def test_experiments_hold_names_and_numbers_only():
    for path in (ROOT / "experiments").glob("*.py"):
        roots = {module.split(".")[0] for module in imported(path)}
        assert roots <= {"ml_collections", "experiments", "typing"}, path


def test_nothing_imports_tensorflow_but_the_preparation():
    for path in [*(ROOT / "cnnjax").rglob("*.py"), ROOT / "run.py"]:
        roots = {module.split(".")[0] for module in imported(path)}
        assert "tensorflow" not in roots or path.name == "prepare.py", path
