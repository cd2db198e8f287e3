"""The benchmarks' operations in torch, at V4-Flash's sizes, by the names that benches/*.rs give them.

A variant is `equal` where it computes the same from what is stored: FP8 and FP4 codes with power-of-two scales, decoded at each
call as weights that do not fit twice must be. What reads weights that were decoded to bf16 beforehand, two to four times the
bytes, or has coarser scales, stands beside it as not equal. Values are random: only sizes and formats are the benchmarks' own.
"""

from dataclasses import dataclass
from typing import Callable

HIDDEN, HEADS, HEAD_DIM, INDEX_DIM, TOP_K = 4096, 64, 512, 128, 512
EXPERTS, CHOSEN, INNER, STREAMS, WINDOW = 32, 6, 2048, 4, 128
EPS = 1e-6
# The largest error over the reference's largest value: a few roundings of the result, far below a wrong formula.
BF16, F32, SERVED = 2e-2, 1e-4, 5e-2
HALVES = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]
NEWTON_SCHULZ = [(3.4445, -4.7750, 2.0315)] * 8 + [(2.0, -1.5, 0.5)] * 2


@dataclass
class Case:
    """Ways to write one shape, and what they must give."""

    variants: list  # of (name, equal, call)
    reference: Callable
    tolerance: float
    wanted = None

    def error(self, out):
        if self.wanted is None:
            self.wanted = self.reference()
        outs, wants = ((x if isinstance(x, (tuple, list)) else [x]) for x in (out, self.wanted))
        assert len(outs) == len(wants) and all(o.shape == w.shape for o, w in zip(outs, wants)), "shapes differ"
        return max(((o.double() - w.double()).abs().max() / w.double().abs().max()).item() for o, w in zip(outs, wants))


