package ike

// Reasons of drops, refusals and endings. Each is a label of a metric and a word
// of the log, so none is ever renamed.
const (
	// Messages that are dropped unread or half read.
	Malformed        Reason = "malformed"
	BadVersion       Reason = "bad-version"
	BadExchange      Reason = "bad-exchange"
	BadFlags         Reason = "bad-flags"
	UnknownCookies   Reason = "unknown-cookies"
	UnknownPeer      Reason = "unknown-peer"
	WrongSource      Reason = "wrong-source"
	WrongInitiator   Reason = "wrong-initiator" // the peer may not begin
	UnexpectedState  Reason = "unexpected-message"
	PayloadOrder     Reason = "payload-order"
	Duplicate        Reason = "duplicate"
	ReplayedEnvelope Reason = "replayed-envelope"
	HalfOpenLimit    Reason = "half-open-limit"
	RateLimited      Reason = "rate-limited"
	TooManyFailures  Reason = "too-many-failures"

	// Phase 1.
	NoProposal      Reason = "no-proposal"
	AnswerMismatch  Reason = "answer-mismatch" // the answer was not among what we offered
	CertMalformed   Reason = "certificate-malformed"
	CertUnknownCA   Reason = "certificate-unknown-ca"
	CertExpired     Reason = "certificate-expired"
	CertNotYetValid Reason = "certificate-not-yet-valid"
	CertRevoked     Reason = "certificate-revoked"
	CertUsage       Reason = "certificate-key-usage"
	CertPair        Reason = "certificate-pair-mismatch"
	CertIdentity    Reason = "certificate-identity"
	CRLStale        Reason = "crl-stale"
	BadEnvelope     Reason = "bad-envelope"
	BadPadding      Reason = "bad-padding"
	BadID           Reason = "bad-id"
	BadSignature    Reason = "bad-signature"
	BadHash         Reason = "bad-hash"
	Deviates        Reason = "deviates" // from what accept: exact wants
	KeyOperation    Reason = "key-operation"

	// Phase 2.
	NoSelector    Reason = "no-selector"
	NoSuite       Reason = "no-suite"
	Crossed       Reason = "crossed" // both ends began a quick mode for one tunnel
	Narrowed      Reason = "narrowed"
	InstallFailed Reason = "install-failed"

	// Endings.
	Timeout     Reason = "timeout"
	PeerDeleted Reason = "peer-deleted"
	PeerRefused Reason = "peer-refused"
	Operator    Reason = "operator"
	Expired     Reason = "expired"
	Replaced    Reason = "replaced"
	Dead        Reason = "dead-peer"
	ShutDown    Reason = "shut-down"
	Unresolved  Reason = "unresolved"
	Standby     Reason = "standby" // our address is another machine's now

	// FragmentsBlocked is a timeout of messages that are large where small ones
	// get through.
	FragmentsBlocked Reason = "fragments-blocked"

	Reloaded Reason = "reloaded"

	// GuardGone is not of a negotiation: others took the guard away for a moment.
	GuardGone Reason = "guard-gone"
)
