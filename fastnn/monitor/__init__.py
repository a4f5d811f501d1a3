"""What happens inside a network while it trains: statistics of layers and weights, warnings in words, a report."""

from __future__ import annotations

from fastnn.monitor.watcher import Monitor, Trace, Warned

__all__ = ["Monitor", "Trace", "Warned"]
