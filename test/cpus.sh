#!/usr/bin/env bash
# Runs the tests of esp on processors that this machine is not, under qemu-user:
# arm64, an x86 with AES-NI and AVX2 only, and one with neither.
set -euo pipefail
build=$PWD/${1:-build}
quick='Example|Batch|EveryLength|GCM|Fuzz'
mkdir -p "$build"

# on FOLDER ARCH EMULATOR CPU [FLAG...]
on() {
	local folder=$1 arch=$2 emulator=$3 cpu=$4 binary=$build/esp.$2.test
	shift 4
	GOARCH=$arch CGO_ENABLED=0 "${GO:-go}" test -c -o "$binary" "./$folder"
	if ! command -v "$emulator" >/dev/null; then
		echo "SKIP: tests of $folder are built for $arch, not run: needs qemu-user-static"
		return
	fi
	echo "$folder on $arch $cpu"
	(cd "$folder" && "$emulator" -cpu "$cpu" "$binary" "$@" 2>&1) | { grep -v "TCG doesn't support" || true; }
}

on esp arm64 qemu-aarch64-static max
on esp/internal/lanes arm64 qemu-aarch64-static max
on esp/internal/lanes amd64 qemu-x86_64-static Haswell -test.run "$quick"
on esp/internal/lanes amd64 qemu-x86_64-static Nehalem -test.run "$quick"
