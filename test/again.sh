#!/usr/bin/env bash
# go test with these arguments. Tests that failed run once more, alone: they hold
# real daemons to seconds, on a machine that may be busy with something else, so a
# failure counts when it comes twice. The first one is shown too.
set -u -o pipefail
log=$(mktemp)
trap 'rm -f "$log"' EXIT
${GO:-go} test "$@" 2>&1 | tee "$log" && exit 0

# Of each package that failed: its name, and its failed tests as one pattern. One
# that ended before its end runs whole.
failed=$(awk '
	/^--- FAIL: / { tests = tests (tests == "" ? "" : "|") $3 }
	/^panic: / { ended = 1 }
	/^(ok  |FAIL)\t/ {
		if ($1 == "FAIL") print $2, (ended || tests == "" ? "." : "^(" tests ")$")
		tests = ended = ""
	}' "$log")
test -n "$failed" || exit 1
flags=()
for arg; do case $arg in ./*) ;; *) flags+=("$arg") ;; esac; done
status=0
while read -r package tests; do
	echo "failed once; trying again: $package $tests"
	${GO:-go} test "${flags[@]}" -run "$tests" "$package" </dev/null || status=1
done <<<"$failed"
exit $status
