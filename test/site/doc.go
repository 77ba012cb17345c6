// Package site builds sites out of network namespaces: hosts, gateways and the
// routers between them, with real daemons, traffic and captures. The demo and
// the tests of whole gateways stand on it. It needs root.
//
//	host a --- gateway a === router === gateway b --- host b
//	10.1.0.0/24   192.0.2.0/24   198.51.100.0/24   10.2.0.0/24
//	fd01::/64   2001:db8:a::/64  2001:db8:b::/64   fd02::/64
//
// The router knows the way to the inner networks, so that whatever a gateway
// lets out in the clear arrives, and is seen.
//
// The tests run `yumen run` itself. Of one that fails, logs, captures and
// configurations stay in build/failed.
package site