class Formats:
    """Random operands in the stored formats, and their decoding as it is written in torch."""

    def __init__(self, torch, device):
        self.torch, self.device = torch, device
        table = torch.tensor(HALVES + [-x for x in HALVES], dtype=torch.bfloat16, device=device)
        byte = torch.arange(256, device=device)
        self.pairs = torch.stack([table[byte & 15], table[byte >> 4]], -1)

    def normal(self, *sizes, std=1.0, dtype=None):
        x = self.torch.randn(*sizes, device=self.device) * std
        return x.to(dtype or self.torch.bfloat16)

    def scales(self, *sizes, k):
        """Powers of two that keep the size of what a matrix with k columns multiplies."""
        least = -3 - k.bit_length() // 2
        return self.torch.exp2(self.torch.randint(least, least + 3, sizes, device=self.device).float())

    def e4m3(self, rows, k, block_rows):
        """Codes, and a scale per block of 128 columns and so many rows."""
        codes = self.normal(rows, k).to(self.torch.float8_e4m3fn)
        return codes, self.scales(-(-rows // block_rows), k // 128, k=k)

    def decode_e4m3(self, codes, scales):
        rows, k = codes.shape
        blocks = codes.to(self.torch.bfloat16).view(scales.shape[0], -1, k // 128, 128)
        return (blocks * scales.to(self.torch.bfloat16)[:, None, :, None]).view(rows, k)

    def e2m1(self, *sizes):
        """Packed codes, and a scale per 32 columns."""
        k = sizes[-1]
        codes = self.torch.randint(0, 256, (*sizes[:-1], k // 2), dtype=self.torch.uint8, device=self.device)
        return codes, self.scales(*sizes[:-1], k // 32, k=k)

    def decode_e2m1(self, codes, scales):
        k = codes.shape[-1] * 2
        values = self.pairs.index_select(0, codes.flatten().int()).view(*codes.shape[:-1], k // 32, 32)
        return (values * scales.to(self.torch.bfloat16)[..., None]).view(*codes.shape[:-1], k)

    def round_e4m3(self, x):
        """To e4m3 with a scale per 128 columns of a row: codes and scales."""
        blocks = x.float().unflatten(-1, (-1, 128))
        largest = blocks.abs().amax(-1, keepdim=True).clamp(min=1e-4)
        scales = self.torch.exp2(self.torch.ceil(self.torch.log2(largest / 448)))
        return (blocks / scales).to(self.torch.float8_e4m3fn).flatten(-2), scales.squeeze(-1)


def plain_linear(t, name):
    def make(torch, device):
        f, dtype = Formats(torch, device), getattr(torch, name)
        x, w = f.normal(t, HIDDEN, dtype=dtype), f.normal(HIDDEN, HIDDEN, std=HIDDEN**-0.5, dtype=dtype)
        call = lambda: torch.nn.functional.linear(x, w)
        return Case([("F.linear", True, call)], lambda: x.double() @ w.double().T, F32 if name == "float32" else BF16)

    return make


def scaled_linear(t, n, k):
    def make(torch, device):
        f, linear = Formats(torch, device), torch.nn.functional.linear
        (x, sx), (w, sw) = f.e4m3(t, k, 1), f.e4m3(n, k, 128)
        # cuBLAS wants the scales of rows column by column.
        columns = sx.t().contiguous().t()
        before = f.decode_e4m3(w, sw)
        product = lambda sa, sb: torch._scaled_mm(x, w.t(), scale_a=sa, scale_b=sb, out_dtype=torch.bfloat16)
        decoded = lambda: linear(f.decode_e4m3(x, sx), f.decode_e4m3(w, sw))
        return Case(
            [
                ("_scaled_mm, scales in f32 of 1 x 128 and 128 x 128", True, lambda: product(columns, sw.t())),
                ("decode, F.linear", True, decoded),
                ("weights in bf16 beforehand, F.linear", False, lambda: linear(f.decode_e4m3(x, sx), before)),
            ],
            lambda: f.decode_e4m3(x, sx).double() @ f.decode_e4m3(w, sw).double().T,
            BF16,
        )

    return make


def grouped_linear(t):
    def make(torch, device):
        f, groups, n, k = Formats(torch, device), 8, 1024, 4096
        x = f.normal(t, groups, k)
        w, sw = f.e4m3(groups * n, k, 128)
        before = f.decode_e4m3(w, sw).view(groups, n, k)
        product = lambda w: torch.bmm(x.transpose(0, 1), w.transpose(1, 2)).transpose(0, 1).flatten(1)
        return Case(
            [
                ("decode, bmm", True, lambda: product(f.decode_e4m3(w, sw).view(groups, n, k))),
                ("weights in bf16 beforehand, bmm", False, lambda: product(before)),
            ],
            lambda: torch.einsum("tgk,gnk->tgn", x.double(), before.double()).flatten(1),
            BF16,
        )

    return make


def choose(torch, device, tokens):
    """Rows of each expert, as a router's host copy would have them, by expert; most generous to torch."""
    chosen = torch.stack([torch.randperm(EXPERTS)[:CHOSEN] for _ in range(tokens)])
    return {e: (chosen == e).any(-1).nonzero().flatten().to(device) for e in chosen.unique().tolist()}


def expert_gemm(tokens):
    def make(torch, device):
        f, linear = Formats(torch, device), torch.nn.functional.linear
        rows = {e: len(which) for e, which in choose(torch, device, tokens).items()}
        x, sx = f.e4m3(tokens * CHOSEN, HIDDEN, 1)
        w, sw = f.e2m1(EXPERTS, INNER, HIDDEN)
        before = f.decode_e2m1(w, sw)
        ends = torch.tensor([rows.get(e, 0) for e in range(EXPERTS)], device=device).cumsum(0).int()
        pieces = lambda x: zip(rows, x.split(list(rows.values())))
        each = lambda x, weight: torch.cat([linear(piece, weight(e)) for e, piece in pieces(x)])
        return Case(
            [
                ("decode FP4, F.linear per chosen expert", True,
                 lambda: each(f.decode_e4m3(x, sx), lambda e: f.decode_e2m1(w[e], sw[e]))),
                ("weights in bf16 beforehand, F.linear per chosen expert", False,
                 lambda: each(f.decode_e4m3(x, sx), lambda e: before[e])),
                ("weights in bf16 beforehand, _grouped_mm", False,
                 lambda: torch._grouped_mm(f.decode_e4m3(x, sx), before.transpose(1, 2), offs=ends)),
            ],
            lambda: each(f.decode_e4m3(x, sx).double(), lambda e: before[e].double()),
            BF16,
        )

    return make


def expert_ffn(tokens):
    def make(torch, device):
        f, functional = Formats(torch, device), torch.nn.functional
        chosen = choose(torch, device, tokens)
        weight = {e: f.normal(len(rows), 1, std=0.25, dtype=torch.float32) for e, rows in chosen.items()}
        x, sx = f.e4m3(tokens, HIDDEN, 1)
        sizes = [(INNER, HIDDEN), (INNER, HIDDEN), (HIDDEN, INNER)]
        routed = [f.e2m1(EXPERTS, *size) for size in sizes]
        shared = [f.e4m3(*size, 128) for size in sizes]

        def expert(x, weight, matrices, dtype):
            gate, up = (functional.linear(x, next(matrices)) for _ in range(2))
            gate, up = (v.to(torch.bfloat16).to(dtype) for v in (gate, up))
            h = weight * functional.silu(gate.clamp(max=10)) * up.clamp(-10, 10)
            h = f.decode_e4m3(*f.round_e4m3(h.to(torch.bfloat16)))
            down = next(matrices)
            return functional.linear(h.to(down.dtype), down).to(torch.bfloat16).to(dtype)

        def layer(storage, dtype):
            rows = f.decode_e4m3(x, sx).to(storage)
            out = torch.zeros(tokens, HIDDEN, dtype=dtype, device=device)
            for e, which in chosen.items():
                matrices = (f.decode_e2m1(w[e], s[e]).to(storage) for w, s in routed)
                out.index_add_(0, which, expert(rows[which], weight[e].to(dtype), matrices, dtype))
            matrices = (f.decode_e4m3(w, s).to(storage) for w, s in shared)
            return (out + expert(rows, 1.0, matrices, dtype)).to(torch.bfloat16)

        return Case(
            [("decode, F.linear per chosen expert", True, lambda: layer(torch.bfloat16, torch.float32))],
            lambda: layer(torch.float64, torch.float64),
            SERVED,
        )

    return make


def sparse_attention(t, compressed, listed):
    def make(torch, device):
        f, scale = Formats(torch, device), HEAD_DIM**-0.5
        q, sink = f.normal(t, HEADS, HEAD_DIM), f.normal(HEADS, dtype=torch.float32)
        rows = torch.arange(t, device=device)[:, None]

        def pool(entries, width, step):
            which = (rows + step * torch.arange(width, device=device)) % entries
            nope = f.normal(entries, 448).to(torch.float8_e4m3fn).view(torch.uint8)
            scales = torch.exp2(torch.randint(-1, 2, (entries, 7), device=device).float()).to(torch.bfloat16)
            return which, nope, scales, f.normal(entries, 64)

        pools = [pool(t + WINDOW, WINDOW, 1)] + ([pool(compressed, listed, 1999)] if listed else [])

        def gather():
            keys = []
            for which, nope, scales, rope in pools:
                blocks = nope[which].view(torch.float8_e4m3fn).to(torch.bfloat16).unflatten(-1, (7, 64))
                keys.append(torch.cat([(blocks * scales[which][..., None]).flatten(-2), rope[which]], -1))
            return torch.cat(keys, 1)

        # A key of zeros whose score is the sink stands for it; seven more that nobody sees keep rows aligned.
        width = WINDOW + listed
        mask = torch.zeros(1, 1, HEADS, width + 8, dtype=torch.bfloat16, device=device)
        mask[..., width:] = float("-inf")
        mask[..., width] = sink

        def attend():
            kv = torch.nn.functional.pad(gather(), (0, 0, 0, 8))[:, None]
            attention = torch.nn.functional.scaled_dot_product_attention
            return attention(q[:, None], kv, kv, attn_mask=mask.expand(t, -1, -1, -1), scale=scale)[:, 0]

        def by_hand(q, kv, sink):
            z = torch.matmul(q, kv.transpose(1, 2)) * scale
            z = torch.cat([z.to(sink.dtype), sink[None, :, None].expand(t, -1, 1)], -1)
            return torch.matmul(torch.softmax(z, -1)[..., :-1].to(kv.dtype), kv)

        return Case(
            [
                ("gather, decode, SDPA with the sink as a key", True, attend),
                ("gather, decode, matmul and softmax", True, lambda: by_hand(q, gather(), sink)),
            ],
            lambda: by_hand(q.double(), gather().double(), sink.double()),
            BF16,
        )

    return make


def index_scores(t, entries):
    def make(torch, device):
        f = Formats(torch, device)
        (q, sq), (k, sk) = f.e2m1(t * HEADS, INDEX_DIM), f.e2m1(entries, INDEX_DIM)
        weights, scale = f.normal(t, HEADS), (INDEX_DIM * HEADS) ** -0.5

        def scores(dtype):
            z = f.decode_e2m1(q, sq).to(dtype) @ f.decode_e2m1(k, sk).to(dtype).T
            return torch.bmm((weights.to(dtype) * scale)[:, None], z.view(t, HEADS, entries).relu_()).squeeze(1)

        call = lambda: scores(torch.bfloat16).float()
        return Case([("decode FP4, matmul, relu, bmm", True, call)], lambda: scores(torch.float64), BF16)

    return make


def top_k(t, entries):
    def make(torch, device):
        scores = Formats(torch, device).normal(t, entries, dtype=torch.float32)
        best = lambda: scores.sort(-1, descending=True).values[:, :TOP_K]

        class Places(Case):
            def error(self, out):
                return super().error(scores.gather(1, out))

        call = lambda: torch.topk(scores, TOP_K).indices
        return Places([("topk, which leaves ties open", True, call)], best, 0.0)

    return make


def hyper_pre(t):
    def make(torch, device):
        f, n = Formats(torch, device), STREAMS
        streams = f.normal(t, n, HIDDEN)
        mixer = f.normal(n * (2 + n), n * HIDDEN, std=(n * HIDDEN) ** -0.5, dtype=torch.float32)
        base = f.normal(n * (2 + n), dtype=torch.float32)

        def collapse(dtype):
            x = streams.to(dtype)
            flat = x.flatten(1)
            mix = torch.nn.functional.linear(flat, mixer.to(dtype)) * torch.rsqrt(flat.square().mean(-1, True) + EPS)
            part, bias = mix.split([n, n, n * n], -1), base.to(dtype).split([n, n, n * n])
            pre = torch.sigmoid(part[0] + bias[0]) + EPS
            post = 2 * torch.sigmoid(part[1] * 0.5 + bias[1])
            comb = torch.softmax((part[2] * 1.5 + bias[2]).view(t, n, n), -1) + EPS
            comb = comb / (comb.sum(-2, keepdim=True) + EPS)
            for _ in range(19):
                comb = comb / (comb.sum(-1, keepdim=True) + EPS)
                comb = comb / (comb.sum(-2, keepdim=True) + EPS)
            return (pre[..., None] * x).sum(1).to(torch.bfloat16), post, comb

        call = lambda: collapse(torch.float32)
        return Case([("F.linear, Sinkhorn as a loop", True, call)], lambda: collapse(torch.float64), BF16)

    return make


def hyper_post(t):
    def make(torch, device):
        f, n = Formats(torch, device), STREAMS
        y, streams = f.normal(t, HIDDEN), f.normal(t, n, HIDDEN)
        post, comb = f.normal(t, n, dtype=torch.float32), f.normal(t, n, n, std=0.25, dtype=torch.float32)
        mixed = lambda d: torch.einsum("tjk,tjd->tkd", comb.to(d), streams.to(d)) + post.to(d)[..., None] * y.to(d)[:, None]
        call = lambda: mixed(torch.float32).to(torch.bfloat16)
        return Case([("einsum in f32", True, call)], lambda: mixed(torch.float64), BF16)

    return make


def rms_norm(rows, d, weighted):
    def make(torch, device):
        f = Formats(torch, device)
        x, weight = f.normal(rows, d), f.normal(d) if weighted else None
        wide = lambda: x.double() * torch.rsqrt(x.double().square().mean(-1, True) + EPS) * (weight.double() if weighted else 1)
        name = "F.rms_norm" if weighted else "F.rms_norm, without roundings between steps"
        return Case([(name, True, lambda: torch.nn.functional.rms_norm(x, (d,), weight, EPS))], wide, BF16)

    return make


def to_e4m3(t):
    def make(torch, device):
        f = Formats(torch, device)
        x = f.normal(t, HIDDEN)

        class Decoded(Case):
            def error(self, out):
                return super().error(f.decode_e4m3(*out))

        # Half a step of e4m3 beside the largest value.
        return Decoded([("amax, exp2, to(e4m3)", True, lambda: f.round_e4m3(x))], lambda: x, 2**-4)

    return make


def to_e2m1(t):
    def make(torch, device):
        f = Formats(torch, device)
        x = f.normal(t * HEADS, INDEX_DIM)
        # Between two codes; where the lower is odd a tie goes up.
        between = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0], device=device)
        between[1::2] = torch.nextafter(between[1::2], torch.zeros_like(between[1::2]))

        def rounded():
            blocks = x.float().unflatten(-1, (-1, 32))
            largest = blocks.abs().amax(-1, keepdim=True).clamp(min=6 * 2.0**-126)
            scales = torch.exp2(torch.ceil(torch.log2(largest / 6)))
            scaled = (blocks / scales).flatten(-2)
            codes = torch.bucketize(scaled.abs(), between, out_int32=True) | (torch.signbit(scaled).int() << 3)
            return (codes[..., ::2] | codes[..., 1::2] << 4).to(torch.uint8), scales.squeeze(-1)

        class Decoded(Case):
            def error(self, out):
                return super().error(f.decode_e2m1(*out))

        return Decoded([("amax, exp2, bucketize, pack", True, rounded)], lambda: x, 2**-2)

    return make


def newton_schulz(n, m):
    def make(torch, device):
        g = Formats(torch, device).normal(n, m, dtype=torch.float32)

        def iterate(x):
            x = x / x.norm()
            for a, b, c in NEWTON_SCHULZ:
                square = x @ x.T
                x = a * x + (b * square + c * square @ square) @ x
            return x

        return Case([("matmul in f32", True, lambda: iterate(g))], lambda: iterate(g.double()), 1e-3)

    return make


def cases():
    """Each benchmark's operation, shape, and what makes the case, or why torch has nothing equal."""
    for t in [1, 16, 128, 512]:
        yield "linear", f"square_f32/t{t}", plain_linear(t, "float32")
    for t in [1, 16]:
        yield "linear", f"wq_b/t{t}", scaled_linear(t, HEADS * HEAD_DIM, 1024)
        yield "linear", f"wo_a/t{t}", grouped_linear(t)
        yield "linear", f"wo_b/t{t}", scaled_linear(t, HIDDEN, 8192)
        yield "linear", f"square/t{t}", plain_linear(t, "bfloat16")
    for t in [1, 32]:
        yield "expert_gemm", f"gate/t{t}", expert_gemm(t)
    for t in [1, 16]:
        yield "expert_ffn", f"served/t{t}", expert_ffn(t)
        yield "sparse_attention", f"window/t{t}", sparse_attention(t, 0, 0)
        yield "sparse_attention", f"csa-16k/t{t}", sparse_attention(t, 4096, TOP_K)
    yield "sparse_attention", "hca-1m/t1", sparse_attention(1, 8192, 8192)
    for context, t, entries in [("16k", 1, 4096), ("16k", 16, 4096), ("256k", 1, 65536)]:
        yield "index_scores", f"{context}/t{t}", index_scores(t, entries)
    for context, t, entries in [("16k", 1, 4096), ("16k", 128, 4096), ("1m", 1, 262144)]:
        yield "top_k", f"{context}/t{t}", top_k(t, entries)
    for t in [1, 512]:
        for kind in ["csa", "hca", "indexer"]:
            yield "kv_compress", f"{kind}/t{t}", "pooling with state carried from call to call"
        yield "hyper_pre", f"t{t}", hyper_pre(t)
        yield "hyper_post", f"t{t}", hyper_post(t)
        yield "rms_norm", f"sublayer/t{t}", rms_norm(t, HIDDEN, True)
        yield "rms_norm", f"heads/t{t}", rms_norm(t * HEADS, HEAD_DIM, False)
        yield "quantize", f"activations/t{t}", to_e4m3(t)
        yield "quantize", f"queries/t{t}", to_e2m1(t)
    for n, m in [(128, 256), (256, 512)]:
        yield "newton_schulz", f"n{n}-m{m}", newton_schulz(n, m)
