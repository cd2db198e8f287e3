#!/usr/bin/env python3
"""The operations of the benchmarks, at their shapes, as a user of torch would write them: for benches/gpu.sh.

Each variant is compared with a float64 reference before it is timed. Runs are timed as anychip's are: one is queued, with
events of the GPU around it, and waited for. A short wait on the GPU comes before, so that what torch's launches cost on the
host is hidden from the events as far as a user could hide it; where a variant can be captured as a CUDA graph, that is timed
as well. Lines of JSON go to the file of --out: {"device"}, {"ceiling"}, {"row"} or {"absent"}. Exit code 3: no torch here.
"""

import argparse
import json
import sys
import time

import gpu_torch_ceilings
import gpu_torch_ops as ops

ABSENT = 3


class Lines:
    """The output, a whole line at a time: whatever stops this, what was measured is there."""

    def __init__(self, path):
        self.file = open(path, "w", encoding="utf-8") if path else None

    def write(self, kind, value):
        if self.file:
            self.file.write(json.dumps({kind: value}, allow_nan=False) + "\n")
            self.file.flush()


def spread(seconds):
    """Quartiles of times, in nanoseconds, by nearest rank as in record.rs."""
    ordered = sorted(seconds)
    at = lambda part: ordered[int(part * (len(ordered) - 1) + 0.5)] * 1e9
    return {"runs": len(ordered), "least_ns": at(0), "q1_ns": at(0.25), "median_ns": at(0.5), "q3_ns": at(0.75)}


class HostTimer:
    clock = "host"

    def __init__(self, torch, options):
        self.options = options

    def graph(self, call):
        return None

    def time(self, call):
        begun = time.perf_counter()
        call()
        once = time.perf_counter() - begun
        runs = max(3, min(self.options.runs, int(self.options.seconds / max(once, 1e-6))))
        times = []
        for _ in range(runs):
            begun = time.perf_counter()
            call()
            times.append(time.perf_counter() - begun)
        return spread(times)


class CudaTimer:
    clock = "device"

    def __init__(self, torch, options):
        self.torch, self.options = torch, options

    def graph(self, call):
        """The call as one CUDA graph; raises where torch cannot capture it."""
        cuda = self.torch.cuda
        side = cuda.Stream()
        side.wait_stream(cuda.current_stream())
        with cuda.stream(side):
            call()
        cuda.current_stream().wait_stream(side)
        graph = cuda.CUDAGraph()
        with cuda.graph(graph):
            kept = call()

        def replay():
            graph.replay()
            return kept

        return replay

    def time(self, call):
        cuda = self.torch.cuda
        call()
        cuda.synchronize()
        begun = time.perf_counter()
        call()
        launched = time.perf_counter() - begun
        cuda.synchronize()
        once = time.perf_counter() - begun
        runs = max(5, min(self.options.runs, int(self.options.seconds / max(once, 1e-6))))
        # Some 1.5e9 cycles a second; a wait that is too long costs only time.
        cycles = int(min(2 * launched + 50e-6, 10e-3) * 2e9)
        times = []
        for at in range(runs + runs // 4):
            start, end = (cuda.Event(enable_timing=True) for _ in range(2))
            if hasattr(cuda, "_sleep"):
                cuda._sleep(cycles)
            start.record()
            call()
            end.record()
            cuda.synchronize()
            if at >= runs // 4:
                times.append(start.elapsed_time(end) / 1e3)
        return spread(times)


def why(error):
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else ''}"[:200]


def judged(call, case, timer):
    """A variant's fields: its error and time, or why it has none."""
    try:
        error = case.error(call())
    except Exception as refused:  # whatever torch lacks here is an answer
        return {"failed": why(refused)}
    if not error <= case.tolerance:
        return {"error": error if error < float("inf") else None, "failed": f"wrong: {error:.3g} of the largest value"}
    try:
        return {"error": error, "spread": timer.time(call)}
    except Exception as refused:
        return {"error": error, "failed": why(refused)}


