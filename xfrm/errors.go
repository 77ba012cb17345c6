package xfrm

import "errors"

var errClosed = errors.New("data plane is closed")
