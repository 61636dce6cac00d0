# SPDX-License-Identifier: Apache-2.0
"""What the functions of a model may return, checked while they are traced."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.types import ModelState

_ARRAYS = (jax.Array, np.ndarray, np.generic)


class BrokenContract(Exception):
    """A breach of the contract of `cnnjax.types.Model`; its text is the complaint."""


def check_init(result: Any) -> None:
    """Raises BrokenContract unless `init` returned (params, model_state), arrays only, params floating."""
    if not (isinstance(result, tuple) and len(result) == 2):
        raise BrokenContract(f"init must return (params, model_state), not {_kind(result)}")
    for what, tree in zip(("params", "model_state"), result, strict=True):
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            if not isinstance(leaf, _ARRAYS):
                raise BrokenContract(f"{what}{_at(path)} is {_kind(leaf)}, not an array; leave it out, or make it one")
            if what == "params" and not jnp.issubdtype(leaf.dtype, jnp.floating):
                raise BrokenContract(f"params{_at(path)} is {leaf.dtype}, which has no gradient; parameters are floats")


def check_apply(result: Any, model_state: ModelState, logits_shape: tuple[int, int]) -> None:
    """Raises BrokenContract unless `apply` returned (outputs, model_state), the latter shaped as it was given."""
    if not (isinstance(result, tuple) and len(result) == 2):
        raise BrokenContract(f"apply must return (outputs, model_state), not {_kind(result)}")
    outputs, new_state = result
    _check_outputs(outputs, logits_shape)
    _check_state(model_state, new_state)


def _check_outputs(outputs: Any, logits_shape: tuple[int, int]) -> None:
    if not isinstance(outputs, Mapping):
        raise BrokenContract(f"apply must return outputs as a dict with 'logits', not {_kind(outputs)}")
    if not {"logits", "recon"} & outputs.keys():
        raise BrokenContract(
            f"the outputs need 'logits' (or 'recon'); there is only {', '.join(map(str, outputs)) or 'nothing'}"
        )
    for path, leaf in jax.tree_util.tree_leaves_with_path(outputs):
        if not isinstance(leaf, _ARRAYS):
            raise BrokenContract(f"outputs{_at(path)} is {_kind(leaf)}, not an array")
    for head in {"logits", "recon"} & outputs.keys():
        if not hasattr(outputs[head], "dtype"):
            raise BrokenContract(f"{head} must be one array, not {_kind(outputs[head])}")
        if not jnp.issubdtype(outputs[head].dtype, jnp.floating):
            raise BrokenContract(f"{head} must be floats, not {outputs[head].dtype}")
    if "logits" in outputs and outputs["logits"].shape != logits_shape:
        (batch, num_classes), came = logits_shape, _shape(outputs["logits"])
        raise BrokenContract(f"logits must be [B,K], here [{batch},{num_classes}] for {batch} images, not {came}")


def _check_state(before: ModelState, after: Any) -> None:
    old, new = (dict(jax.tree_util.tree_leaves_with_path(tree)) for tree in (before, after))
    for path in (*old, *new):
        if path not in new:
            raise BrokenContract(f"init gives model_state{_at(path)}, which apply does not return")
        if path not in old:
            raise BrokenContract(f"apply returns model_state{_at(path)}, which init does not give")
    for path, leaf in old.items():
        came = new[path]
        if not hasattr(came, "dtype") or (came.shape, came.dtype) != (leaf.shape, leaf.dtype):
            raise BrokenContract(
                f"apply turns model_state{_at(path)} from {leaf.dtype}{_shape(leaf)} into "
                f"{f'{came.dtype}{_shape(came)}' if hasattr(came, 'dtype') else _kind(came)}; it must stay as it is"
            )
    if jax.tree.structure(before) != jax.tree.structure(after):
        raise BrokenContract(f"apply returns model_state as {_kind(after)}; init gives {_kind(before)}")


def _at(path: Any) -> str:
    return jax.tree_util.keystr(path)


def _shape(array: Any) -> str:
    return f"[{','.join(map(str, array.shape))}]"


def _kind(value: Any) -> str:
    if value is None:
        return "None"
    if hasattr(value, "dtype"):
        return f"an array {_shape(value)}"
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of {len(value)}"
    return f"{'an' if type(value).__name__[0] in 'aeiouAEIOU' else 'a'} {type(value).__name__}"
