//! Safe reader and writer of PyTorch and safetensors files: bytes to named tensors, nothing executed.
