package main

import (
	"errors"
	"net"
)

var errNothing = errors.New("nothing yet")

// shout sends one datagram to the discard port.
func shout(data []byte, to string) error {
	c, err := net.Dial("udp", net.JoinHostPort(to, "9"))
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Write(data)
	return err
}
