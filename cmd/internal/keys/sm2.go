package keys

import (
	"errors"
	"fmt"

	"github.com/emmansun/gmsm/pkcs8"
	"github.com/emmansun/gmsm/sm2"
	"github.com/emmansun/gmsm/smx509"
)

// This is the only file that meets gmsm. *sm2.PrivateKey leaves it as a Key.

func parsePlain(der []byte) (Key, error) {
	key, err := smx509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("pkcs#8: %w", err)
	}
	return onlySM2(key)
}

func parseSEC1(der []byte) (Key, error) {
	key, err := smx509.ParseTypedECPrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("sec 1: %w", err)
	}
	return onlySM2(key)
}

func parseEncrypted(der, passphrase []byte) (Key, error) {
	key, _, err := pkcs8.ParsePrivateKey(der, passphrase)
	if err != nil {
		return nil, fmt.Errorf("wrong passphrase or damaged file: %w", err)
	}
	return onlySM2(key)
}

func onlySM2(key any) (Key, error) {
	own, ok := key.(*sm2.PrivateKey)
	if !ok {
		return nil, errors.New("holds no SM2 key")
	}
	return own, nil
}
