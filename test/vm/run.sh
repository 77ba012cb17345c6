#!/bin/bash
# run.sh - run one command as root under a kernel that has XFRM, ESP, SM3 and SM4.
#
# It boots Debian's own kernel (linux-image-amd64) in QEMU, with the modules that Debian leaves
# out (SM3 and SM4, generic and AVX) compiled from the very same kernel source package by the
# recipe of yumen-sm-dkms (configs/dkms/build-modules).  The
# guest's root is this machine's root, read-only through 9p, under an overlay in the guest's
# memory: every file is visible, nothing the command writes outlives it, except in the folders
# named by -w.  The guest has no network card; namespaces, veth, tun and xfrm are all inside it.
#
# usage: run.sh [option...] [--] COMMAND [ARG...]
#        run.sh [option...] -P              prepare the cache only
#   -C DIR      the command's working folder (default: the current one)
#   -w DIR      share DIR read-write with the guest, at the same path (may be repeated)
#   -e N[=V]    set N in the command's environment, or pass on its value (may be repeated)
#   -c DIR      cache folder (default: $YUMEN_VM_CACHE, else $XDG_CACHE_HOME/yumen-vm)
#   -a MODE     auto, kvm or tcg (default: $YUMEN_VM_ACCEL, else auto)
#   -u CPU      QEMU's CPU model (default: host with kvm, max,-avx,-avx2 with tcg; max
#               there brings the AVX drivers of SM4 and SM3 in)
#   -m MIB      guest memory (default 2048)
#   -n N        guest CPUs (default: those of this machine, at most 4)
#   -t SECONDS  give up after this long, boot included (default 600)
#   -k          copy the guest's kernel log to standard error as it comes
#
# Standard output and error of the command come back apart; its standard input is empty.
# exit status: the command's own; 124 when the time ran out; 125 when the guest died or could
# not be prepared.  Needs root, Debian 12 on amd64, and apt the first time.

set -eu -o pipefail
export LC_ALL=C

me=${0##*/}
say() { printf '%s: %s\n' "$me" "$*" >&2; }
die() { say "$*"; exit 125; }
usage() { sed -n '/^# usage:/,/^# not be prepared/s/^# \{0,1\}//p' "$0"; }

# ---------------------------------------------------------------- options

cache=${YUMEN_VM_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/yumen-vm}
accel=${YUMEN_VM_ACCEL:-auto}
cwd=$PWD
cpu='' memory=2048 cpus='' limit=600 prepare_only=false show_log=false
writable=() environment=()

while getopts 'C:w:e:c:a:u:m:n:t:kPh' option; do
	case $option in
	C) cwd=$OPTARG ;;
	w) writable+=("$(realpath -e -- "$OPTARG")") || die "no such folder: $OPTARG" ;;
	e) environment+=("$OPTARG") ;;
	c) cache=$OPTARG ;;
	a) accel=$OPTARG ;;
	u) cpu=$OPTARG ;;
	m) memory=$OPTARG ;;
	n) cpus=$OPTARG ;;
	t) limit=$OPTARG ;;
	k) show_log=true ;;
	P) prepare_only=true ;;
	h) usage; exit 0 ;;
	*) usage >&2; exit 125 ;;
	esac
