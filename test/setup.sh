#!/usr/bin/env bash
# Installs what the demo or the tests need, where it is missing (Debian, root).
set -eu
want=$1

if ! command -v go >/dev/null; then
	echo "setup: Go is not installed; https://go.dev/doc/install, version $(sed -n 's/^go //p' go.mod) or newer" >&2
	exit 1
fi

missing=()
need() { # need COMMAND PACKAGE
	command -v "$1" >/dev/null || missing+=("$2")
}
need ip iproute2
need ping iputils-ping
need sysctl procps
need tcpdump tcpdump
if [ "$want" = test ]; then
	need nft nftables
	need tshark tshark
	need openssl openssl
fi
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	echo "setup: please install: ${missing[*]}" >&2
	exit 0 # what needs them says so in a SKIP line
fi
echo "setup: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
