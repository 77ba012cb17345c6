#!/usr/bin/env bash
# Installs what the demo or the tests need, where it is missing (Debian, root).
set -eu
want=$1

if ! command -v go >/dev/null; then
	echo "setup: Go is not installed; https://go.dev/doc/install, version $(sed -n 's/^go //p' go.mod) or newer" >&2
	exit 1
fi

missing=()
need() { # need COMMAND|PATH PACKAGE
	command -v "$1" >/dev/null || [ -e "$1" ] || missing+=("$2")
}
need ip iproute2
need ping iputils-ping
need sysctl procps
need tcpdump tcpdump
need nft nftables
if [ "$want" = test ]; then
	need keepalived keepalived
	need qemu-aarch64-static qemu-user-static
	need tshark tshark
	need openssl openssl
	need ike-scan ike-scan
	need /usr/lib/ipsec/charon strongswan-charon
	need swanctl strongswan-swanctl
	need /usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so libcharon-extra-plugins
	need /usr/lib/ipsec/plugins/libstrongswan-vici.so strongswan-swanctl
	need /usr/share/doc/libstrongswan-standard-plugins libstrongswan-standard-plugins
	need /usr/lib/python3/dist-packages/scapy python3-scapy
	need /usr/lib/python3/dist-packages/cryptography python3-cryptography
fi
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	echo "setup: please install: ${missing[*]}" >&2
	exit 0 # what needs them says so in a SKIP line
fi
echo "setup: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# An IKE daemon that only tests need must not run on this host: no service is
# started by its installation, nor at the next boot.
if [ ! -e /usr/sbin/policy-rc.d ]; then
	printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
	chmod 755 /usr/sbin/policy-rc.d
	trap 'rm -f /usr/sbin/policy-rc.d' EXIT
fi
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
case " ${missing[*]} " in
*" strongswan-charon "*)
	command -v systemctl >/dev/null && systemctl disable strongswan-starter >/dev/null 2>&1 || true
	;;
esac