done
shift $((OPTIND - 1))
$prepare_only || [ $# -gt 0 ] || { usage >&2; exit 125; }
[ "$(id -u)" = 0 ] || die 'must run as root'
[ "$(uname -m)" = x86_64 ] || die 'only for x86_64'
[ -n "$cpus" ] || { cpus=$(nproc); [ "$cpus" -le 4 ] || cpus=4; }
# What lies in the cache follows from its form and from the recipe of the modules, so each
# pair has a folder of its own: trees of different ages do not replace each other's.
recipe=$(dirname -- "$(realpath -- "$0")")/../../configs/dkms/build-modules
cache=$cache/2-$(sha256sum <"$recipe" | cut -c 1-12)
mkdir -p "$cache"
cache=$(realpath -e -- "$cache")

work='' run='' log_reader='' machine=''
cleanup() {
	[ -z "$machine" ] || kill "$machine" 2>/dev/null || true
	[ -z "$log_reader" ] || kill "$log_reader" 2>/dev/null || true
	rm -rf ${work:+"$work"} ${run:+"$run"}
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# ---------------------------------------------------------------- packages

apt_fresh=false
apt_refresh() {
	$apt_fresh && return
	apt-get update -qq >&2 || say 'apt-get update failed; going on with the old lists'
	apt_fresh=true
}

# need COMMAND PACKAGE...: install the packages where the command is missing.
need() {
	local command=$1
	shift
	command -v "$command" >/dev/null && return
	apt_refresh
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq -o DPkg::Lock::Timeout=300 \
		--no-install-recommends "$@" \
		>"$cache/apt.log" 2>&1 || { cat "$cache/apt.log" >&2; die "cannot install $*"; }
}

download() { # download FOLDER PACKAGE=VERSION
	(cd "$1" && apt-get download -qq -o APT::Sandbox::User=root "$2" >&2) ||
		die "cannot download $2"
}

# ---------------------------------------------------------------- kernel, modules, initramfs

# What the guest's modules are chosen from; the rest of Debian's 300 MB is not kept.
module_folders='arch crypto lib net fs/9p fs/fscache fs/netfs fs/overlayfs fs/fuse
	drivers/virtio drivers/char/virtio_console.ko drivers/char/hw_random drivers/net/*.ko
	drivers/net/ipvlan drivers/net/bonding'
# What the initramfs itself loads.
early_modules='virtio_pci virtio_console 9pnet_virtio 9p overlay'

# By the recipe of yumen-sm-dkms, from the source package of the kernel's very version.
build_sm_modules() { # build_sm_modules RELEASE VERSION WORKFOLDER: leaves *.ko in WORKFOLDER/sm
	local release=$1 version=$2 work=$3
	download "$work" "linux-source-6.1=$version"
	dpkg-deb --fsys-tarfile "$work"/linux-source-6.1_*.deb |
		tar -C "$work" -xf - --wildcards '*/linux-source-6.1.tar.xz'
	YUMEN_LINUX_SOURCE=$work/usr/src/linux-source-6.1.tar.xz \
		"$recipe" "$release" "/lib/modules/$release/build" "$work/sm" \
		>"$work/make.log" 2>&1 || { cat "$work/make.log" >&2; die 'cannot build SM3 and SM4'; }
	strip --strip-debug "$work"/sm/*.ko
}

# QEMU boots an uncompressed kernel by its PVH entry: without it, an emulated CPU would spend six
# seconds on the XZ decompression and the BIOS.  The offsets are those of the x86 boot protocol.
uncompress_kernel() { # uncompress_kernel VMLINUZ VMLINUX
	local sectors offset length start
	sectors=$(od -An -tu1 -j $((0x1f1)) -N 1 "$1")
	offset=$(od -An -tu4 -j $((0x248)) -N 4 "$1")
	length=$(od -An -tu4 -j $((0x24c)) -N 4 "$1")
	start=$(((sectors + 1) * 512 + offset))
	# The last four bytes of the payload are its length uncompressed, no part of the stream.
	head -c $((start + length - 4)) "$1" | tail -c +$((start + 1)) | xz -dc >"$2" ||
		die "cannot uncompress $1"
}

write_init() { # write_init FOLDER: the initramfs's /init
	cat >"$1/init" <<-'END'
		#!/bin/busybox sh
		# All set-up uses busybox from memory: programs that come through 9p start slowly.
		/bin/busybox --install -s /bin
		export PATH=/bin
		fail() { echo "yumen-vm: $*" >/dev/console; poweroff -f; sleep 60; }
		nine() { # nine TAG FOLDER OPTIONS
			mkdir -p "$2" && mount -t 9p \
				-o "$3,trans=virtio,version=9p2000.L,msize=512000,access=any" "$1" "$2" ||
				fail "cannot mount $1 on $2"
		}
		mount -t proc proc /proc
		mount -t devtmpfs dev /dev
		for module in /modules/*.ko; do insmod "$module" || fail "insmod $module"; done

		mount -t tmpfs -o mode=755 memory /memory
		mkdir /memory/upper /memory/scratch
		nine root /lower ro,cache=loose
		mount -t overlay -o lowerdir=/lower,upperdir=/memory/upper,workdir=/memory/scratch \
			root /root || fail 'no overlay'
		cd /root
		mkdir -p proc sys dev run
		mount --move /proc proc
		mount --move /dev dev
		mount -t sysfs sys sys
		mount -t cgroup2 none sys/fs/cgroup
		mount -t debugfs none sys/kernel/debug
		mount -t tmpfs -o mode=755 run run
		mkdir -p dev/pts dev/shm run/lock run/yumen-vm/busybox
		mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts dev/pts
		mount -t tmpfs -o mode=1777 shm dev/shm
		ln -s /proc/self/fd dev/fd
		ln -s fd/0 dev/stdin
		ln -s fd/1 dev/stdout
		ln -s fd/2 dev/stderr

		control=run/yumen-vm/control
		nine control $control rw,cache=none
		release=$(uname -r)
		mkdir -p "lib/modules/$release"
		mount --bind ".$(cat $control/modules)" "lib/modules/$release" || fail 'no modules'
		number=0
		while read -r folder; do
			nine "writable$number" ".$folder" rw,cache=mmap
			number=$((number + 1))
		done <$control/writable
		hostname yumen-vm
		ip link set lo up
		cp -a /bin/. run/yumen-vm/busybox/
		for link in run/yumen-vm/busybox/*; do
			[ ! -L "$link" ] || ln -sfn busybox "$link"
		done
		cp /second run/yumen-vm/second
		exec switch_root /root /run/yumen-vm/busybox/busybox sh /run/yumen-vm/second
	END
	chmod 755 "$1/init"
	cat >"$1/second" <<-'END'
		# Process 1, on the host's files: runs the command.
		PATH=/run/yumen-vm/busybox
		control=/run/yumen-vm/control
		cd /run/yumen-vm
		# The command writes to pipes, because a port can be opened only once; what it leaves
		# running may hold them open, so the wait for their end is bounded.
		mkfifo out err
		cat out >"$(echo /dev/vport*p1)" & out=$!
		cat err >"$(echo /dev/vport*p2)" & err=$!
		setsid /bin/bash $control/command </dev/null >out 2>err
		echo $? >$control/status
		for try in 1 2 3 4 5 6 7 8 9 10; do
			kill -0 $out 2>/dev/null || kill -0 $err 2>/dev/null || break
			sleep 0.1
		done
		poweroff -f
		sleep 60
	END
}

prepare() {
	local package release version out folder module number list
	need qemu-system-x86_64 qemu-system-x86
	need busybox busybox-static
	need cpio cpio
	need modprobe kmod
	need ip iproute2
	need strip binutils
	[ -f "$cache/ready" ] && return
	need xz xz-utils
	need make make
	need gcc gcc libc6-dev
	say "preparing the kernel in $cache (once)"
	apt_refresh
	package=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \(linux-image-[^ ]*\)$/\1/p' | head -n 1)
	[ -n "$package" ] || die 'apt knows no linux-image-amd64'
	release=${package#linux-image-}
	version=$(apt-cache policy "$package" | sed -n 's/.*Candidate: //p')
	need "/lib/modules/$release/build/scripts/basic/fixdep" "linux-headers-$release=$version"

	work=$(mktemp -d "$cache/prepare.XXXXXX")
	out=$work/out
	mkdir -p "$out/modules" "$work/image"
	download "$work" "$package=$version"
	dpkg-deb -x "$work/${package}"_*.deb "$work/image"
	build_sm_modules "$release" "$version" "$work"

	folder=$work/image/lib/modules/$release
	mkdir -p "$work/tree/lib/modules/$release/updates"
	cp "$folder"/modules.builtin* "$folder/modules.order" "$work/tree/lib/modules/$release/"
	# shellcheck disable=SC2086 # patterns and words are meant
	(cd "$folder/kernel" && tar -cf - --exclude=drivers/net/ethernet $module_folders) |
		(mkdir -p "$work/tree/lib/modules/$release/kernel" &&
			tar -C "$work/tree/lib/modules/$release/kernel" -xf -)
	cp "$work"/sm/*.ko "$work/tree/lib/modules/$release/updates/"
	depmod -b "$work/tree" "$release"

	mkdir -p "$work/initramfs"/{bin,proc,dev,lower,memory,root,modules}
	cp "$(command -v busybox)" "$work/initramfs/bin/busybox"
	number=100
	# shellcheck disable=SC2086
	list=$(modprobe -d "$work/tree" -S "$release" -a --show-depends $early_modules |
		awk '$1 == "insmod" && !seen[$2]++ {print $2}')
	for module in $list; do
		cp "$module" "$work/initramfs/modules/$number-${module##*/}"
		number=$((number + 1))
	done
	write_init "$work/initramfs"
	(cd "$work/initramfs" && find . | cpio -o -H newc --quiet) >"$out/initramfs"
	uncompress_kernel "$work/image/boot/vmlinuz-$release" "$out/vmlinux"
	mv "$work/tree/lib/modules/$release" "$out/modules/$release"
	rm -f "$out/modules/$release"/{build,source}

	rm -rf "$cache/kernel"
	mv "$out" "$cache/kernel"
	rm -rf "$work" "$cache/kvm"
	work=''
	printf '%s\n' "$release" "$version" >"$cache/ready"
}

