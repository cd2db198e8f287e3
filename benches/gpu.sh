#!/usr/bin/env bash
# Judges and measures the GPU of this machine: conformance, the benchmarks at V4-Flash's sizes, the same in torch where there
# is torch with CUDA, and the ceilings that all of it is to be seen against. One JSON document and one table.
#
#   benches/gpu.sh                     docs/results/NAME-OF-THE-GPU.json and .md
#   benches/gpu.sh --quick             fewer runs of each benchmark
#   benches/gpu.sh --full              the full conformance profile, and rows that take the oracle minutes
#   benches/gpu.sh --only linear/wq_b  what begins so, and the conformance of that operation
#   benches/gpu.sh --limit 800         stages that begin later are skipped, a running one is stopped: in seconds
#   benches/gpu.sh --out FILE          FILE.json and FILE.md
#   benches/gpu.sh --device wgpu:1     not the first NVIDIA GPU
#   benches/gpu.sh --any               any Vulkan adapter, also in software
#   benches/gpu.sh --python PYTHON     the interpreter that has torch (default: python3)
#   benches/gpu.sh --torch-device cpu  torch on the CPU: tries the script, gives no ratios
#   benches/gpu.sh --torch-compile     torch.compile as well: some ten minutes more
#   benches/gpu.sh --pack DIR          builds, and puts what a machine without network or cargo needs into DIR: run DIR/gpu.sh
#   benches/gpu.sh --bin DIR           the programs of such a folder
#
# Exit codes: 0 all passed, 1 something failed or the limit cut it, 2 could not run, 130 stopped by a signal, which leaves
# FILE.partial.json and .md.
set -euo pipefail
export LC_ALL=C PATH=$PATH:/usr/sbin:/sbin
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# What matters most comes first: a limit cuts from the end.
ops=(linear expert_ffn expert_gemm sparse_attention index_scores top_k hyper_pre hyper_post rms_norm quantize kv_compress newton_schulz)

cannot() { # CAUSE MEND
  printf 'error: %s; %s\n' "$1" "$2" >&2
  exit 2
}

quick='' full='' only='' limit=0 out='' device='' any='' python=python3 torch_device=cuda torch_compile='' pack='' bin=''
[ ! -x "$here/gpu-report" ] || bin=$here
value() { [ $# -ge 2 ] || cannot "$1 wants a value" "see the head of benches/gpu.sh"; }
while [ $# -gt 0 ]; do
  case $1 in
    --quick | --full | --any) declare "${1#--}=yes"; shift ;;
    --torch-compile) torch_compile=yes; shift ;;
    --only | --limit | --out | --device | --python | --pack | --bin) value "$@"; declare "${1#--}=$2"; shift 2 ;;
    --torch-device) value "$@"; torch_device=$2; shift 2 ;;
    -h | --help) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit 0 ;;
    *) cannot "unknown option $1" "see benches/gpu.sh --help" ;;
  esac
