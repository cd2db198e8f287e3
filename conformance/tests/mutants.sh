#!/usr/bin/env bash
# Changes one line of a kernel of backends/cpu at a time and counts how often the quick profile notices.
#   conformance/tests/mutants.sh [COUNT [SEED]]     120 mutants, drawn by seed 1; about 10 s each
# Works on a copy of the last commit: the tree stays as it is. Exit code 1 where less than 95 % of the viable ones are caught.
set -euo pipefail
count=${1:-120} seed=${2:-1}
root=$(cd "$(dirname "$0")/../.." && pwd)
command -v cargo-mutants >/dev/null || cargo install cargo-mutants --locked
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git clone -q "$root" "$copy/tree"
cd "$copy/tree"
of_kernels=(-p anychip-cpu -f 'backends/cpu/src/ops/*.rs')
# yes SEED is as good a stream of bytes as any, and the same on every machine.
mapfile -t drawn < <(cargo mutants --list "${of_kernels[@]}" | shuf -n "$count" --random-source=<(yes "$seed"))
if [ ${#drawn[@]} -eq 0 ]; then echo "no mutant was drawn: COUNT must be at least 1, got $count" >&2; exit 2; fi
chosen=()
for name in "${drawn[@]}"; do
  chosen+=(--re "^$(sed 's/[][\.*^$(){}?+|/]/\\&/g' <<<"$name")\$")
done
cargo test -p anychip-conformance --test devices --no-run
# Missed mutants are exit code 2 of cargo-mutants, timeouts 3: both are counted below.
cargo mutants "${of_kernels[@]}" "${chosen[@]}" --in-place --baseline=skip --timeout 90 --build-timeout 300 -o "$copy" \
  --test-package anychip-conformance -- --test devices -- --exact cpu_passes cpu_passes_with_sixteen_threads || true
cd "$copy/mutants.out"
caught=$(cat caught.txt timeout.txt | wc -l) missed=$(wc -l <missed.txt)
echo "caught $caught of $((caught + missed)) viable mutants; missed:"
cat missed.txt
((caught + missed > 0 && caught * 100 >= (caught + missed) * 95))