# ---------------------------------------------------------------- KVM or not

# A nested or paravirtual /dev/kvm may open and yet never run an ordinary kernel, so it counts
# only where the CPU has VMX or SVM and a guest has in fact booted; remembered until a reboot.
kvm_works() {
	local boot remembered
	[ -c /dev/kvm ] && [ -r /dev/kvm ] && [ -w /dev/kvm ] || return 1
	grep -qwE 'vmx|svm' /proc/cpuinfo || return 1
	boot=$(cat /proc/sys/kernel/random/boot_id)
	remembered=$(cat "$cache/kvm" 2>/dev/null || true)
	case $remembered in
	"$boot yes") return 0 ;;
	"$boot no") return 1 ;;
	esac
	if YUMEN_VM_ACCEL=kvm "$BASH" "$0" -c "${cache%/*}" -a kvm -t 20 -C / true 2>/dev/null; then
		echo "$boot yes" >"$cache/kvm"
	else
		echo "$boot no" >"$cache/kvm"
		return 1
	fi
}

# ---------------------------------------------------------------- run

exec 9>"$cache/lock"
flock 9
prepare
flock -u 9
exec 9>&-
$prepare_only && exit 0

case $accel in
auto) if kvm_works; then accel=kvm; else accel=tcg; fi ;;
kvm | tcg) ;;
*) die "unknown mode: $accel" ;;
esac
if [ "$accel" = kvm ]; then
	arguments=(-accel kvm -cpu "${cpu:-host}")
