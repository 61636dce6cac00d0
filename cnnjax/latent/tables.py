# SPDX-License-Identifier: Apache-2.0
"""What a vector does, as a table and in words."""

from typing import Any

from cnnjax.latent.sheets import strength_text


def effect_table(numbers: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: what each strength does, beside random vectors."""
    judged, random = "classifier" in numbers, numbers.get("random")
    header = ["strength", *([f"called {numbers['attribute']}"] if judged else []), "nearest is its own", "PSNR to it"]
    if random:
        header += [*(["random: called so"] if judged else []), "random: nearest is its own"]
    rows = []
    for i, each in enumerate(numbers["effect"]):
        row = [strength_text(each["strength"])]
        row += [f"{each['rate']:.1%}"] if judged else []
        row += [f"{each['same']:.1%}", f"{each['psnr']:.1f} dB" if each["strength"] else ""]
        if random:
            other = random["effect"][i]
            row += [f"{other['rate']:.1%}"] if judged else []
            row.append(f"{other['same']:.1%}")
        rows.append(row)
    return header, rows


def remark(numbers: dict[str, Any]) -> str:
    """How to read the table."""
    text = (
        f"{numbers['changed']:,} {numbers['split']} pictures that are {numbers['against']}. Nearest: among the "
        f"unchanged reconstructions of all {numbers['pictures']:,}, by pixels."
    )
    if "classifier" in numbers:
        text += f" The classifier is right on {numbers['classifier']['accuracy']:.1%} of the real pictures."
    if "random" in numbers:
        text += f" Random vectors: {numbers['random']['draws']} of the same length, means."
    return text
