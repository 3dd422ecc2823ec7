#!/usr/bin/env bash
# Does the package reach its goals on this GPU? Measures for five minutes at most, and prints one table.
#
#   bash benchmarks/speed/gpu_check.sh [--rehearse] [FOLDER]
#
# FOLDER gets the reports, gpu_check by default. --rehearse: tiny models on a CPU, which shows that every row can be
# had. PYTHON names the interpreter that has gengram installed. Nothing is fetched. From a wheel:
#   bash "$(python -c 'import gengram.benchmarks.speed as s; print(s.__path__[0])')/gpu_check.sh"
set -u

LIMIT=300  # seconds of everything
TABLE=15   # of them, for the table
rehearse=
folder=gpu_check
for word in "$@"; do
    case $word in
        --rehearse) rehearse=--rehearse ;;
        -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
        -*) echo "gpu_check.sh: there is no $word; it takes --rehearse and a folder" >&2; exit 2 ;;
        *) folder=$word ;;
    esac
done
python=${PYTHON:-python}
command -v "$python" > /dev/null || python=python3
if [[ $python == */* ]]; then python=$(cd "$(dirname "$python")" && pwd)/$(basename "$python"); fi
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$folder" && cd "$folder" || exit 1
for part in doctor tests memory generation step big_bird embedding compiled; do  # of an earlier run, and nothing else
    rm -f {,trial/}"$part".{json,end,log}
done
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}"
check="gengram.benchmarks.speed.gpu_check"

# run NAME SECONDS COMMAND...: at most so long, and not beyond the end; what it says goes to NAME.log
run() {
    local name=$1 seconds=$2 rest=$((LIMIT - TABLE - SECONDS)) code
    shift 2
    if ((seconds > rest)); then seconds=$rest; fi
    if ((seconds < 5)); then echo "not begun, the time is over" > "$name.end"; return; fi
    echo "$name, up to $seconds s ..." >&2
    timeout -k 3 "$seconds" "$@" > "$name.log" 2>&1
    code=$?
    case $code in
        0) echo "ended" > "$name.end" ;;
        124 | 137) echo "stopped after $seconds s" > "$name.end" ;;
        *) echo "exit code $code" > "$name.end" ;;
    esac
}
trap 'jobs=$(jobs -p); [[ -z $jobs ]] || kill $jobs 2> /dev/null' EXIT

if [[ -n $rehearse ]]; then
    step=(--scale 0.04 --batch 1 --length 64 --device cpu --rounds 2)
    tests=(tests/modeling_gengram/test_kmer_index.py)
else
    step=(--device cuda --dtype bfloat16 --rounds 3)
    tests=(-m gpu tests)
fi

# First what is not timed, all at once. Much of it is compiling, and what is compiled is kept: so are parts that
# compile, for which this is a trial.
run doctor 110 "$python" -m gengram.cli doctor --quiet --json doctor.json &
if [[ -d $here/../../tests ]]; then
    run tests 110 env -C "$here/../.." "$python" -m pytest -v -p no:cacheprovider "${tests[@]}" &
else
    echo "no tests beside this script: run it from a checkout" > tests.end
fi
if [[ -z $rehearse ]]; then
    for part in memory generation compiled; do
        mkdir -p trial
        run trial/$part 110 "$python" -m $check $part trial &
    done
fi
wait

run memory 50 "$python" -m $check memory . $rehearse
run generation 45 "$python" -m $check generation . $rehearse
run step 40 "$python" -m gengram.cli bench --step 1.2b-moe-gqa --no_compiled "${step[@]}" --quiet --json step.json
run big_bird 35 "$python" -m $check big_bird . $rehearse
run embedding 35 "$python" -m $check embedding . $rehearse
run compiled 120 "$python" -m $check compiled . $rehearse
[[ ! -f tests.log ]] || "$python" -m $check summary .

echo
"$python" -m $check table . $rehearse
echo "$SECONDS s; the reports are in $folder"
