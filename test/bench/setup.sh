#!/usr/bin/env bash
# Builds wireguard-go into build/, as a Go module, and installs strongSwan and what
# else the comparison needs from Debian. What cannot be had is not measured.
set -u
cd "$(dirname "$0")/../.."
mkdir -p build
[ -x build/wireguard ] ||
	GOBIN=$PWD/build CGO_ENABLED=0 go install golang.zx2c4.com/wireguard@v0.0.0-20260522210424-ecfc5a8d5446 ||
	echo "bench: wireguard-go could not be built; its row will not be measured" >&2
test/setup.sh test || echo "bench: not everything could be installed" >&2
