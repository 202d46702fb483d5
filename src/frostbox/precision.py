"""Where 16 bits are enough: bfloat16 on the machines that compute with it."""

from __future__ import annotations

import torch

PRECISIONS = ("auto", "32", "bf16")


def uses_bf16(precision: str, device: str) -> bool:
    """Whether to compute with bfloat16 where 16 bits are enough.

    "auto" is true on GPUs and CPUs that multiply bfloat16 (Ampere and later; AVX-512 BF16, AMX);
    elsewhere it would be emulated, and slow.
    """
    if precision != "auto":
        return precision == "bf16"
    if device.startswith("cpu"):
        there = torch.cpu.get_capabilities()
        return bool(there.get("avx512_bf16") or there.get("amx_bf16"))
    return device.startswith("cuda") and torch.cuda.is_bf16_supported(including_emulation=False)
