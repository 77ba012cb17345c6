package selftest

import "encoding/hex"

// vectors are the known answers. Those of SM2 and SM4-CBC are of the published
// worked example of the protocol, whose private keys were published with it;
// SM4-GCM is RFC 8998 A.1.
type vectors struct {
	sm3Input, sm3                    []byte
	hmacKey, hmacInput, hmac         []byte
	cbcKey, cbcPlain, cbcCipher      []byte
	gcmKey, gcmNonce, gcmAAD         []byte
	gcmPlain, gcmCipher              []byte
	signPub, signed, signature       []byte
	envelopeKey, envelope, temporary []byte
	pairKey, pairPub                 []byte
}

func known() vectors {
	return vectors{
		sm3Input:  []byte("abc"),
		sm3:       hexBytes("66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"),
		hmacKey:   hexBytes("00112233445566778899aabbccddeeff"),
		hmacInput: []byte("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
		hmac:      hexBytes("dc813339153491ad81477754eb3df00dbb3cc3e6a69f9cacce737db7e61342ff"),
		cbcKey:    hexBytes("e6b74813213bfe4759c20225ade2678e"),
		cbcPlain:  hexBytes("450be90d637a4c714d129d13e15642370000000000000000000000000000000f"),
		cbcCipher: hexBytes("a73cb7e86cc9b2020ecb43baa4e96cf8fb83d3a176a3e11b618206b32b958c69"),
		gcmKey:    hexBytes("0123456789abcdeffedcba9876543210"),
		gcmNonce:  hexBytes("00001234567800000000abcd"),
		gcmAAD:    hexBytes("feedfacedeadbeeffeedfacedeadbeefabaddad2"),
		gcmPlain: hexBytes("aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbccccccccccccccccddddddddddddddddeeeeeeeeeeeeeeeeffffffffffffffff" +
			"eeeeeeeeeeeeeeeeaaaaaaaaaaaaaaaa"),
		gcmCipher: hexBytes("17f399f08c67d5ee19d0dc9969c4bb7d5fd46fd3756489069157b282bb200735d82710ca5c22f0ccfa7cbf93d496ac15" +
			"a56834cbcf98c397b4024a2691233b8d83de3541e4c2b58177e065a9bf7b62ec"),
		signPub: hexBytes("042d617e74d5586dde23d2490fbd468e30f11d012d50a8f392cd1849b10b167e9a0661f7e3a2a00ee7ec4718ed937b4a" +
			"b2c50aa0d341d15e4095743b3850af6d3c"),
		signed: hexBytes("e6b74813213bfe4759c20225ade2678e450be90d637a4c714d129d13e156423709000000304a310b3009060355040613" +
			"024141310b3009060355040813024242310b3009060355040a13024343310b3009060355040b13024444311430120603" +
			"550403130b636c69656e74207369676e05308201ed30820192a00302010202145b2ebfa257b547c1b04ebce83ad65e6c" +
			"595addaa300a06082a811ccf550183753045310b3009060355040613024141310b300906035504080c024242310b3009" +
			"060355040a0c024343310b3009060355040b0c024444310f300d06035504030c067375622063613020170d3233303232" +
			"323032333031345a180f32313233303132393032333031345a3049310b3009060355040613024141310b300906035504" +
			"080c024242310b3009060355040a0c024343310b3009060355040b0c0244443113301106035504030c0a636c69656e74" +
			"20656e633059301306072a8648ce3d020106082a811ccf5501822d034200042920dde9348041de867e49a5caa1936d32" +
			"41f9b79cb5dcc5c6d59b31f8d88467b05b38505b101f7dbf242bcba73daf394cf0879d3f0e8ec08739f1db00fa770ca3" +
			"5a305830090603551d1304023000300b0603551d0f040403020338301d0603551d0e041604147cf13c4f768f4733a2ff" +
			"e2e259346b90cfb474a8301f0603551d23041830168014ac61eb22806259083e96c8d17fce745c02af3c99300a06082a" +
			"811ccf550183750349003046022100e2131845079c82d4a4b09b4990b21bc4e281899b83b226c9916d5c5fee12139f02" +
			"2100e7d3e711561a7a0be92392ed9f94f63ca2aa899d9039611f4472488bf14565ea"),
		signature: hexBytes("30450221008fd24caa07d506eb6b88ebd5852839e127e875738747a8d2c356150e4b95c6f2022014a9f5aea118004276" +
			"fbd8437b0f6e5db84d138b058236f7d6656f3dedefd740"),
		envelopeKey: hexBytes("bb3d0ce3feaa521807031b86588d8d3ed35c888c266003780140e804491ad6d7"),
		envelope: hexBytes("3079022100e2fee5b1439937014b7ad1a585f4a62910787a7c885884c1370cd9fb8dadd12c02201c2f5ab9ba02bc9d9c" +
			"21cf18afaa6b64f0b0a733bd730508d6567f9faac722aa042000376aa46646d90577b5ab0170f97043356acef83504b8" +
			"a4b9ae159a0e834fc3041001734e922fa8c88ad6814c59264e9f21"),
		temporary: hexBytes("93754381265febcf025a6c0d53abf6d3"),
		pairKey:   hexBytes("2eb464dc25937be59938549f4cc6306cea1c2ecdcc491a4e3b4fc0bd29af1f99"),
		pairPub: hexBytes("047dbea54543458172bd3b688e509c2df54586ace00b58ec941499f94a50a58c675d6f9adaff089e8137a76343acd2f3" +
			"5ca30a8a5ccf81b7cdce5266a016b9e364"),
	}
}

// hexBytes decodes a constant of this file. A bad constant gives no bytes, and
// the known answer then fails.
func hexBytes(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		return nil
	}
	return b
}
