"""`python -m scripts.bench`: run all benchmarks and update docs/benchmarks.md.

Each benchmark is a separate program with more options; the settings here keep the total below half an hour on
two CPU cores. Nothing else should run on the machine at the same time.
"""

import os
import subprocess
import sys
import time

MODELS = "mobilenet squeezenet shufflenetv2_1_0 mobilenetv2 densenet_cifar vgg11 resnet18 vit_tiny"
BENCHMARKS = (
    "scripts.bench.step --steps 10 --write",
    "scripts.bench.augment --batches 4 --rounds 3 --write",
    f"scripts.bench.models {MODELS} --against all --steps 3 --batch 16 --write",
    "scripts.bench.tricks --steps 4 --rounds 2 --write",
    "torch.distributed.run --nproc-per-node 2 -m scripts.bench.parallel --steps 10 --write",
    "scripts.bench.packing --batch 32 --steps 4 --rounds 2 --write",
    "scripts.bench.loader --rounds 2 --write",
    "scripts.bench.speed data.fraction=0.1 --epochs 2 --batch 500 --test 2000 --write",
)


def main() -> int:
    rows, began = [], time.perf_counter()
    for words in BENCHMARKS:
        print(f"\npython -m {words}", flush=True)
        start, threads = time.perf_counter(), {}
        if words.startswith("torch.distributed.run"):
            threads = {"OMP_NUM_THREADS": "1"}  # torchrun's default, without its warning
        code = subprocess.call([sys.executable, "-m", *words.split()], env=os.environ | threads)
        rows.append((words, time.perf_counter() - start, code))
    print(f"\n{'minutes':>8}  benchmark")
    for words, seconds, code in rows:
        print(f"{seconds / 60:>8.1f}  {words}{f': failed with exit code {code}' if code else ''}")
    print(f"{(time.perf_counter() - began) / 60:>8.1f}  all; the tables are in docs/benchmarks.md")
    return int(any(code for *_, code in rows))


if __name__ == "__main__":
    sys.exit(main())
