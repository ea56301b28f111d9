"""What `gpu.py --rehearse` puts in the place of a GPU: Triton's interpreter, and graphs that record and replay."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from time import perf_counter
from typing import Any


def pretend_driver() -> None:
    """Triton compiles for compute capability 9.0, and finds a device to ask for; nothing can be launched."""
    import torch
    import triton
    from triton.backends.compiler import GPUTarget

    class Driver:
        def get_current_device(self) -> int:
            return 0

        def get_current_stream(self, device: object = None) -> int:
            return 0

        def get_current_target(self) -> Any:
            return GPUTarget("cuda", 90, 32)

        def get_active_torch_device(self) -> Any:
            return torch.device("meta")

    triton.runtime.driver.set_active(Driver())


def stand_in() -> None:
    """Before triton is imported. What `torch.cuda` has of use here, on the CPU."""
    os.environ["TRITON_INTERPRET"] = "1"
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from triton.runtime.interpreter import InterpretedFunction

    class Event:
        def __init__(self, enable_timing: bool = False) -> None:
            assert enable_timing

        def record(self) -> None:
            self.time = perf_counter()

        def synchronize(self) -> None:
            pass

        def elapsed_time(self, end_event: Event) -> float:
            return 1000 * (end_event.time - self.time)

    class Graph:
        def __init__(self) -> None:
            self.work: list[Callable[[], object]] = []

        def replay(self) -> None:
            assert self.work, "an empty graph"
            for each in self.work:
                each()

    class Capture(TorchDispatchMode):
        """Nothing that is captured runs, but what only makes a tensor; a number that the host asks for is an error."""

        def __init__(self, graph: Graph) -> None:
            super().__init__()
            self.graph = graph

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            if "_local_scalar_dense" in func.name():
                raise AssertionError("the host waits for the device within a capture")
            if func._schema.is_mutable:
                self.graph.work.append(lambda: func(*args, **kwargs))
                return args[0]
            result = func(*args, **kwargs)
            aliases = any(each.alias_info is not None for each in func._schema.returns)
            if isinstance(result, torch.Tensor) and not aliases and "empty" not in func.name():
                self.graph.work.append(lambda: result.copy_(func(*args, **kwargs)))
            return result

        def __enter__(self) -> Any:
            def record(kernel: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> None:
                self.graph.work.append(lambda: run(kernel, *args, grid=grid, warmup=warmup, **options))

            InterpretedFunction.run = record
            return super().__enter__()

        def __exit__(self, *exception: Any) -> Any:
            InterpretedFunction.run = run
            return super().__exit__(*exception)

    run = InterpretedFunction.run
    cuda: Any = torch.cuda
    cuda.Event, cuda.CUDAGraph, cuda.graph = Event, Graph, Capture
    cuda.Stream, cuda.stream = object, lambda stream: nullcontext()
    cuda.get_device_name = lambda: "no GPU (rehearsal)"
    cuda.max_memory_allocated = lambda: 0
    for name in ("synchronize", "empty_cache", "reset_peak_memory_stats"):
        setattr(cuda, name, lambda *device: None)
