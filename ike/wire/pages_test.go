package wire

// mainModePages are the messages of main mode as text; M5 decrypted.
func mainModePages() map[string]string {
	return map[string]string{
		"M1": `
header: main mode, version 1.1
  initiator cookie: a89a4662a4d1cad0
  responder cookie: 0000000000000000
  next payload: SA (1)
  exchange type: main mode (2)
  flags: -
  message id: 00000000
  length: 120
payload: SA (1), 52 bytes
  doi: 1
  situation: 1
  proposal: 0
    protocol: ISAKMP (1)
    transform: 1
      id: KEY_IKE (1)
      encryption algorithm: SM4-CBC (draft number) (127)
      hash algorithm: SM3 (20)
      authentication method: public key digital envelope (10)
      asymmetric algorithm: SM2 (2)
      life type: seconds (1)
      life duration: 15840 seconds
payload: VID (13), 20 bytes
  vendor: NAT traversal, RFC 3947
payload: VID (13), 20 bytes
  vendor: dead peer detection, RFC 3706
`,
		"M2": `
header: main mode, version 1.1
  initiator cookie: a89a4662a4d1cad0
  responder cookie: 49a2eb29cf6d65db
  next payload: SA (1)
  exchange type: main mode (2)
  flags: -
  message id: 00000000
  length: 1120
payload: SA (1), 52 bytes
  doi: 1
  situation: 1
  proposal: 0
    protocol: ISAKMP (1)
    transform: 1
      id: KEY_IKE (1)
      encryption algorithm: SM4-CBC (draft number) (127)
      hash algorithm: SM3 (20)
      authentication method: public key digital envelope (10)
      asymmetric algorithm: SM2 (2)
      life type: seconds (1)
      life duration: 15840 seconds
payload: CERT (6), 500 bytes
  encoding: X.509 signature (4)
  certificate: 308201eb30820192a003020102021468d892e963aca045620e799d6fc31d9374... (495 bytes)
payload: CERT (6), 500 bytes
  encoding: X.509 key exchange (5)
  certificate: 308201eb30820192a003020102021468d892e963aca045620e799d6fc31d9374... (495 bytes)
payload: VID (13), 20 bytes
  vendor: NAT traversal, RFC 3947
payload: VID (13), 20 bytes
  vendor: dead peer detection, RFC 3706
`,
		"M3": `
header: main mode, version 1.1
  initiator cookie: a89a4662a4d1cad0
  responder cookie: 49a2eb29cf6d65db
  next payload: SK (128)
  exchange type: main mode (2)
  flags: -
  message id: 00000000
  length: 1370
payload: SK (128), 127 bytes
  envelope: 307902210083e6ecef3fb62d7d4683132d920a298dd88efc8342256fb751987a... (123 bytes)
payload: NONCE (10), 36 bytes
  ciphertext: under Sk: a73cb7e86cc9b2020ecb43baa4e96cf8fb83d3a176a3e11b618206b32b958c69
payload: ID (5), 100 bytes
  ciphertext: under Sk: eff5aaaddbce5efb2d9daca6f1de48c88096f24ada20e090aa45dc2e46a90517... (96 bytes)
payload: CERT (6), 502 bytes
  encoding: X.509 signature (4)
  certificate: 308201ed30820192a00302010202145b2ebfa257b547c1b04ebce83ad65e6c59... (497 bytes)
payload: CERT (6), 502 bytes
  encoding: X.509 key exchange (5)
  certificate: 308201ed30820192a00302010202145b2ebfa257b547c1b04ebce83ad65e6c59... (497 bytes)
payload: SIG (9), 75 bytes
  signature: 30450221008fd24caa07d506eb6b88ebd5852839e127e875738747a8d2c35615... (71 bytes)
`,
		"M4": `
header: main mode, version 1.1
  initiator cookie: a89a4662a4d1cad0
  responder cookie: 49a2eb29cf6d65db
  next payload: SK (128)
  exchange type: main mode (2)
  flags: -
  message id: 00000000
  length: 367
payload: SK (128), 127 bytes
  envelope: 3079022100e2fee5b1439937014b7ad1a585f4a62910787a7c885884c1370cd9... (123 bytes)
payload: NONCE (10), 36 bytes
  ciphertext: under Sk: a469aa4b7374d33262e76b20ed2f65e6ccbd5799630f7f8e68320b2f121e0a26
payload: ID (5), 100 bytes
  ciphertext: under Sk: 071d406ee84d676c2837ba45490b650b27f664aa7a732aef599c69d06b25fd9b... (96 bytes)
payload: SIG (9), 76 bytes
  signature: 3046022100c8ac036fbce28ff4e7f5366c704e405b23753b8ca95a4319b8657e... (72 bytes)
`,
		"M5": `
header: main mode, version 1.1
  initiator cookie: a89a4662a4d1cad0
  responder cookie: 49a2eb29cf6d65db
  next payload: HASH (8)
  exchange type: main mode (2)
  flags: E
  message id: 00000000
  length: 76
payload: HASH (8), 36 bytes
  hash: 5855a82383911acace237a72d2c6427aa18d552fc4d80d13288104a7f9da2f3c
`,
	}
}

