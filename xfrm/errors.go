package xfrm

import "errors"

var errClosed = errors.New("data plane is closed")

// ErrNoChild is returned for a child that is not installed.
var ErrNoChild = errors.New("no such child")
