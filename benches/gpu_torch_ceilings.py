"""What a device reaches through torch: a copy and one large product per format, as ceilings.rs measures of anychip."""

from dataclasses import dataclass
from typing import Any

import gpu_torch_ops as ops


@dataclass
class Ceiling(ops.Case):
    kind: str
    format: str
    size: str
    work: int
    call: Any


class Copied(Ceiling):
    def error(self, out):
        return 0.0 if out.equal(self.reference()) else float("inf")


class Part(Ceiling):
    """Compared in its first rows: all of a large product in float64 takes as long as everything else."""

    def error(self, out):
        return super().error(out[:64])


def all_of(torch, device):
    f, small = ops.Formats(torch, device), device == "cpu"
    count = (64 if small else 1024) << 20
    source = torch.randint(0, 256, (count,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = lambda: target.copy_(source)
    yield Copied([], lambda: source, 0.0, "copy", "bytes", f"{count >> 20} MiB", 2 * count, copy)
    del source, target, copy
    side = 1024 if small else 8192
    size, work = f"{side} x {side} x {side}", 2 * side**3
    for name, dtype, tolerance in [("bf16", torch.bfloat16, ops.BF16), ("f32", torch.float32, ops.F32)]:
        x, w = f.normal(side, side, dtype=dtype), f.normal(side, side, std=side**-0.5, dtype=dtype)
        product = lambda: torch.nn.functional.linear(x, w)
        yield Part([], lambda: x[:64].double() @ w.double().T, tolerance, "gemm", name, size, work, product)
    x, w = (f.normal(side, side).to(torch.float8_e4m3fn) for _ in range(2))
    one = torch.ones((), device=device)
    product = lambda: torch._scaled_mm(x, w.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16)
    yield Part([], lambda: x[:64].double() @ w.double().T, ops.BF16, "gemm", "e4m3", f"{size}, one scale", work, product)
