package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"yumen/cmd/internal/decode"
	"yumen/cmd/internal/keys"
)

// errNotVerified makes the exit status tell what the report says.
var errNotVerified = errors.New("something in the capture does not verify: see the checks marked FAILED")

type decodeFlags struct {
	keys       []string
	passphrase string
	icv        int
	uid        string
	packets    int
	json       bool
}

// newDecodeCommand is `yumen decode`.
func newDecodeCommand() *cobra.Command {
	var f decodeFlags
	c := &cobra.Command{
		Use:   "decode FILE.pcap",
		Short: "Decode a capture of the protocol, message by message",
		Long: `Decode a capture (pcap or pcapng) of GB/T 36968, message by message and field
by field: main mode, quick mode, informational exchanges and ESP.

Without keys everything in the clear is shown. With one side's encryption key
the envelopes sealed for it are opened and their signatures verified. With both
sides' encryption keys every hash is verified, all keys are derived (none is
ever printed), and quick modes and ESP packets are opened.

FOR LABORATORY KEYS ONLY. The protocol has no forward secrecy: whoever holds
both encryption keys reads recorded traffic. Never bring a production key here.

Sessions of profile rfc2409-psk are shown as far as they are in the clear and no
further, whatever key is given: theirs come from a Diffie-Hellman secret that no
capture holds.

The exit status is 1 when something does not verify.`,
		Example: "  yumen decode outside.pcap --key a/enc.key --key b/enc.key",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			c.SilenceUsage = true
			return runDecode(c.OutOrStdout(), args[0], f)
		},
	}
	fl := c.Flags()
	fl.StringArrayVar(&f.keys, "key", nil, "encryption private key of one side, PKCS#8 PEM; may be given more than once")
	fl.StringVar(&f.passphrase, "passphrase-file", "", "file whose first line opens encrypted keys")
	fl.IntVar(&f.icv, "icv", 0, "expected ICV length of HMAC-SM3 in bits: 96, 128 or 256; 0 detects it")
	fl.StringVar(&f.uid, "sm2-id", "", "user ID of SM2 signatures (default 1234567812345678)")
	fl.IntVar(&f.packets, "esp", 32, "good ESP packets listed for each SA; all are verified; -1 lists all")
	fl.BoolVar(&f.json, "json", false, "write JSON")
	return c
}

func runDecode(out io.Writer, path string, f decodeFlags) error {
	opts, err := decodeOptions(f)
	if err != nil {
		return err
	}
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("capture: %w", err)
	}
	defer file.Close()
	report, err := decode.Decode(file, opts)
	if err != nil {
		return fmt.Errorf("capture %s: %w", path, err)
	}
	if f.json {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		err = enc.Encode(report)
	} else {
		err = report.WriteText(out)
	}
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	if report.Failed > 0 {
		return errNotVerified
	}
	return nil
}

func decodeOptions(f decodeFlags) (decode.Options, error) {
	opts := decode.Options{SM2ID: f.uid, ICVBits: f.icv, ESPShown: f.packets}
	switch f.icv {
	case 0, 96, 128, 256:
	default:
		return opts, fmt.Errorf("--icv %d: expected 96, 128 or 256", f.icv)
	}
	if f.packets == 0 {
		return opts, errors.New("--esp 0: expected 1 or more, or -1 for all")
	}
	passphrase, err := keys.Passphrase(f.passphrase, "")
	if err != nil {
		return opts, err
	}
	defer clear(passphrase)
	for _, path := range f.keys {
		k, err := keys.LoadKey(path, passphrase)
		if err != nil {
			return opts, err
		}
		opts.Keys = append(opts.Keys, decode.Key{Name: path, Decrypter: k})
	}
	return opts, nil
}
