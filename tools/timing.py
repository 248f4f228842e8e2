"""What the PyTorch benchmarks share: their options, timing and printing."""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch


def parser(description: str, warmup: int, runs: int) -> argparse.ArgumentParser:
    """Options that every benchmark has; `description` is a module's, of which the first line is shown."""
    result = argparse.ArgumentParser(description=description.splitlines()[0])
    result.add_argument("--device", default="cpu", help="cpu, cuda or mps")
    result.add_argument("--threads", type=int, default=2, help="of the processor")
    result.add_argument("--warmup", type=int, default=warmup, help="runs that do not count")
    result.add_argument("--runs", type=int, default=runs)
    result.add_argument("--json", action="store_true", help="print JSON objects, one a line")
    return result


def begin(args: argparse.Namespace) -> None:
    """Fixes threads, seed, and where new tensors lie."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    torch.set_default_device(args.device)


def wait(device: str) -> None:
    """Waits for what a GPU has been given to do."""
    if device != "cpu":
        getattr(torch, device).synchronize()


def report(what: str, run: Callable[[], object], args: argparse.Namespace, **facts: object) -> None:
    """Times `run` and prints the median and mean of its runs; `facts` go into the JSON object.

    On CUDA the peak of memory during these runs, all tensors of the process, is among them.
    """
    times = []
    if args.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for _ in range(args.warmup + args.runs):
        wait(args.device)
        start = time.perf_counter()
        run()
        wait(args.device)
        times.append((time.perf_counter() - start) * 1e3)
    where = f"{args.threads} threads"
    if args.device == "cuda":
        where = torch.cuda.get_device_name()
        facts["peak_mib"] = torch.cuda.max_memory_allocated() >> 20
        where += f", {facts['peak_mib']} MiB at most"
    elif args.device != "cpu":
        where = args.device
    times = times[args.warmup :]
    result = {
        "what": what,
        "torch": torch.__version__,
        "device": args.device,
        "threads": args.threads,
        "runs": args.runs,
        "median_ms": round(statistics.median(times), 3),
        "mean_ms": round(statistics.fmean(times), 3),
        "least_ms": round(min(times), 3),
        **facts,
    }
    if args.json:
        print(json.dumps(result), flush=True)
    else:
        print(
            f"{what}: median {result['median_ms']} ms, mean {result['mean_ms']} ms, least"
            f" {result['least_ms']} ms ({where})",
            flush=True,
        )
