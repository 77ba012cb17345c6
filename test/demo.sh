#!/usr/bin/env bash
# Runs the demo: on this kernel, or, for PLANE=kernel where this kernel lacks what
# that needs, under one that has it, in a virtual machine.
set -eu
run=(build/demo.bin -suite "$SUITE" -encap "$ENCAP" -icv "$ICV" -plane "$PLANE")
if [ "$PLANE" = kernel ] && ! missing=$(build/demo.bin -probe 2>&1); then
	echo "this kernel cannot: $missing"
	echo "so the demo runs in a virtual machine (emulated, slow)"
	mkdir -p build
	exec test/vm/run.sh -w build -t 900 -- sh -c 'modprobe tun; exec "$@"' sh "${run[@]}" -bulk 1 -patience 180s -sockets /run
fi
exec "${run[@]}"
