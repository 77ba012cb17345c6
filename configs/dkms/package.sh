#!/bin/bash
# package.sh - make yumen-sm-dkms: SM3 and SM4 for Debian's kernels, by dkms.
#
# usage: package.sh FOLDER     writes FOLDER/yumen-sm-dkms_VERSION_all.deb
#
#   KERNEL=6.1      the series it is for (default: that of the running kernel if
#                   Debian has a linux-source for it, else 6.1 or 6.12)
#   OFFLINE=1       put the source itself into the package, for machines that reach
#                   no mirror: taken from /usr/src, $YUMEN_LINUX_SOURCE or apt
#
# Without OFFLINE the package holds no kernel source: it depends on linux-source-*.
set -euo pipefail
export LC_ALL=C

version=1.0
here=$(dirname -- "$(realpath -- "$0")")
out=$(mkdir -p -- "$1" && realpath -- "$1")
offline=${OFFLINE:-}
known='6.1 6.12' # Debian 12, and 13 or 12 with backports
die() { printf 'dkms: %s\n' "$*" >&2; exit 1; }
command -v dpkg-deb >/dev/null || die 'dpkg-deb is not here: this package is for Debian 12 and 13'

running=$(uname -r | sed -n 's/^\([0-9]*\.[0-9]*\).*/\1/p')
series=${KERNEL:-}
if [ -z "$series" ]; then
	series=$known
	case " $known " in *" $running "*) series=$running ;; esac
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tree=$work/tree
source=$tree/usr/src/yumen-sm-$version
mkdir -p "$tree/DEBIAN" "$source" "$tree/usr/share/doc/yumen-sm-dkms"

# fetch SERIES: where a tarball of that source is, by apt when it is not installed.
fetch() {
	local file
	for file in "${YUMEN_LINUX_SOURCE:-}" /usr/src/linux-source-"$1".tar.xz; do
		if [ -n "$file" ] && [ -f "$file" ] && [ "$(basename "$file")" = "linux-source-$1.tar.xz" ]; then
			echo "$file"
			return
		fi
	done
	(cd "$work" && apt-get download -qq -o APT::Sandbox::User=root "linux-source-$1" >&2) || return 1
	dpkg-deb --fsys-tarfile "$work/linux-source-$1"_*.deb |
		tar -C "$work" -xf - "./usr/src/linux-source-$1.tar.xz"
	echo "$work/usr/src/linux-source-$1.tar.xz"
}

sources=''
bundled=''
for one in $series; do
	sources+="${sources:+ | }linux-source-$one"
	[ "$offline" = 1 ] || continue
	if file=$(fetch "$one"); then
		YUMEN_LINUX_SOURCE=$file "$here/build-modules" -x "$one" "$source/source-$one"
		bundled+=" $one"
	else
		echo "dkms: no source of Linux $one can be had; the package will do without it" >&2
	fi
done
depends="dkms (>= 3), xz-utils, make, gcc"
if [ "$offline" != 1 ]; then
	depends+=", $sources"
elif [ -z "$bundled" ]; then
	die "OFFLINE=1 needs the source once: apt-get install linux-source-${series##* }"
fi
headers='linux-headers-amd64 | linux-headers-cloud-amd64 | linux-headers-rt-amd64 | linux-headers-arm64'
headers+=' | linux-headers-cloud-arm64 | linux-headers-generic'

install -m 755 "$here/build-modules" "$source/build-modules"
sed "s/@VERSION@/$version/g" "$here/dkms.conf.in" >"$source/dkms.conf"
install -m 644 "$here/copyright" "$tree/usr/share/doc/yumen-sm-dkms/copyright"
for script in postinst prerm; do
	sed "s/@VERSION@/$version/g" "$here/$script.in" >"$tree/DEBIAN/$script"
	chmod 755 "$tree/DEBIAN/$script"
done
chmod -R u=rwX,go=rX "$tree/usr"
size=$(du -ks "$tree/usr" | cut -f 1)
sed -e "s/@VERSION@/$version/g" -e "s/@DEPENDS@/$depends, $headers/" -e "s/@SIZE@/$size/" \
	"$here/control.in" >"$tree/DEBIAN/control"
(cd "$tree" && find usr -type f -print0 | sort -z | xargs -0 md5sum) >"$tree/DEBIAN/md5sums"
deb=$out/yumen-sm-dkms_${version}_all.deb
dpkg-deb --root-owner-group --build "$tree" "$deb" >/dev/null
echo "$deb${bundled:+ (with the source of Linux$bundled)}"