done
case $limit in *[!0-9]* | '') cannot "--limit $limit is no number of seconds" "write it as 800" ;; esac
limit=$((10#$limit))

work=$(mktemp -d) || cannot "no temporary folder can be made" "set TMPDIR to one with room"
child='' stage='' failed=''
clean() { [ -z "$work" ] || rm -rf "$work"; }
trap clean EXIT
now() { date +%s%3N; }
begun=$(now)

# Programs ---------------------------------------------------------------------------------------------------------------

build() { # into $1, under the names without hashes
  command -v cargo >/dev/null ||
    cannot "there is no cargo" "install Rust 1.90 or newer, or build elsewhere with --pack DIR and run DIR/gpu.sh here"
  local root built name
  root=$(cd "$here/.." && pwd)
  # One build: two would choose different features of what they share, and build it twice.
  built=$(cd "$root" && cargo build --release --locked -p anychip -p anychip-bench --bin anychip --bin gpu-report \
    "${ops[@]/#/--bench=}" --message-format=json) || cannot "the build failed" "see above"
  mkdir -p "$1"
  while read -r path; do
    name=$(basename "$path" | sed -E 's/-[0-9a-f]{16}$//')
    if [ -z "$pack" ]; then ln -s "$path" "$1/$name"; continue; fi
    cp "$path" "$1/$name"
    ! command -v strip >/dev/null || strip "$1/$name" || true
  done < <(sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' <<<"$built")
}

if [ -n "$pack" ]; then
  { mkdir -p "$pack" && : >"$pack/commit"; } 2>/dev/null || cannot "cannot write into $pack" "name a folder that may be written"
  build "$pack"
  cp "$here/gpu.sh" "$here"/gpu_torch*.py "$pack/"
  git -C "$here" describe --always --dirty >"$pack/commit" 2>/dev/null || true
  echo "$pack: $(du -sh "$pack" | cut -f1); take it to the machine and run gpu.sh in it"
  exit 0
fi
built_ms=0
if [ -z "$bin" ]; then
  bin=$work/bin
  build "$bin"
  built_ms=$(($(now) - begun))
fi
for program in gpu-report anychip; do
  [ -x "$bin/$program" ] || cannot "$bin has no $program" "make the folder with benches/gpu.sh --pack"
done

# The adapter ------------------------------------------------------------------------------------------------------------

adapters() { "$bin/gpu-report" adapters || cannot "$bin/gpu-report does not start here" "build on this machine, or on one with its C library or an older one"; }
nvidia_here() { compgen -G '/dev/nvidia[0-9]*' >/dev/null || compgen -G '/proc/driver/nvidia/gpus/*' >/dev/null; }
library() { # NAME: whether the loader finds it, or its path where containers keep the driver
  # To its end: under pipefail a reader that stops early makes the whole fail.
  ldconfig -p 2>/dev/null | grep -F "$1" >/dev/null && echo "$1" && return
  compgen -G "/usr/local/nvidia/lib*/$1" | head -n 1 | grep . || return 1
}
icds() { compgen -G '/usr/share/vulkan/icd.d/*nvidia*.json' || compgen -G '/etc/vulkan/icd.d/*nvidia*.json'; }

own_icd() { # Containers often have the driver's library and not the file that tells Vulkan of it.
  local file lib
  [ -z "${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-}" ] && nvidia_here && ! icds >/dev/null || return 1
  file=$(compgen -G '/usr/local/nvidia/share/vulkan/icd.d/*.json' | head -n 1) || file=''
  if [ -z "$file" ]; then
    lib=$(library libGLX_nvidia.so.0) || lib=$(library libEGL_nvidia.so.0) || return 1
    file=$work/nvidia_icd.json
    printf '{"file_format_version": "1.0.0", "ICD": {"library_path": "%s", "api_version": "1.3.0"}}\n' "$lib" >"$file"
  fi
  echo "note: Vulkan is not told of NVIDIA's driver; using $file"
  export VK_DRIVER_FILES=$file VK_ICD_FILENAMES=$file
}

no_nvidia() {
  local cause="no Vulkan adapter of NVIDIA was found" others="or allow any adapter with --any"
  nvidia_here || cannot "$cause, and no NVIDIA GPU is visible (/dev/nvidia*)" \
    "on a machine with one install its driver (nvidia-smi lists it), in a container pass the GPU on; $others"
  library libvulkan.so.1 >/dev/null || cannot "$cause: there is no Vulkan loader" "install libvulkan1 (Fedora: vulkan-loader)"
  library libGLX_nvidia.so.0 >/dev/null || library libEGL_nvidia.so.0 >/dev/null ||
    cannot "$cause: the driver's graphics libraries are missing (libGLX_nvidia.so.0)" \
      "install libnvidia-gl-VERSION of the driver's version; in a container set NVIDIA_DRIVER_CAPABILITIES=all"
  cannot "$cause, though its driver is here" "install libegl1 libgl1 libxext6, on which it depends, and see that VK_DRIVER_FILES \
is unset or names nvidia_icd.json (${VK_DRIVER_FILES:-unset}) and that the user may open /dev/nvidia*; $others"
}

found=$(adapters)
chosen=''
choose() {
  if [ -n "$device" ]; then
    chosen=$(grep -P "^$device\t" <<<"$found" || [ "$device" != wgpu ] || head -n 1 <<<"$found")
  else
    chosen=$(grep -i nvidia <<<"$found" | head -n 1) || chosen=''
  fi
}
choose
if [ -z "$chosen" ] && [ -z "$device" ] && own_icd; then found=$(adapters); choose; fi
if [ -z "$chosen$device" ] && [ -n "$any" ]; then chosen=$(head -n 1 <<<"$found"); fi
if [ -z "$chosen" ]; then
  if [ -n "$device" ] && [ -n "$found" ]; then cannot "there is no $device" "there are: ${found//$'\t'/ }"; fi
  if [ -n "$any" ]; then
    cannot "no Vulkan driver was found" "install the GPU vendor's, or in software apt-get install --no-install-recommends mesa-vulkan-drivers libvulkan1"
  fi
  no_nvidia
fi
device=${chosen%%$'\t'*} description=${chosen#*$'\t'}
case $description in
  *[Nn][Vv][Ii][Dd][Ii][Aa]*) kind=hardware ;;
  *llvmpipe* | *lavapipe* | *SwiftShader*) kind=software ;;
  *) kind=hardware ;;
esac
if [ -z "$any" ] && ! grep -qi nvidia <<<"$description"; then cannot "$device is $description, not of NVIDIA" "allow it with --any"; fi

# The output -------------------------------------------------------------------------------------------------------------

adapter=${description%%, Vulkan*}
if [ -z "$out" ]; then
  results=$here/../docs/results
  [ -d "$results" ] || results=.
  out=$results/$(tr '[:upper:]' '[:lower:]' <<<"$adapter" | sed -E 's/[^a-z0-9]+/-/g; s/^-|-$//g')${only:+-part}
fi
{ mkdir -p "$(dirname "$out")" && : >"$out.partial.json"; } 2>/dev/null ||
  cannot "cannot write $out.partial.json" "name a folder with room that may be written by --out"
rm -f "$out.partial.json"
driver=none
if grep -qi nvidia <<<"$description" && command -v nvidia-smi >/dev/null; then
  driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1) || driver=unknown