else
	# Emulated AVX is slow: ESP with SM4 and SM3 runs eight times faster on the generic drivers.
	arguments=(-accel 'tcg,thread=multi,tb-size=512' -cpu "${cpu:-max,-avx,-avx2}")
fi

run=$(mktemp -d "${TMPDIR:-/tmp}/yumen-vm.XXXXXX")
mkdir "$run/control"
release=$(sed -n 1p "$cache/ready")
echo "$cache/kernel/modules/$release" >"$run/control/modules"
: >"$run/control/writable"
{
	printf 'export HOME=/root PATH=%q\n' "$PATH"
	for one in ${environment[@]+"${environment[@]}"}; do
		case $one in
		*=*) printf 'export %s=%q\n' "${one%%=*}" "${one#*=}" ;;
		*) printf 'export %s=%q\n' "$one" "${!one-}" ;;
		esac
	done
	printf 'cd %q || exit 125\n' "$cwd"
	printf 'exec'
	printf ' %q' "$@"
	printf '\n'
} >"$run/control/command"

share() { # share TAG DIR OPTIONS
	arguments+=(-fsdev "local,id=$1,path=${2//,/,,},security_model=none,multidevs=remap$3"
		-device "virtio-9p-pci,fsdev=$1,mount_tag=$1")
}
share root / ,readonly=on
share control "$run/control" ''
number=0
for folder in ${writable[@]+"${writable[@]}"}; do
	share "writable$number" "$folder" ''
	echo "$folder" >>"$run/control/writable"
	number=$((number + 1))
done

mkfifo "$run/out" "$run/err"
: >"$run/log"
cat "$run/out" &
readers=$!
cat "$run/err" >&2 &
readers+=" $!"
if $show_log; then
	tail -f "$run/log" >&2 &
	log_reader=$!
fi

result=0
timeout -k 5 "$limit" qemu-system-x86_64 "${arguments[@]}" \
	-machine pc,usb=off,vmport=off -m "$memory" -smp "$cpus" -nodefaults -no-user-config \
	-display none -no-reboot -nic none -monitor none \
	-kernel "$cache/kernel/vmlinux" -initrd "$cache/kernel/initramfs" \
	-append 'console=ttyS0 quiet panic=-1 nokaslr mitigations=off audit=0 apparmor=0 edd=off' \
	-chardev "file,id=log,path=$run/log" -serial chardev:log \
	-device virtio-serial-pci \
	-chardev "file,id=out,path=$run/out" -device virtserialport,chardev=out,nr=1,name=out \
	-chardev "file,id=err,path=$run/err" -device virtserialport,chardev=err,nr=2,name=err \
	</dev/null 2>"$run/qemu" &
machine=$!
wait "$machine" || result=$?
machine=''
# Where QEMU died before it opened the pipes, their readers still wait for a writer.
: 3<>"$run/out" 4<>"$run/err"
# shellcheck disable=SC2086
wait $readers

if [ "$result" = 124 ] || [ "$result" = 137 ]; then
	say "timed out after $limit s"
	tail -n 20 "$run/log" >&2
	exit 124
fi
if [ ! -s "$run/control/status" ]; then
	say "the guest died (QEMU's status $result)"
	cat "$run/qemu" >&2
	tail -n 40 "$run/log" >&2
	exit 125
fi
exit "$(cat "$run/control/status")"
