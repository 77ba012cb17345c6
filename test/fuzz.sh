#!/usr/bin/env bash
# Runs every fuzz target of the tree for FUZZTIME.
set -eu
time=${FUZZTIME:-5000x}
grep -rl --include='*_test.go' '^func Fuzz' cmd esp ike policy test | sort | while read -r file; do
	folder=./$(dirname "$file")
	sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$file" | while read -r target; do
		echo "fuzz $folder $target $time"
		${GO:-go} test "$folder" -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 10x -parallel 2 >/tmp/fuzz.$$ 2>&1 ||
			{ cat /tmp/fuzz.$$; rm -f /tmp/fuzz.$$; exit 1; }
		rm -f /tmp/fuzz.$$
	done
done
