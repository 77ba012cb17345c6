// Package interop holds tests against programs that nobody here wrote: strongSwan
// in both roles (profile rfc2409-psk, because it knows no GB/T 36968), ike-scan
// against the responder of the standard, and scapy as a judge of ESP bytes. They
// need root and Debian's packages; test/setup.sh installs them.
//
// Of a test that fails, logs, captures and configurations stay in build/failed.
package interop
