"""A CUDA device that is a note on storages: what goes where is tested on machines without a GPU.

With `real_device` in its place the same tests run on a GPU.

Everything is computed on the CPU by PyTorch's own operators. What is put on "cuda" is remembered by
its storage, and as CUDA does, operators refuse tensors of both devices, and tensors of the device
are refused to NumPy and to CPU kernels. What CUDA computes otherwise than a CPU is not seen here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
_READ_BY_CPU = {Tensor.numpy, Tensor.__array__, Tensor.data_ptr}
_TAKES_BOTH = {Tensor.copy_, Tensor.data.__set__, torch._has_compatible_shallow_copy_type}
_PLACES: dict[Any, Callable[[torch.device], Any]] = {
    Tensor.device.__get__: lambda device: device,
    Tensor.is_cuda.__get__: lambda device: device.type == "cuda",
    Tensor.is_cpu.__get__: lambda device: device.type == "cpu",
}


# how far results may be from the CPU's: of the same weights, and of weights trained there
CLOSE, TRAINED = {"rtol": 1e-4, "atol": 1e-6}, {"rtol": 1e-3, "atol": 1e-4}
CLOSE_ON_GPU, TRAINED_ON_GPU = {"rtol": 1e-3, "atol": 1e-4}, {"rtol": 1e-2, "atol": 5e-3}


class WrongDeviceError(RuntimeError):
    """Tensors of two devices met, or the CPU was to read one of the device."""


class PretendDevice(TorchFunctionMode):
    """Notes on storages. Tensors that autograd makes have none and go with whatever they meet."""

    close, trained = CLOSE, TRAINED

    def __init__(self) -> None:
        super().__init__()
        self.notes: dict[int, tuple[StorageWeakRef, torch.device]] = {}
        self.n_on_device = 0

    @property
    def was_used(self) -> bool:
        """Whether much was computed there."""
        return self.n_on_device > 500

    def find(self, x: Tensor) -> torch.device | None:
        found = self.notes.get(_storage(x)._cdata)
        return None if found is None else found[1]

    def note(self, out: Any, device: torch.device) -> None:
        """Say where new storages are. A weak reference keeps an address from being used again."""
        for storage in (_storage(x) for x in tree_leaves(out) if isinstance(x, Tensor)):
            self.notes.setdefault(storage._cdata, (StorageWeakRef(storage), device))

    def run(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call it where the mode is not on yet: modes belong to threads, and backward has none."""
        with self:
            return func(*args, **kwargs)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch._C._nn._parse_to:  # of a module's arguments
            return func(*args, **kwargs)
        if func in (Tensor.to, Tensor.cpu, Tensor.cuda):
            return self._move(func, *args, **kwargs)
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        devices = [self.find(x) for x in given]
        if func in _PLACES:
            return _PLACES[func](devices[0] or CPU)
        _check_together(func, given, devices)
        return self._compute(func, args, kwargs, devices)

    def _compute(
        self,
        func: Callable[..., Any],
        args: Any,
        kwargs: dict[str, Any],
        devices: Sequence[torch.device | None],
    ) -> Any:
        """Call it on the CPU, and note where its results are: on the device asked for or given."""
        asked = kwargs.pop("device", None)
        on_device = CUDA in devices if asked is None else torch.device(asked).type == "cuda"
        self.n_on_device += on_device
        out = func(*args, **kwargs)
        if on_device or None not in devices:
            self.note(out, CUDA if on_device else CPU)
        return out

    def _move(
        self,
        func: Callable[..., Any],
        x: Tensor,
        *args: Any,
        non_blocking: bool = False,
        copy: bool = False,
        **kwargs: Any,
    ) -> Tensor:
        """x of another dtype or on another device; if that changes nothing, x itself."""
        target = {Tensor.cpu: CPU, Tensor.cuda: CUDA}.get(func)
        dtype = None
        if func is Tensor.to and args and isinstance(args[0], Tensor):
            target, dtype = self.find(args[0]), args[0].dtype
        elif func is Tensor.to:
            target, dtype, *_ = torch._C._nn._parse_to(*args, **kwargs)
        here = self.find(x)
        out = x if dtype is None else x.to(dtype)
        moves = target is not None and target.type != (here or CPU).type
        if (moves or copy) and _storage(out)._cdata == _storage(x)._cdata:
            out = x.clone()
        self.note(out, CUDA if (target or here or CPU).type == "cuda" else CPU)
        return out


