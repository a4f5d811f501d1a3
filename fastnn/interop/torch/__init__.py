"""fastnn's kernels on torch tensors: functions with gradients, modules, optimizers, and weights.

Tensors are on the CPU, float32 or float64, and share their memory with the arrays that the kernels see: nothing is
copied but what is not contiguous.  On tensors, `functional` has the functions of `fastnn.functional`, `nn` modules that
take the place of torch's and have their names in a `state_dict`, and `optim` the optimizers, one native call a step::

    import torch
    from fastnn.interop.torch import nn, optim

    net = torch.nn.Sequential(
        torch.nn.Linear(64, 128, bias=False),
        nn.BatchNorm1d(128, activation="relu", dropout=0.2),  # one kernel forward, one backward
        torch.nn.Linear(128, 10),
    )
    loss_fn, opt = nn.CrossEntropyLoss(), optim.Adam(net.parameters(), lr=3e-3)
    loss_fn(net(x), labels).backward()
    opt.step()

Random masks are fastnn's: `fastnn.manual_seed` sets them, `torch.manual_seed` does not.  Gradients can be taken once,
not differentiated again.  Install it with ``pip install 'fastnn-kernels[torch]'``.
"""

from __future__ import annotations

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError(
        "fastnn.interop.torch: expected PyTorch, which is not installed; pip install 'fastnn-kernels[torch]'"
    ) from error

from fastnn.interop.torch import functional, nn, optim
from fastnn.interop.torch.weights import load_state_dict, state_dict

__all__ = ["functional", "load_state_dict", "nn", "optim", "state_dict"]
