"""Judges ESP packets with scapy, which knows neither SM4 nor SM3: they are plugged
in here, from the OpenSSL of the system. Reads a JSON list of cases and writes a list
of verdicts. Each case is an ESP packet with its keys; scapy opens it, and makes the
same packet anew from what is inside, byte for byte."""

import json
import sys

from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from scapy.all import IP, IPv6, UDP, raw
from scapy.layers import ipsec


class SM4GCM:
    """SM4-GCM after NIST SP 800-38D: the OpenSSL of Debian 12 has SM4, not this."""

    def __init__(self, key):
        self.block = Cipher(algorithms.SM4(key), modes.ECB()).encryptor()
        self.h = int.from_bytes(self.block.update(bytes(16)), "big")

    def times_h(self, x):
        z, v = 0, self.h
        for i in range(127, -1, -1):
            if x >> i & 1:
                z ^= v
            v = v >> 1 ^ (0xE1 << 120 if v & 1 else 0)
        return z

    def tag(self, nonce, data, aad):
        y = 0
        for part in (aad, data):
            for i in range(0, len(part), 16):
                y = self.times_h(y ^ int.from_bytes(part[i:i + 16].ljust(16, b"\0"), "big"))
        y = self.times_h(y ^ (8 * len(aad) << 64 | 8 * len(data)))
        first = self.block.update(nonce + b"\0\0\0\1")
        return bytes(a ^ b for a, b in zip(y.to_bytes(16, "big"), first))

    def counter(self, nonce, data):
        out = b""
        for i in range(0, len(data), 16):
            stream = self.block.update(nonce + (i // 16 + 2).to_bytes(4, "big"))
            out += bytes(a ^ b for a, b in zip(data[i:i + 16], stream))
        return out

    def encrypt(self, nonce, data, aad):
        sealed = self.counter(nonce, data)
        return sealed + self.tag(nonce, sealed, aad)

    def decrypt(self, nonce, data, aad):
        if self.tag(nonce, data[:-16], aad) != data[-16:]:
            raise ipsec.InvalidTag()
        return self.counter(nonce, data[:-16])


def plug_in():
    ipsec.CRYPT_ALGOS["SM4-CBC"] = ipsec.CryptAlgo("SM4-CBC", cipher=algorithms.SM4, mode=modes.CBC)
    gcm = ipsec.CryptAlgo("SM4-GCM", cipher=SM4GCM, mode=None, key_size=(16,), block_size=1, iv_size=8,
                          salt_size=4, icv_size=16, format_mode_iv=lambda sa, iv, **kw: sa.crypt_salt + iv)
    gcm.is_aead = gcm.ciphers_aead_api = True
    ipsec.CRYPT_ALGOS["SM4-GCM"] = gcm
    for bits in (96, 128, 256):
        name = "HMAC-SM3-%d" % bits
        ipsec.AUTH_ALGOS[name] = ipsec.AuthAlgo(name, mac=hmac.HMAC, digestmod=hashes.SM3, icv_size=bits // 8)


def association(c):
    mat = bytes.fromhex(c["keymat"])
    outer = IPv6(src="2001:db8::1", dst="2001:db8::2") if c["outer6"] else IP(src="192.0.2.1", dst="192.0.2.2")
    return ipsec.SecurityAssociation(
        ipsec.ESP, spi=c["spi"], crypt_algo=c["cipher"], auth_algo=c["mac"] or None,
        # scapy cuts the salt from the end of the cipher's key.
        crypt_key=mat if not c["mac"] else mat[:16], auth_key=mat[16:] if c["mac"] else None,
        tunnel_header=outer, nat_t_header=UDP(sport=4500, dport=4500) if c["udp"] else None,
        esn_en=c["esn"], esn=c["high"])


def judge(c):
    sa, packet = association(c), bytes.fromhex(c["packet"])
    if c["udp"]:
        below = UDP(sport=4500, dport=4500) / ipsec.ESP(packet)
    else:
        below = ipsec.ESP(packet)
    if c["outer6"]:
        whole = IPv6(src="2001:db8::1", dst="2001:db8::2") / below
    else:
        whole = IP(src="192.0.2.1", dst="192.0.2.2") / below
    whole = whole.__class__(raw(whole))
    try:
        inner = raw(sa.decrypt(whole))
    except Exception as fault:  # whatever scapy finds wrong is the verdict
        return {"fault": "%s: %s" % (type(fault).__name__, fault)}
    iv = packet[8:8 + (8 if not c["mac"] else 16)]
    again = sa.encrypt((IPv6 if inner[0] >> 4 == 6 else IP)(inner), seq_num=int.from_bytes(packet[4:8], "big"), iv=iv)
    return {"inner": inner.hex(), "again": raw(again[ipsec.ESP]).hex()}


def main():
    plug_in()
    json.dump([judge(c) for c in json.load(sys.stdin)], sys.stdout)


main()
