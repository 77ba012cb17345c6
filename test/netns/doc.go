// Package netns gives tests the sites of package site with the manners of
// package testing: what cannot run here is skipped with its reason in one line,
// what goes wrong ends the test, and namespaces and processes go away with it.
//
//	netns.Need(t)                  // skip without root, TUN or tools
//	two := netns.NewTwoSites(t)    // the figure in package site
//	two.GatewayA.Start(...)        // a program in a namespace
//	stop := netns.Capture(t, two.Router, "wan-a", "")
//	file := stop()                 // a complete capture
//
// A test that wants a data plane or a daemon to die by SIGKILL runs it as a
// process of its own; the data plane tests of this package start their own test
// binary again for that.
package netns
