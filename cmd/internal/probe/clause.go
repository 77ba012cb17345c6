package probe

// differs reports whether a knob says how a peer writes or reads, in contrast to
// who it is or what it announces.
func differs(knob string) bool {
	switch knob {
	case "initiate", "nat_t", "send_dpd_vid", "send_own_vid", "id", "peer_id", "accept", "allow_narrowing", "strict_lifetime",
		"accept_zero_pad", "esp_icv_bits":
		return false
	}
	return true
}

// clause is where the form stands that a knob may change.
func clause(knob string) string {
	switch knob {
	case "gm_version":
		return "GB/T 36968-2018 5.1, ISAKMP header; RFC 2408 3.1"
	case "ike_sm4_id":
		return "GB/T 36968-2018 5.1, attributes of phase 1; RFC 2409 appendix A"
	case "key_length":
		return "RFC 2409 appendix A: not for a cipher with one length"
	case "transform_id":
		return "RFC 2407 4.4.2: KEY_IKE"
	case "send_certs", "cert_order":
		return "GB/T 36968-2018 5.1, messages 2 and 3"
	case "sk_encoding":
		return "GB/T 36968-2018 5.1, payload SK; GM/T 0009"
	case "nonce_length":
		return "GB/T 36968-2018 5.1, messages 3 and 4; RFC 2409 5: 8 to 256 bytes"
	case "natd_hash":
		return "RFC 3947 3.2: the negotiated hash"
	case "field_pad", "id_iv":
		return "GB/T 36968-2018 5.1, messages 3 and 4: encryption of nonce and ID"
	case "id_type", "id_cert":
		return "GB/T 36968-2018 5.1, payload ID; RFC 2407 4.6.2"
	case "sig_encoding", "sig_cert_body":
		return "GB/T 36968-2018 5.1, payload SIG"
	case "sm2_id":
		return "GM/T 0009: default user ID"
	case "hashr_sa":
		return "GB/T 36968-2018 5.1, message 6; RFC 2409 5"
	case "qm_hash":
		return "GB/T 36968-2018 5.1, quick mode; RFC 2409 5.5"
	case "esp_sm4_id", "esp_gcm_id":
		return "GB/T 36968-2018 5.1, ESP transform IDs; RFC 2407 4.4.4"
	case "dpd_spi":
		return "RFC 3706 5.3"
	case "dpd_order":
		return "RFC 2409 5.7: HASH comes first"
	}
	return "GB/T 36968-2018 5.1"
}