// quickModePages are the decrypted messages of quick mode as text.
func quickModePages() map[string]string {
	return map[string]string{
		"QM1": `
header: quick mode, version 1.1
  initiator cookie: a89a4662a4d1cad0
  responder cookie: 49a2eb29cf6d65db
  next payload: HASH (8)
  exchange type: quick mode (32)
  flags: E
  message id: cc2d2221
  length: 188
payload: HASH (8), 36 bytes
  hash: 0c52abf2bee8337f08694ee22b97e4571ef491ef5c88eda04a5f4c3fc82c03d9
payload: SA (1), 60 bytes
  doi: 1
  situation: 1
  proposal: 0
    protocol: ESP (3)
    spi: c515ecd5
    transform: 1
      id: SM4-CBC (127)
      authentication algorithm: HMAC-SM3 (20)
      encapsulation mode: tunnel (1)
      life type: seconds (1)
      life duration: 5940 seconds
      life type: kilobytes (2)
      life duration: 550000 kilobytes
payload: NONCE (10), 20 bytes
  nonce: 4fdbbce1785046b21f1eb00afbec31c4
payload: ID (5), 16 bytes
  type: IPV4_ADDR_SUBNET (4)
  protocol: 0
  port: 0
  identity: 172.16.29.0/24
payload: ID (5), 16 bytes
  type: IPV4_ADDR_SUBNET (4)
  protocol: 0
  port: 0
  identity: 172.16.28.0/24
`,
		"QM2": `
header: quick mode, version 1.1
  initiator cookie: a89a4662a4d1cad0
  responder cookie: 49a2eb29cf6d65db
  next payload: HASH (8)
  exchange type: quick mode (32)
  flags: E
  message id: cc2d2221
  length: 188
payload: HASH (8), 36 bytes
  hash: d90aad574e561b98e0fd9136cc217e7e4c8300cf8c3829aa2c650e8de73e7c21
payload: SA (1), 60 bytes
  doi: 1
  situation: 1
  proposal: 0
    protocol: ESP (3)
    spi: c713ad06
    transform: 1
      id: SM4-CBC (127)
      authentication algorithm: HMAC-SM3 (20)
      encapsulation mode: tunnel (1)
      life type: seconds (1)
      life duration: 5940 seconds
      life type: kilobytes (2)
      life duration: 550000 kilobytes
payload: NONCE (10), 20 bytes
  nonce: 106bcaa925dc5b6d994efc88369d6059
payload: ID (5), 16 bytes
  type: IPV4_ADDR_SUBNET (4)
  protocol: 0
  port: 0
  identity: 172.16.29.0/24
payload: ID (5), 16 bytes
  type: IPV4_ADDR_SUBNET (4)
  protocol: 0
  port: 0
  identity: 172.16.28.0/24
`,
		"QM3": `
header: quick mode, version 1.1
  initiator cookie: a89a4662a4d1cad0
  responder cookie: 49a2eb29cf6d65db
  next payload: HASH (8)
  exchange type: quick mode (32)
  flags: E
  message id: cc2d2221
  length: 76
payload: HASH (8), 36 bytes
  hash: c6125d6cc79a13a4fa8f0806e7fed72ec4280f5a64b5a0a67789bd8e698036c9
`,
	}
}

