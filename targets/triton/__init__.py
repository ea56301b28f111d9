"""The GPU target: Triton kernels, printed as one Python file."""

from sterna.targets.triton.target import TritonTarget

__all__ = ["TritonTarget"]
