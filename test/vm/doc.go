// Package vm judges our ESP by the kernel's, and the kernel data plane by what is on
// the wire. Its tests need a kernel with SM3 and SM4 in XFRM, which most
// distributions leave out: `make vm` compiles them outside and runs them inside a
// virtual machine that has one (run.sh). Elsewhere they are skipped and say so.
//
//	ha 10.1.0.2 -- ga 192.0.2.1 ---- 192.0.2.2 gb -- hb 10.2.0.2
//	   fd01::2        2001:db8::1    2001:db8::2        fd02::2
//
// The gateways know the way to the other's hosts in clear, so whatever the guard does
// not hold arrives; everything between them is watched all the time.
package vm
