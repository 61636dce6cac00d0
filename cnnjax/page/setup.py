# SPDX-License-Identifier: Apache-2.0
"""What was run and where: the config beside the default, the environment, the time."""

import json
from typing import Any

from cnnjax.config import difference, flatten
from cnnjax.page.charts import stacked_bar
from cnnjax.page.document import Section, facts, note
from cnnjax.page.html import Html, element, table
from cnnjax.page.record import RunRecord, default_config
from cnnjax.report.environment import to_plain
from cnnjax.report.table import format_bytes, format_duration


def config_section(run: RunRecord) -> Section:
    """The keys that differ from the default, then all of them."""
    default, config = default_config(), flatten(run.config)
    if default is None:
        words = note("The default config is not installed here, so that nothing can be compared with it.")
        return Section("config", "Config", (words, _all(config, {})))
    changed = {key: old for key, old, _ in difference(default, run.config)}
    rows = [(element("code", key), value_of(config.get(key)), value_of(old)) for key, old in changed.items()]
    count = f"{len(rows)} of {len(config)} keys differ from the default."
    compared = table(("key", "this run", "default"), rows, "lll", caption="Keys that differ from the default")
    return Section("config", "Config", (note(count), compared, _all(config, changed)))


def value_of(value: Any) -> Html:
    """A config value as code."""
    if value is None:
        return element("span", "none", class_="soft")
    return element("code", value if isinstance(value, str) else json.dumps(to_plain(value), ensure_ascii=False))


def _all(config: dict[str, Any], changed: dict[str, Any]) -> Html:
    rows = [(element("code", key), value_of(value)) for key, value in config.items()]
    classes = ["changed" if key in changed else None for key in config]
    listed = table(("key", "value"), rows, "ll", caption="All keys of the config", row_classes=classes, tall=True)
    return element("details", element("summary", f"All {len(config)} keys"), listed)


def environment_section(run: RunRecord) -> Section:
    """Where and with what the run was made, and where its time went."""
    env, content = run.environment, []
    if run.times is not None and run.times.total > 0:
        names = ("training steps", "evaluation and checkpoints", "start: data, compilation")
        seconds = (run.times.training, run.times.other, run.times.starting)
        parts = [(name, s, format_duration(s)) for name, s in zip(names, seconds, strict=True)]
        told = "Time split: " + ", ".join(f"{name} {shown}" for name, _, shown in parts)
        content += [element("h3", f"Time: {format_duration(run.times.total)}"), stacked_bar(parts, told)]
    content.append(element("h3", "Environment"))
    if not env:
        return Section("environment", "Time and place", (*content, note("No environment is recorded.")))
    devices = ", ".join(f"{d['count']} × {d['kind']}{_memory(d.get('memory_bytes'))}" for d in env.get("devices", ()))
    cpu, git = env.get("cpu") or {}, env.get("git")
    versions = ", ".join(f"{name} {version}" for name, version in env.get("versions", {}).items() if version)
    rows: list[tuple[str, object]] = [
        ("started", (env.get("start_time") or "").replace("T", " ").replace("+00:00", " UTC")),
        ("command", element("code", env.get("command"))),
        ("folder", element("code", env.get("directory"))),
        ("commit", element("code", git["commit"] + (", with changes" if git["dirty"] else "")) if git else None),
        ("devices", devices),
        ("processes", env["num_processes"] if env.get("num_processes", 1) > 1 else None),
        ("processor", f"{cpu.get('model')}, {cpu.get('usable')} of {cpu.get('count')} cores"),
        ("memory", format_bytes(env["memory_bytes"]) if env.get("memory_bytes") else None),
        ("system", env.get("platform")),
        ("Python", env.get("python")),
        ("packages", versions),
        (
            "variables",
            element("code", " ".join(f"{k}={v}" for k, v in env["variables"].items()))
            if env.get("variables")
            else None,
        ),
    ]
    return Section("environment", "Time and place", (*content, facts([row for row in rows if row[1]])))


def _memory(count: int | None) -> str:
    return f" ({format_bytes(count)})" if count else ""