fi
profile=quick
[ -z "$full" ] || profile=full
cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
options=(${quick:+--quick} ${full:+--full} ${any:+--any} ${only:+--only "$only"} ${torch_compile:+--torch-compile})
[ "$limit" = 0 ] || options+=(--limit "$limit")
[ "$torch_device" = cuda ] || options+=(--torch-device "$torch_device")
{
  printf 'device=%s\ndescription=%s\nkind=%s\ndriver=%s\n' "$device" "$description" "$kind" "$driver"
  printf 'options=%s\nprofile=%s\nquick=%s\n' "${options[*]}" "$profile" "${quick:-no}"
  printf 'date=%s\nhost=%s, %s cores\n' "$(date -u +%Y-%m-%d)" "${cpu:-unknown CPU}" "$(nproc)"
  printf 'commit=%s\n' "$(cat "$bin/commit" 2>/dev/null || git -C "$here" describe --always --dirty 2>/dev/null || echo unknown)"
} >"$work/run"

merge() { # OUT
  "$bin/gpu-report" merge "$work" "$1" || { echo "what was measured is kept in $work" >&2; work=''; exit 2; }
}

# Stages -----------------------------------------------------------------------------------------------------------------

stop() {
  trap '' INT TERM
  [ -z "$child" ] || { kill "$child" 2>/dev/null && wait "$child"; } || true
  printf '%s\t%s\tstopped\t\n' "${stage:-start}" 0 >>"$work/stages"
  merge "$out.partial"
  echo "stopped; what was measured: $out.partial.json and .md" >&2
  exit 130
}
trap stop INT TERM

