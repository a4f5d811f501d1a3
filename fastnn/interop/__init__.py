"""fastnn's kernels inside other libraries, and weights to and from them; each module is imported by its name.

`fastnn.interop.torch`
    Functions, modules and optimizers for torch tensors on the CPU (extra ``torch``).
`fastnn.interop.autograd`
    Functions for HIPS autograd (extra ``autograd``).
`fastnn.interop.safetensors`
    Weights in files (extra ``safetensors``).
`fastnn.interop.weights`
    Weights under the names of torch, without torch.
"""