def variants(torch, case, timer, options):
    for name, equal, call in case.variants:
        forms = [(name, lambda: call)]
        if timer.clock == "device":
            forms.append((f"{name}, CUDA graph", lambda: timer.graph(call)))
        if options.compile:
            forms.append((f"{name}, torch.compile", lambda: torch.compile(call, dynamic=False)))
        for form, make in forms:
            fields = {"name": form, "equal": equal, "error": None, "failed": None, "spread": None}
            try:
                made = make()
            except Exception as refused:
                yield fields | {"failed": why(refused)}
                continue
            yield fields | judged(made, case, timer)


def measure(torch, device, timer, options, lines):
    for ceiling in gpu_torch_ceilings.all_of(torch, device):
        fields = judged(ceiling.call, ceiling, timer)
        if fields.get("spread"):
            known = {name: getattr(ceiling, name) for name in ("kind", "format", "size", "work")}
            lines.write("ceiling", known | {"clock": timer.clock} | fields["spread"])
            rate = ceiling.work / fields["spread"]["median_ns"]
            print(f"{ceiling.kind} {ceiling.format}: {rate:.1f} G/s", flush=True)
        else:
            print(f"{ceiling.kind} {ceiling.format}: {fields['failed']}", flush=True)
    for op, shape, make in ops.cases():
        if not f"{op}/{shape}/".startswith(options.only):
            continue
        row = {"op": op, "shape": shape, "none": None, "variants": []}
        if isinstance(make, str):
            row["none"] = make
        else:
            try:
                case = make(torch, device)
                row["variants"] = list(variants(torch, case, timer, options))
                del case
            except Exception as refused:  # memory, most likely: the next shape has its own
                row["none"] = f"its operands could not be made: {why(refused)}"
            if timer.clock == "device":
                torch.cuda.empty_cache()
        lines.write("row", row)
        timed = [v["spread"]["median_ns"] / 1e3 for v in row["variants"] if v["spread"]]
        print(f"{op}/{shape}: {min(timed):.1f} us at best" if timed else f"{op}/{shape}: no time", flush=True)


def find(torch, options):
    """The device, what the report says of it, and the timer; a text where there is none."""
    if options.torch_device == "cpu":
        return "cpu", {"name": "cpu", "same": False}, HostTimer(torch, options)
    if not torch.cuda.is_available():
        return "torch sees no CUDA device", None, None
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    wanted = options.match
    found = [i for i, name in enumerate(names) if not wanted or name in wanted or wanted in name]
    if not found:
        return f"torch's devices ({', '.join(names)}) are not {wanted}", None, None
    torch.cuda.set_device(found[0])
    return f"cuda:{found[0]}", {"name": names[found[0]], "same": True}, CudaTimer(torch, options)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", help="file for the lines of JSON")
    parser.add_argument("--only", default="", help="beginning of OP/SHAPE")
    parser.add_argument("--match", default="", help="name of the adapter that the GPU must be")
    parser.add_argument("--torch-device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=0.5, help="for the runs of one variant, about")
    parser.add_argument("--compile", action="store_true", help="torch.compile as well: half a minute for a shape")
    parser.add_argument("--list", action="store_true", help="print the shapes; needs no torch")
    options = parser.parse_args()
    if options.list:
        print("\n".join(f"{op}/{shape}" for op, shape, _ in ops.cases()))
        return 0
    lines = Lines(options.out)
    try:
        import torch
    except Exception as refused:
        device, about = f"torch cannot be imported ({why(refused)})", None
    else:
        torch.set_float32_matmul_precision("highest")
        torch.manual_seed(0)
        device, about, timer = find(torch, options)
    if about is None:
        lines.write("absent", device)
        print(f"SKIPPED: {device}")
        return ABSENT
    lines.write("device", about | {"version": torch.__version__, "clock": timer.clock})
    print(f"torch {torch.__version__} on {about['name']}", flush=True)
    with torch.inference_mode():
        measure(torch, device, timer, options, lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
