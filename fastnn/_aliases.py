"""Other names of what is there, in use elsewhere."""

from __future__ import annotations

from typing import Any

__all__ = ["ALIASES", "add_aliases"]

ALIASES = {
    "cross_entropy": "softmax_cross_entropy",
    "swish": "silu",
    "swish_backward": "silu_backward",
    "Swish": "SiLU",
}


def add_aliases(names: dict[str, Any]) -> list[str]:
    """Let the aliases of `names` mean the same, too; returns those that were added."""
    added = [alias for alias, name in ALIASES.items() if name in names]
    names.update({alias: names[ALIASES[alias]] for alias in added})
    return added
