// Package segment turns the large packets that a kernel hands over in one piece
// into those that go on a wire, and back: what segmentation and receive offload
// of a network card do, on memory alone.
//
// A TUN device with a virtio-net header (virtio 1.2, 5.1.6) gives and takes TCP
// and UDP packets of up to 64 KiB whose header says at which size they are to be
// cut. Splitter cuts them, with the checksums that the kernel left out; Joiner
// finds packets that follow each other in one flow and describes them as one.
// Joining is exact: cutting its result gives the same packets again, but for the
// identification of IPv4 packets that may not be fragmented, which means nothing
// there (RFC 6864 4.1).
//
// Nothing allocates after the first turns, nothing is kept between batches.
package segment
