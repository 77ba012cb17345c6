package xfrm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"yumen/esp"
	"yumen/esp/ours"
)

// The library's monitor knows only one kind of message and silently drops the
// others, so this is a reader of our own.

// listener hears what the kernel tells of SAs.
type listener struct {
	file *os.File
	fd   int
	own  uint32 // port of the socket by which we change SAs: what others do is news
	sees bool   // single packets
}

func openListener(own uint32) (*listener, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_XFRM)
	if err != nil {
		return nil, fmt.Errorf("listen to xfrm: %w", err)
	}
	l := &listener{fd: fd, own: own, file: os.NewFile(uintptr(fd), "xfrm")}
	err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	for _, group := range []int{nl.XFRMNLGRP_ACQUIRE, nl.XFRMNLGRP_EXPIRE, nl.XFRMNLGRP_MAPPING, nl.XFRMNLGRP_SA} {
		if err == nil {
			err = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group)
		}
	}
	if err != nil {
		l.file.Close()
		return nil, fmt.Errorf("listen to xfrm: %w", err)
	}
	// More room than the system allows others; what gets lost all the same is made
	// good by looking (see Plane.recheck).
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20)
	return l, nil
}

// watchPackets joins or leaves the group of messages about single packets. While
// anyone is in it, SAs of other programs with the system's thresholds send too.
func (l *listener) watchPackets(on bool) error {
	if l.sees == on {
		return nil
	}
	option := unix.NETLINK_DROP_MEMBERSHIP
	if on {
		option = unix.NETLINK_ADD_MEMBERSHIP
	}
	if err := unix.SetsockoptInt(l.fd, unix.SOL_NETLINK, option, nl.XFRMNLGRP_AEVENTS); err != nil {
		return fmt.Errorf("listen to packets of xfrm: %w", err)
	}
	l.sees = on
	return nil
}

// notice is one message of the kernel.
type notice struct {
	kind   noticeKind
	dst    netip.Addr
	spi    esp.SPI
	reqid  uint32
	remote netip.AddrPort // of mapped
}

type noticeKind uint8

const (
	nothing noticeKind = iota
	acquired
	softened
	hardened
	mapped
	received
	removed    // an SA, by others
	flushed    // all SAs
	overflowed // messages were lost
)

// read waits for the next messages and hands each to tell. It ends with an error
// when the listener is closed.
func (l *listener) read(buf []byte, tell func(notice)) error {
	n, err := l.file.Read(buf)
	if errors.Is(err, unix.ENOBUFS) {
		tell(notice{kind: overflowed})
		return nil
	}
	if err != nil {
		return err
	}
	defer clear(buf[:n]) // the kernel tells of new SAs with their keys
	for b := buf[:n]; len(b) >= unix.NLMSG_HDRLEN; {
		size := int(binary.NativeEndian.Uint32(b))
		if size < unix.NLMSG_HDRLEN || size > len(b) {
			break
		}
		kind, by := binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint32(b[12:])
		if x := parseNotice(kind, b[unix.NLMSG_HDRLEN:size]); x.kind != nothing && (x.kind != removed || by != l.own) {
			tell(x)
		} else if kind == nl.XFRM_MSG_FLUSHSA {
			tell(notice{kind: flushed})
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return nil
}

// Sizes of structures that the library lacks (linux/xfrm.h), in bytes.
const (
	sizeofAcquire = 280 // id 24, saddr 16, selector 56, policy 168, four words
	sizeofMapping = 64  // id 24, reqid, old saddr 16, new saddr 16, two ports
	sizeofAevent  = 48  // id 24, saddr 16, flags, reqid
)

func parseNotice(kind uint16, b []byte) (x notice) {
	switch {
	case kind == nl.XFRM_MSG_EXPIRE && len(b) >= nl.SizeofXfrmUserExpire:
		e := nl.DeserializeXfrmUserExpire(b)
		info := &e.XfrmUsersaInfo
		x = notice{kind: softened, dst: addressOf(info.Id.Daddr, info.Family), spi: esp.SPI(swap(info.Id.Spi)), reqid: info.Reqid}
		if e.Hard != 0 {
			x.kind = hardened
		}
	case kind == nl.XFRM_MSG_ACQUIRE && len(b) >= sizeofAcquire:
		for k, v := range attrs(b[sizeofAcquire:]) {
			if k == nl.XFRMA_TMPL {
				if t := parseTemplate(v); t != nil {
					x = notice{kind: acquired, reqid: t.reqid, dst: t.dst}
				}
			}
		}
	case kind == nl.XFRM_MSG_MAPPING && len(b) >= sizeofMapping:
		id := nl.DeserializeXfrmUsersaId(b)
		from := addressOf(nl.XfrmAddress(b[44:60]), id.Family)
		x = notice{kind: mapped, dst: addressOf(id.Daddr, id.Family), spi: esp.SPI(swap(id.Spi)),
			reqid:  binary.NativeEndian.Uint32(b[24:]),
			remote: netip.AddrPortFrom(from, binary.BigEndian.Uint16(b[62:]))}
	case kind == nl.XFRM_MSG_DELSA && len(b) >= nl.SizeofXfrmUsersaId:
		for k, v := range attrs(b[nl.SizeofXfrmUsersaId:]) {
			if k == nl.XFRMA_SA && len(v) >= nl.SizeofXfrmUsersaInfo {
				info := nl.DeserializeXfrmUsersaInfo(v)
				x = notice{kind: removed, dst: addressOf(info.Id.Daddr, info.Family), spi: esp.SPI(swap(info.Id.Spi)), reqid: info.Reqid}
			}
		}
	case kind == nl.XFRM_MSG_NEWAE && len(b) >= sizeofAevent:
		id := nl.DeserializeXfrmUsersaId(b)
		x = notice{kind: received, dst: addressOf(id.Daddr, id.Family), spi: esp.SPI(swap(id.Spi)),
			reqid: binary.NativeEndian.Uint32(b[44:])}
	}
	if !ours.IsReqid(x.reqid) {
		return notice{} // not ours
	}
	return x
}
