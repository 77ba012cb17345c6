#!/bin/bash
# check.sh - what can be told of yumen-sm-dkms: that the package is sound, carries no
# kernel source unless asked to, and, where dkms, headers and linux-source are
# installed, that dkms really builds all modules. What is missing is a SKIP line.
set -euo pipefail
export LC_ALL=C

here=$(dirname -- "$(realpath -- "$0")")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { printf 'dkms: FAIL %s\n' "$*" >&2; exit 1; }
skip() { printf 'SKIP dkms: %s\n' "$*"; exit 0; }
command -v dpkg-deb >/dev/null || skip 'dpkg-deb is not installed'
command -v xz >/dev/null || skip 'xz is not installed'

# --- the package without source
KERNEL=6.1 OFFLINE='' "$here/package.sh" "$work/plain" >/dev/null
deb=$(echo "$work"/plain/yumen-sm-dkms_*_all.deb)
depends=$(dpkg-deb -f "$deb" Depends)
for word in dkms linux-source-6.1 linux-headers-amd64 xz-utils; do
	case $depends in *"$word"*) ;; *) fail "Depends lacks $word: $depends" ;; esac
done
dpkg-deb -x "$deb" "$work/plain/root"
dpkg-deb -e "$deb" "$work/plain/control"
[ -z "$(find "$work/plain/root" -name '*.[chS]')" ] || fail 'the package holds kernel source without OFFLINE=1'
(cd "$work/plain/root" && md5sum --quiet -c ../control/md5sums) || fail 'md5sums do not match'
for script in postinst prerm; do
	[ -x "$work/plain/control/$script" ] || fail "$script cannot be executed"
	sh -n "$work/plain/control/$script" || fail "$script does not parse"
done
! grep -rq '@[A-Z]*@' "$work/plain/control" "$work/plain/root" || fail 'a placeholder is left'
source=$(echo "$work"/plain/root/usr/src/yumen-sm-*)

# --- what dkms is told, in a shell of its own as dkms does it
modules() { # modules ARCH
	# shellcheck disable=SC2016 # for the inner shell
	arch=$1 kernelver=6.1.0 kernel_source_dir=/none dkms_tree=/none conf=$source/dkms.conf \
		bash -euc '. "$conf"; printf "%s\n" "${#DEST_MODULE_LOCATION[@]}" "${BUILT_MODULE_NAME[@]}"' | tr '\n' ' '
}
[ "$(modules x86_64)" = '7 sm3 sm3_generic sm4 sm4_generic sm3-avx-x86_64 sm4-aesni-avx-x86_64 sm4-aesni-avx2-x86_64 ' ] ||
	fail "modules for x86_64: $(modules x86_64)"
[ "$(modules aarch64)" = '4 sm3 sm3_generic sm4 sm4_generic ' ] || fail "modules for aarch64: $(modules aarch64)"

# --- OFFLINE=1, with a tree that has the right names and nothing in them
mkdir -p "$work"/linux-source-6.1/{crypto,arch/x86/crypto}
for file in crypto/sm{3,4}{,_generic}.c \
	arch/x86/crypto/{sm3-avx-asm_64.S,sm3_avx_glue.c,sm4-avx.h,sm4-aesni-avx-asm_64.S,sm4_aesni_avx_glue.c} \
	arch/x86/crypto/{sm4-aesni-avx2-asm_64.S,sm4_aesni_avx2_glue.c}; do
	echo "/* $file */" >"$work/linux-source-6.1/$file"
done
tar -C "$work" -cJf "$work/linux-source-6.1.tar.xz" linux-source-6.1
export YUMEN_LINUX_SOURCE=$work/linux-source-6.1.tar.xz
KERNEL=6.1 OFFLINE=1 "$here/package.sh" "$work/offline" >/dev/null
dpkg-deb -x "$work"/offline/*.deb "$work/offline/root"
[ "$(cat "$work"/offline/root/usr/src/yumen-sm-*/source-6.1/* | wc -l)" = 11 ] || fail 'OFFLINE=1 did not bundle 11 files'
case $(dpkg-deb -f "$work"/offline/*.deb Depends) in
*linux-source*) fail 'OFFLINE=1 still depends on linux-source' ;;
esac
# A source without one of the files is refused by name, not built in part.
rm "$work/linux-source-6.1/crypto/sm4_generic.c"
tar -C "$work" -cJf "$work/linux-source-6.1.tar.xz" linux-source-6.1
if said=$("$here/build-modules" -x 6.1 "$work/partial" 2>&1); then
	fail 'a source without crypto/sm4_generic.c was taken'
fi
case $said in *crypto/sm4_generic.c*) ;; *) fail "the refusal does not name the file: $said" ;; esac
unset YUMEN_LINUX_SOURCE
echo 'dkms: the package is sound, with and without source'

# --- the real thing
command -v dkms >/dev/null || skip 'dkms is not installed: nothing was compiled'
for headers in /usr/src/linux-headers-*-"$(dpkg --print-architecture)"; do
	release=${headers##*/linux-headers-}
	series=$(printf '%s\n' "$release" | sed -n 's/^\([0-9]*\.[0-9]*\).*/\1/p')
	[ -f "$headers/.config" ] && [ -f "/usr/src/linux-source-$series.tar.xz" ] && break
	series=''
done
[ -n "${series:-}" ] || skip 'no linux-headers with the linux-source of the same series: nothing was compiled'
mkdir -p "$work/dkms" "$work/install"
if ! dkms build -m yumen-sm -v "${source##*/yumen-sm-}" -k "$release" --kernelsourcedir "$headers" \
	--sourcetree "${source%/*}" --dkmstree "$work/dkms" --installtree "$work/install" >"$work/log" 2>&1; then
	cat "$work/log" >&2
	find "$work/dkms" -name make.log -exec cat {} + >&2
	fail "dkms build for $release"
fi
built=0
while read -r module; do
	[ "$(modinfo -F vermagic "$module" | cut -d ' ' -f 1)" = "$release" ] || fail "$module is for another kernel"
	built=$((built + 1))
done < <(find "$work/dkms" -path '*/module/*.ko*')
[ "$built" -ge 4 ] || fail "only $built modules were built for $release"
echo "dkms: $built modules compiled for $release"
