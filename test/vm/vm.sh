#!/usr/bin/env bash
# Runs the compiled tests of test/vm in a virtual machine whose kernel has SM3 and SM4
# (run.sh). Where that cannot be had it says SKIP and why, and succeeds.
#
# usage: vm.sh TEST-BINARY [ARGUMENT...]      arguments of the test binary; the gateway
#                                            under test lies beside it
# AVX=1 shows the guest's CPU with AVX2, so that the kernel's AVX drivers carry the
# traffic: slow in an emulated machine. LIMIT=1500 are the seconds that it may take.
set -eu -o pipefail

here=$(dirname "$(realpath "$0")")
binary=$(realpath "$1")
shift

skip() { echo "SKIP kernel data plane: $*"; exit 0; }
[ "$(id -u)" = 0 ] || skip 'not root'
[ "$(uname -m)" = x86_64 ] || skip 'the virtual machine is only for x86_64'
grep -q '^VERSION_CODENAME=bookworm' /etc/os-release 2>/dev/null ||
	skip 'the virtual machine is made of packages of Debian 12; this is another system'
command -v apt-get >/dev/null || skip 'apt-get is not installed'

echo "vm: preparing the virtual machine (the first time this fetches a kernel and compiles SM3 and SM4 for it)"
"$here/run.sh" -P || skip 'the virtual machine could not be prepared; see above'

YUMEN_BIN=${YUMEN_BIN:-$(dirname "$binary")/yumen}
[ -x "$YUMEN_BIN" ] || YUMEN_BIN=''
YUMEN_CONFIGS=$(realpath "$here/../../configs")
export YUMEN_BIN YUMEN_CONFIGS
options=(-t "${LIMIT:-1500}" -e YUMEN_VM=1 -e YUMEN_BIN -e YUMEN_CONFIGS -C /)
[ -z "${AVX-}" ] || options+=(-u max)
log=$(mktemp)
trap 'rm -f "$log"' EXIT
run() {
	echo "vm: booting"
	"$here/run.sh" "${options[@]}" -- "$binary" -test.v -test.timeout "${LIMIT:-1500}s" "$@"
}
run "$@" 2>&1 | tee "$log" && exit 0

# An emulated machine is slow, and slower beside others: what failed runs once more,
# alone, and counts when it fails again. A boot that ended before its end is made anew.
failed=$(sed -n 's/^--- FAIL: \([A-Za-z0-9_]*\).*/\1/p' "$log" | paste -sd '|')
if [ -z "$failed" ] || grep -q '^panic: ' "$log"; then
	echo "failed once; trying again: everything"
	run "$@"
else
	echo "failed once; trying again: $failed"
	run -test.run "^($failed)\$"
fi
