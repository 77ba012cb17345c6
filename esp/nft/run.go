package nft

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// ErrAbsent says that the program is not there.
var ErrAbsent = errors.New("nft is not installed (install nftables)")

// Unquoted is what happens without nft.
const Unquoted = "ICMP errors that routers behind this gateway send from addresses of no tunnel leave in clear, with the packet " +
	"from the tunnel that they quote"

// Installed reports whether the program is there.
func Installed() bool {
	_, err := exec.LookPath("nft")
	return err == nil
}

// Run has nft carry out a script, all of it or nothing.
func Run(script string) error {
	path, err := exec.LookPath("nft")
	if err != nil {
		return ErrAbsent
	}
	cmd := exec.Command(path, "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		first, _, _ := strings.Cut(said.String(), "\n")
		return fmt.Errorf("nft: %w: %s", err, first)
	}
	return nil
}
