// Package ike negotiates: main mode with the SM2 digital envelope, quick mode
// and the informational exchange of GB/T 36968, in both roles, with their
// retransmission and limits.
//
// The whole of it is one function, Engine.Step: no socket, no clock, no
// goroutine, no log, no private key. Its caller carries out the effects, then
// sends the packets, then tells the events, in this order, and calls again with
// Tick when Output.Wake is due. An effect that fails comes back as Failed.
//
// Unauthenticated bytes can only be dropped: any error means that nothing has
// changed but a counter and at most one bounded table entry.
package ike
