"""fastnn's kernels under the names and conventions of others."""

from fastnn.compat import cs231n

__all__ = ["cs231n"]