// informationalPages are informational messages as text, all but the refusal decrypted.
func informationalPages() map[string]string {
	return map[string]string{
		"refusal": `
header: informational, version 1.1
  initiator cookie: a89a4662a4d1cad0
  responder cookie: 49a2eb29cf6d65db
  next payload: NOTIFY (11)
  exchange type: informational (5)
  flags: -
  message id: 00000000
  length: 56
payload: NOTIFY (11), 28 bytes
  doi: 1
  protocol: ISAKMP (1)
  type: NO-PROPOSAL-CHOSEN (14)
  spi: a89a4662a4d1cad049a2eb29cf6d65db
`,
		"dpd": `
header: informational, version 1.1
  initiator cookie: a89a4662a4d1cad0
  responder cookie: 49a2eb29cf6d65db
  next payload: HASH (8)
  exchange type: informational (5)
  flags: E
  message id: cc2d2221
  length: 108
payload: HASH (8), 36 bytes
  hash: 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f
payload: NOTIFY (11), 32 bytes
  doi: 1
  protocol: ISAKMP (1)
  type: R-U-THERE (36136)
  spi: a89a4662a4d1cad049a2eb29cf6d65db
  value: 4711
`,
		"contact": `
header: informational, version 1.1
  initiator cookie: a89a4662a4d1cad0
  responder cookie: 49a2eb29cf6d65db
  next payload: HASH (8)
  exchange type: informational (5)
  flags: E
  message id: cc2d2221
  length: 92
payload: HASH (8), 36 bytes
  hash: 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f
payload: NOTIFY (11), 28 bytes
  doi: 1
  protocol: ISAKMP (1)
  type: INITIAL-CONTACT (24578)
  spi: a89a4662a4d1cad049a2eb29cf6d65db
`,
		"lifetime": `
header: informational, version 1.1
  initiator cookie: a89a4662a4d1cad0
  responder cookie: 49a2eb29cf6d65db
  next payload: HASH (8)
  exchange type: informational (5)
  flags: E
  message id: cc2d2221
  length: 92
payload: HASH (8), 36 bytes
  hash: 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f
payload: NOTIFY (11), 28 bytes
  doi: 1
  protocol: ESP (3)
  type: RESPONDER-LIFETIME (24576)
  spi: c713ad06
  life type: seconds (1)
  life duration: 3600 seconds
`,
		"delete": `
header: informational, version 1.1
  initiator cookie: a89a4662a4d1cad0
  responder cookie: 49a2eb29cf6d65db
  next payload: HASH (8)
  exchange type: informational (5)
  flags: E
  message id: cc2d2221
  length: 84
payload: HASH (8), 36 bytes
  hash: 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f
payload: DELETE (12), 20 bytes
  doi: 1
  protocol: ESP (3)
  spi: c515ecd5
  spi: c713ad06
`,
		"farewell": `
header: informational, version 1.1
  initiator cookie: a89a4662a4d1cad0
  responder cookie: 49a2eb29cf6d65db
  next payload: HASH (8)
  exchange type: informational (5)
  flags: E
  message id: cc2d2221
  length: 92
payload: HASH (8), 36 bytes
  hash: 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f
payload: DELETE (12), 28 bytes
  doi: 1
  protocol: ISAKMP (1)
  spi: a89a4662a4d1cad049a2eb29cf6d65db
`,
	}
}