def _storage(x: Tensor) -> torch.UntypedStorage:
    if x.layout in (torch.sparse_csr, torch.sparse_csc):
        x = x.values()
    elif x.layout == torch.sparse_coo:
        x = x._values()
    return x.untyped_storage()


def _check_together(
    func: Callable[..., Any], given: Sequence[Tensor], devices: Sequence[torch.device | None]
) -> None:
    """Tensors of one number may be on the CPU, all others are on one device."""
    if func in _READ_BY_CPU and CUDA in devices:
        raise WrongDeviceError(f"{func.__name__} of a tensor on {CUDA}")
    if func in _TAKES_BOTH or (func is Tensor.__getitem__ and devices[0] == CUDA):
        return
    at = {d for x, d in zip(given, devices, strict=True) if d is not None and x.dim() > 0}
    if len(at) > 1:
        where = [f"{tuple(x.shape)} on {d}" for x, d in zip(given, devices, strict=True)]
        raise WrongDeviceError(f"{getattr(func, '__name__', func)} of {', '.join(where)}")


@contextmanager
def pretend_device() -> Iterator[PretendDevice]:
    """Have a device "cuda" in this thread, in backward passes and in the threads of executors.

    Its autocast is the CPU's.
    """
    mode = PretendDevice()
    torch_autocast = torch.autocast
    from_numpy, submit, apply = torch.from_numpy, ThreadPoolExecutor.submit, BackwardCFunction.apply

    def note_numpy(array: Any) -> Tensor:
        x = from_numpy(array)
        mode.note(x, CPU)
        return x

    def submit_in_mode(executor: Any, func: Any, *args: Any, **kwargs: Any) -> Any:
        return submit(executor, mode.run, func, *args, **kwargs)

    def apply_in_mode(node: Any, *grads: Any) -> Any:  # what autograd calls
        return mode.run(apply, node, *grads)

    @contextmanager
    def autocast(device_type: str, *args: Any, **kwargs: Any) -> Iterator[None]:
        with (
            torch_autocast(device_type, *args, **kwargs),
            torch_autocast("cpu", *args, **kwargs),
        ):
            yield

    with (
        mock.patch.object(torch, "autocast", autocast),
        mock.patch("torch.cuda.is_bf16_supported", return_value=True),
        mock.patch("torch.cuda.device"),
        # optimisers ask these; torch built for CUDA would look for a driver
        mock.patch("torch.accelerator.current_accelerator", return_value=None),
        mock.patch("torch.cuda.is_current_stream_capturing", return_value=False),
        mock.patch.object(torch, "from_numpy", note_numpy),
        mock.patch.object(ThreadPoolExecutor, "submit", submit_in_mode),
        mock.patch.object(BackwardCFunction, "apply", apply_in_mode),
        mock.patch("torch.cuda.is_available", return_value=True),
        mock.patch("torch.cuda.get_rng_state", return_value=None),
        mock.patch("torch.cuda.set_rng_state"),
        mock.patch("torch.cuda.manual_seed"),
        mock.patch("torch.backends.cudnn.is_acceptable", return_value=False),
        mode,
    ):
        yield mode


class RealDevice:
    """What `PretendDevice` tells, of the GPU that is there."""

    close, trained = CLOSE_ON_GPU, TRAINED_ON_GPU

    def __init__(self) -> None:
        torch.cuda.init()
        self._before = _count_allocations()

    @property
    def was_used(self) -> bool:
        """Whether much was computed there."""
        return _count_allocations() - self._before > 50


def _count_allocations() -> int:
    return int(torch.cuda.memory_stats()["allocation.all.allocated"])


@contextmanager
def real_device() -> Iterator[RealDevice]:
    """The device "cuda", whose recurrent networks are to compute in float32 too."""
    before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    try:
        yield RealDevice()
    finally:
        torch.backends.cudnn.allow_tf32 = before
