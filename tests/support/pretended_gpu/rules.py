"""Which functions of torch wait for the device, take tensors of several devices, or look at no values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

VALUE_FREE = frozenset(
    [
        *("dim", "ndimension", "size", "stride", "numel", "nelement", "element_size", "storage_offset", "__len__"),
        *("is_floating_point", "is_complex", "is_signed", "is_contiguous", "is_inference", "is_same_size", "__hash__"),
        *("untyped_storage", "_typed_storage", "data_ptr", "requires_grad_", "_is_view", "is_set_to", "result_type"),
        *("can_cast", "promote_types", "_has_compatible_shallow_copy_type", "is_tensor", "is_storage", "is_conj"),
        *("is_neg", "retain_grad", "register_hook", "is_shared", "broadcast_shapes"),
    ]
)
"""They answer from what the host knows of a tensor."""

SYNCS = frozenset(
    [
        *("item", "tolist", "__bool__", "__int__", "__float__", "__index__", "__complex__", "__repr__", "__format__"),
        *("__contains__", "is_nonzero", "equal", "allclose", "nonzero", "argwhere", "unique", "unique_consecutive"),
        *("_unique", "_unique2", "masked_select", "bincount", "combinations", "linalg_solve", "linalg_inv"),
        *("linalg_cholesky", "linalg_eigh", "linalg_svd", "linalg_lstsq", "inverse", "cholesky", "histogram"),
    ]
)
"""The host needs a value, the size of the result depends on one, or an error code is read back."""

MIXING = frozenset(
    [
        *("copy_", "__set__", "set_", "set_data", "swap_tensors", "broadcast_tensors", "__deepcopy__"),
        *("__getitem__", "__setitem__", "index_put", "index_put_", "tensor", "as_tensor", "asarray", "new_tensor"),
        *("arange", "range", "linspace", "logspace", "full"),
    ]
)
"""They may be given tensors of several devices."""

JOINING = frozenset(["cat", "concat", "concatenate", "stack", "hstack", "vstack", "dstack"])
"""They take no number of the CPU among tensors of the device, as others do."""

MAKERS = frozenset(["tensor", "as_tensor", "asarray", "new_tensor"])
"""They make a tensor of values that the host has, or takes from the device one by one, and copies to the device."""

FILLERS = frozenset(["arange", "range", "linspace", "logspace", "full"])
"""They take numbers, and fill a tensor where it is; a number that is a tensor of the device is read by the host."""


def has_unknown_size(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether a call has a result whose size depends on values, other than by the function's name alone."""
    if name == "where":
        return len(args) + len(kwargs) == 1
    if name == "repeat_interleave":
        repeats = kwargs.get("repeats", args[1] if len(args) > 1 else args[0])
        return isinstance(repeats, torch.Tensor) and kwargs.get("output_size") is None
    return False


def takes_values(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether a call makes a tensor of numbers that the host must have."""
    return name in FILLERS or (name in MAKERS and not isinstance(values_of(name, args, kwargs), torch.Tensor))


def values_of(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """What a tensor is made of by one of the ``MAKERS``."""
    place = 1 if name == "new_tensor" else 0
    return args[place] if len(args) > place else kwargs.get("data", kwargs.get("obj"))
