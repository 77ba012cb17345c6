package daemon

import (
	"time"

	"yumen/ike/server"
	"yumen/policy"
	"yumen/policy/secret"
)

// timedKeys are private keys whose operations are timed: a device that becomes
// slow shows in the metrics before it shows in negotiations.
type timedKeys struct {
	keys server.PrivateKeys
	m    *metrics
}

func (m *metrics) timed(keys server.PrivateKeys) server.PrivateKeys { return timedKeys{keys, m} }

func (t timedKeys) observe(op string, begin time.Time) {
	t.m.keys.WithLabelValues("file", op).Observe(time.Since(begin).Seconds())
}

func (t timedKeys) Sign(digest []byte) ([]byte, error) {
	defer t.observe("sign", time.Now())
	return t.keys.Sign(digest)
}

func (t timedKeys) Open(envelope []byte) (secret.Secret, policy.SKEncoding, error) {
	defer t.observe("open", time.Now())
	return t.keys.Open(envelope)
}