note_stage() { # NAME MS STATUS NOTE
  printf '%s\t%d.%03d\t%s\t%s\n' "$1" $(($2 / 1000)) $(($2 % 1000)) "$3" "$4" >>"$work/stages"
  printf -- '-- %s: %s in %d.%01d s%s\n' "$1" "$3" $(($2 / 1000)) $(($2 % 1000 / 100)) "${4:+ ($4)}"
}

stage() { # NAME COMMAND...
  stage=$1; shift
  local since code=0 status=passed note='' left
  since=$(now)
  printf '\n== %s\n' "$stage"
  left=$((limit - (since - begun - built_ms) / 1000))
  if [ "$limit" -gt 0 ] && [ $left -le 0 ]; then
    failed=yes
    note_stage "$stage" 0 stopped "no time left of $limit s"
    return
  fi
  # In the background, or a signal would have to wait for its end.
  if [ "$limit" -gt 0 ]; then timeout -k 5 "$left" "$@" & else "$@" & fi
  child=$!
  wait "$child" || code=$?
  child=''
  case $code in
    0) ;;
    3) status=skipped note='see above' ;;
    124 | 137)
      failed=yes status=crashed note="exit code $code"
      if [ "$limit" -gt 0 ] && [ $((($(now) - since) / 1000)) -ge "$left" ]; then
        status=stopped note="at the limit of $limit s"
      fi
      ;;
    12[89] | 1[3-9]? | 2??) failed=yes status=crashed note="exit code $code" ;;
    *) status=failed note="exit code $code" failed=yes ;;
  esac
  note_stage "$stage" $(($(now) - since)) "$status" "$note"
  merge "$out.partial"
}

echo "$device: $description"
[ "$built_ms" = 0 ] || note_stage build "$built_ms" passed ''

stage conformance "$bin/anychip" conformance --device "$device" --profile "$profile" ${only:+--op "${only%%/*}"} \
  --json "$work/conformance.json"

stage ceilings "$bin/gpu-report" ceilings "$device" "$work/ceilings.json"

runs=(--runs 50 --seconds 0.3)
[ -z "$quick" ] || runs=(--runs 20 --seconds 0.1)
if command -v "$python" >/dev/null; then
  stage torch "$python" -B "$here/gpu_torch.py" --out "$work/torch.jsonl" --match "$adapter" --torch-device "$torch_device" \
    --only "$only" "${runs[@]}" ${torch_compile:+--compile}
else
  echo '{"absent": "there is no '"${python//\"/}"'"}' >"$work/torch.jsonl"
  note_stage torch 0 skipped "there is no $python"
fi

export ANYCHIP_BENCH_DEVICE=$device ANYCHIP_BENCH_REPORT=$work/bench.jsonl CRITERION_HOME=$work/criterion
times=(--sample-size 20 --warm-up-time 0.5 --measurement-time 1.5)
[ -z "$quick" ] || times=(--sample-size 10 --warm-up-time 0.2 --measurement-time 0.4)
for op in "${ops[@]}"; do
  [ -z "$only" ] || [ "${only%%/*}" = "$op" ] || continue
  filter=$only
  # Rows that the oracle multiplies within half a minute.
  [ -n "$only$full" ] || [ "$op" != linear ] || filter='/t(1|16|128)/'
  if [ ! -x "$bin/$op" ]; then
    failed=yes
    note_stage "bench $op" 0 missing "$bin has no $op"
    continue
  fi
  stage "bench $op" "$bin/$op" --bench --noplot "${times[@]}" ${filter:+"$filter"}
done

if [ ! -s "$work/bench.jsonl" ]; then
  failed=yes
  echo "no benchmark ran${only:+: none begins with $only}" >&2
fi
stage=merge
echo ended=yes >>"$work/run"
merge "$out"
rm -f "$out.partial.json" "$out.partial.md"
printf '\n%s s in all: %s.json and .md\n' $((($(now) - begun) / 1000)) "$out"
[ -z "$failed" ]
