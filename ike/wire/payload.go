package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Vendor IDs, as bodies of the payload.
const (
	// VendorNATT announces NAT traversal: MD5 of "RFC 3947".
	VendorNATT = "\x4a\x13\x1c\x81\x07\x03\x58\x45\x5c\x57\x28\xf2\x0e\x95\x45\x2f"
	// VendorDPD announces dead peer detection, version 1.0 (RFC 3706 5.1).
	VendorDPD = "\xaf\xca\xd7\x13\x68\xa1\xf1\xc9\x6b\x86\x96\xfc\x77\x57\x01\x00"
)

// maxSPIs bounds one delete payload.
const maxSPIs = 1024

// idLen is the length of the data of an ID type that has a fixed one.
func idLen(t IDType) (n int, fixed bool) {
	switch t {
	case IDIPv4:
		return 4, true
	case IDIPv4Subnet, IDIPv4Range:
		return 8, true
	case IDIPv6:
		return 16, true
	case IDIPv6Subnet, IDIPv6Range:
		return 32, true
	}
	return 0, false
}

// ParseID reads the plain body of an identification payload (RFC 2407 4.6.2). It
// checks that the data of an address type has that type's length and that no
// data is empty; types it does not know pass as opaque. In the digital envelope
// of main mode the body is ciphertext and must be decrypted first.
func ParseID(body []byte) (ID, error) {
	r := reader{b: body}
	i := ID{
		Type:     IDType(r.u8("type")),
		Protocol: r.u8("protocol"),
		Port:     r.u16("port"),
		Data:     r.rest(),
	}
	want, fixed := idLen(i.Type)
	switch {
	case r.err != nil:
	case i.Type == 0:
		r.fail("type: 0 is reserved")
	case len(i.Data) == 0:
		r.fail("data: empty")
	case fixed && len(i.Data) != want:
		r.fail("data: %d bytes, %s has %d", len(i.Data), i.Type, want)
	}
	if r.err != nil {
		return ID{}, fmt.Errorf("id: %w", r.err)
	}
	return i, nil
}

// Append writes the plain body of the payload.
func (i ID) Append(dst []byte) []byte {
	dst = append(dst, byte(i.Type), i.Protocol)
	dst = binary.BigEndian.AppendUint16(dst, i.Port)
	return append(dst, i.Data...)
}

// ParseCert reads the body of a certificate payload (RFC 2408 3.9). The
// certificate itself is not looked at, except that there must be one.
func ParseCert(body []byte) (Cert, error) {
	r := reader{b: body}
	c := Cert{Encoding: CertEncoding(r.u8("encoding")), Data: r.rest()}
	if r.err == nil && len(c.Data) == 0 {
		r.fail("data: empty")
	}
	if r.err != nil {
		return Cert{}, fmt.Errorf("certificate: %w", r.err)
	}
	return c, nil
}

// Append writes the body of the payload.
func (c Cert) Append(dst []byte) []byte {
	return append(append(dst, byte(c.Encoding)), c.Data...)
}

// ParseNotification reads the body of a notification payload (RFC 2408 3.14).
// Peers differ in DOI and SPI size, so neither is judged here.
func ParseNotification(body []byte) (Notification, error) {
	r := reader{b: body}
	n := Notification{DOI: r.u32("doi"), Protocol: Protocol(r.u8("protocol"))}
	size := r.u8("spi size")
	n.Type = NotifyType(r.u16("type"))
	n.SPI = r.bytes(int(size), "spi")
	n.Data = r.rest()
	if r.err != nil {
		return Notification{}, fmt.Errorf("notification: %w", r.err)
	}
	return n, nil
}

// Append writes the body of the payload. The SPI has at most 255 bytes.
func (n Notification) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, n.DOI)
	dst = append(dst, byte(n.Protocol), byte(len(n.SPI)))
	dst = binary.BigEndian.AppendUint16(dst, uint16(n.Type))
	dst = append(dst, n.SPI...)
	return append(dst, n.Data...)
}

// ParseDelete reads the body of a delete payload (RFC 2408 3.15): at least one
// SPI, none of them empty.
func ParseDelete(body []byte) (Delete, error) {
	r := reader{b: body}
	d := Delete{DOI: r.u32("doi"), Protocol: Protocol(r.u8("protocol")), SPISize: r.u8("spi size")}
	count := int(r.u16("number of spis"))
	switch {
	case r.err != nil:
	case d.SPISize == 0:
		r.err = errors.New("spi size: 0")
	case count == 0 || count > maxSPIs:
		r.fail("number of spis: %d, must be 1 to %d", count, maxSPIs)
	case count*int(d.SPISize) != len(r.b):
		r.fail("spis: %d of %d bytes announced, %d bytes found", count, d.SPISize, len(r.b))
	}
	for i := 0; r.err == nil && i < count; i++ {
		d.SPIs = append(d.SPIs, r.bytes(int(d.SPISize), "spi"))
	}
	if r.err != nil {
		return Delete{}, fmt.Errorf("delete: %w", r.err)
	}
	return d, nil
}

// Append writes the body of the payload. Every SPI has SPISize bytes.
func (d Delete) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, d.DOI)
	dst = append(dst, byte(d.Protocol), d.SPISize)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(d.SPIs)))
	for _, spi := range d.SPIs {
		dst = append(dst, spi...)
	}
	return dst
}
